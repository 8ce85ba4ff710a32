import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from lraee.exits.heads import Heads, head_keys, initial_heads
from lraee.exits.score_table import COLUMNS, ScoreTable
from lraee.exits.scores import score_exits
from lraee.exits.settings import HeadSettings
from lraee.features.store import Features
from lraee.io import read_table, write_table
from lraee.models.tower import ClassEmbeddings

LAYERS, N, WIDTH, SIZE, CLASSES = [5, 7, 12], 11, 6, 4, 5


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    return Features(
        samples=np.arange(100, 100 + N), labels=rng.integers(0, CLASSES, N),
        cls=rng.normal(size=(N, 3, WIDTH)).astype(np.float32), mean=rng.normal(size=(N, 3, WIDTH)).astype(np.float32),
        sav=rng.lognormal(size=(N, 3)).astype(np.float32), final=rng.normal(size=(N, SIZE)).astype(np.float32),
    )  # fmt: skip


@pytest.fixture(scope="module")
def classes():
    rows = torch.nn.functional.normalize(torch.randn(CLASSES, SIZE, generator=torch.Generator().manual_seed(1)), dim=1)
    return ClassEmbeddings(rows=rows, bias=torch.zeros(CLASSES), scale=20.0, cosine=True)


@pytest.fixture(scope="module")
def heads():
    keys = head_keys(LAYERS, HeadSettings(aggregations=["ssa", "cls"], supervisions=["distilled", "hard"]))
    start = initial_heads(keys, WIDTH, SIZE, seed=2)
    generator = torch.Generator().manual_seed(3)
    moved = {k: v + 0.3 * torch.randn(v.shape, generator=generator) for k, v in start.parameters.items()}
    return Heads(keys, moved)


@pytest.fixture(scope="module")
def frame(features, heads, classes):
    return score_exits(features, LAYERS, heads, classes, depth=12)


def plain_logits(features, heads, classes, index):
    """One head by hand, in NumPy and float64."""
    key = heads.keys[index]
    p = {name: value.double().numpy() for name, value in heads.parameters.items()}
    x = (features.mean if key.aggregation == "ssa" else features.cls)[:, LAYERS.index(key.layer)].astype(np.float64)
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    x = x * p["norm"][0, index] + p["norm"][1, index]
    hidden = torch.nn.functional.gelu(torch.from_numpy(x @ p["w1"][index] + p["b1"][index])).numpy()
    return cosine_logits(hidden @ p["w2"][index] + p["b2"][index], classes)


def cosine_logits(embeddings, classes):
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return classes.scale * unit @ classes.rows.double().numpy().T


def check_block(block, logits):
    probabilities = softmax(logits, axis=1)
    ordered = np.sort(probabilities, axis=1)
    assert block["prediction"].tolist() == logits.argmax(1).tolist()
    assert block["confidence"].to_numpy() == pytest.approx(ordered[:, -1], abs=2e-5)
    assert block["margin"].to_numpy() == pytest.approx(ordered[:, -1] - ordered[:, -2], abs=2e-5)
    assert block["entropy"].to_numpy() == pytest.approx(entropy(probabilities, axis=1) / np.log(CLASSES), abs=2e-5)


def test_every_exit_is_scored_as_by_hand(features, heads, classes, frame):
    for index, key in enumerate(heads.keys):
        block = frame[
            (frame.layer == key.layer) & (frame.aggregation == key.aggregation) & (frame.supervision == key.supervision)
        ]
        check_block(block, plain_logits(features, heads, classes, index))
        assert block["sav"].tolist() == features.sav[:, LAYERS.index(key.layer)].tolist()


def test_the_models_own_answer_is_scored_without_a_head(features, classes, frame):
    final = frame[frame.aggregation == "final"]
    check_block(final, cosine_logits(features.final.astype(np.float64), classes))
    assert final["layer"].unique().tolist() == [12]
    assert final["supervision"].unique().tolist() == ["own"]
    assert final["sav"].isna().all()


def test_the_frame_holds_every_image_at_every_exit(frame, heads):
    assert tuple(frame.columns) == COLUMNS
    assert len(frame) == N * (len(heads.keys) + 1)


def test_an_undecided_image_has_entropy_one_and_no_margin(features, heads):
    undecided = ClassEmbeddings(torch.zeros(CLASSES, SIZE), torch.zeros(CLASSES), 1.0, cosine=True)
    frame = score_exits(features, LAYERS, heads, undecided, depth=12)
    assert frame["entropy"].to_numpy() == pytest.approx(1.0)
    assert frame["confidence"].to_numpy() == pytest.approx(1 / CLASSES)
    assert (frame["margin"] == 0).all()
    assert (frame["entropy"] <= 1.0).all()


def test_a_very_sure_image_has_no_entropy_and_no_overflow(features, heads, classes):
    sure = ClassEmbeddings(classes.rows, classes.bias, 1e5, cosine=True)
    frame = score_exits(features, LAYERS, heads, sure, depth=12)
    assert np.isfinite(frame["entropy"]).all()
    assert (frame["entropy"] >= 0.0).all()
    assert (frame["confidence"] <= 1.0).all()


def test_exits_are_found_again_after_the_table_was_stored(features, frame, tmp_path):
    write_table(tmp_path / "scores.parquet", frame)
    table = ScoreTable(read_table(tmp_path / "scores.parquet"))
    scores = table.at("cls", "hard", [12, 5])
    assert scores.layers == (12, 5)
    assert scores.samples.tolist() == features.samples.tolist()
    assert scores.labels.tolist() == features.labels.tolist()
    assert scores.prediction.shape == (N, 2)
    for column, layer in enumerate((12, 5)):
        block = frame[(frame.layer == layer) & (frame.aggregation == "cls") & (frame.supervision == "hard")]
        for name in ("prediction", "confidence", "margin", "entropy", "sav"):
            assert getattr(scores, name)[:, column].tolist() == block[name].tolist()
    final = frame[frame.aggregation == "final"]
    assert table.final_prediction.tolist() == scores.final_prediction.tolist() == final["prediction"].tolist()


def test_signals_are_stacked_in_the_order_of_their_names(frame):
    scores = ScoreTable(frame).at("ssa", "distilled", [5, 7])
    signals = scores.signals(["sav", "margin"])
    assert signals.shape == (N, 2, 2)
    assert np.array_equal(signals[..., 0], scores.sav)
    assert np.array_equal(signals[..., 1], scores.margin)


def test_a_head_that_was_not_fitted_is_not_found(frame):
    with pytest.raises(KeyError):
        ScoreTable(frame).at("ssa", "label-free", [5])


@pytest.mark.parametrize("damage", ["missing", "swapped"])
def test_exits_with_other_images_are_refused(frame, damage):
    if damage == "missing":
        damaged = frame.drop(index=3)
    else:
        damaged = frame.copy()
        damaged.loc[[0, 1], "sample"] = damaged.loc[[1, 0], "sample"].to_numpy()
    with pytest.raises(ValueError, match="every image at every exit"):
        ScoreTable(pd.DataFrame(damaged))
