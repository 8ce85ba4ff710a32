"""Scoring the exits, beside NumPy, SciPy and scikit-learn."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lraee.exits.head_plan import HeadKey
from lraee.exits.heads import Heads, initial_heads
from lraee.exits.score_table import COLUMNS, score_tables
from lraee.exits.scores import Scorer, fit_scorer, predictions, score_table
from lraee.exits.signals import PENALTIES, Probes, fit_probes
from lraee.exits.variants import BASE, Variant
from lraee.features.store import Features
from lraee.models.tower import ClassEmbeddings

DEPTH, N, WIDTH, SIZE, CLASSES = 5, 60, 6, 4, 5
KEYS = [
    HeadKey(BASE, layer, aggregation, supervision)
    for layer in (2, 4, 5)
    for aggregation in ("ssa", "cls")
    for supervision in ("distilled", "label-free")
]
GATE = np.array([3, 50, 7, *range(20, 45)])


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    return Features(
        layers=tuple(range(1, DEPTH + 1)), samples=np.arange(100, 100 + N), labels=rng.integers(0, CLASSES, N),
        cls=rng.normal(size=(N, DEPTH, WIDTH)).astype(np.float16),
        mean=rng.normal(2.0, 3.0, size=(N, DEPTH, WIDTH)).astype(np.float16),
        sav=rng.lognormal(size=(N, DEPTH)).astype(np.float32), final=rng.normal(size=(N, SIZE)).astype(np.float32),
    )  # fmt: skip


@pytest.fixture(scope="module")
def classes():
    rows = torch.nn.functional.normalize(torch.randn(CLASSES, SIZE, generator=torch.Generator().manual_seed(1)), dim=1)
    return ClassEmbeddings(rows=rows, bias=torch.zeros(CLASSES), scale=20.0, cosine=True)


@pytest.fixture(scope="module")
def heads():
    start = initial_heads(KEYS, WIDTH, SIZE, seed=2)
    generator = torch.Generator().manual_seed(3)
    moved = {k: v + 0.3 * torch.randn(v.shape, generator=generator) for k, v in start.parameters.items()}
    return Heads(KEYS, moved)


@pytest.fixture(scope="module")
def fp32_answers():
    return np.random.default_rng(9).integers(0, CLASSES, N)


@pytest.fixture(scope="module")
def scorer(features, heads, classes, fp32_answers):
    return fit_scorer(Variant(), heads, features.at(GATE), fp32_answers[GATE], classes)


@pytest.fixture(scope="module")
def frame(features, scorer):
    return scorer.score(features)


def inputs_of(key, features):
    return (features.mean if key.aggregation == "ssa" else features.cls)[:, key.layer - 1].astype(np.float32)


def plain_logits(features, heads, classes, index):
    """One head by hand, in NumPy and float64."""
    p = {name: value.double().numpy() for name, value in heads.parameters.items()}
    x = inputs_of(heads.keys[index], features).astype(np.float64)
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    x = x * p["norm"][0, index] + p["norm"][1, index]
    hidden = torch.nn.functional.gelu(torch.from_numpy(x @ p["w1"][index] + p["b1"][index])).numpy()
    return cosine_logits(hidden @ p["w2"][index] + p["b2"][index], classes)


def cosine_logits(embeddings, classes):
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return classes.scale * unit @ classes.rows.double().numpy().T


def block_of(frame, key):
    chosen = (frame.layer == key.layer) & (frame.aggregation == key.aggregation)
    return frame[chosen & (frame.supervision == key.supervision)]


def check_block(block, logits):
    probabilities = softmax(logits, axis=1)
    ordered = np.sort(probabilities, axis=1)
    assert block["prediction"].tolist() == logits.argmax(1).tolist()
    assert block["confidence"].to_numpy() == pytest.approx(ordered[:, -1], abs=2e-5)
    assert block["margin"].to_numpy() == pytest.approx(ordered[:, -1] - ordered[:, -2], abs=2e-5)
    assert block["entropy"].to_numpy() == pytest.approx(entropy(probabilities, axis=1) / np.log(CLASSES), abs=2e-5)


def test_every_exit_is_scored_as_by_hand(features, heads, classes, frame):
    for index, key in enumerate(heads.keys):
        block = block_of(frame, key)
        check_block(block, plain_logits(features, heads, classes, index))
        assert block["sample"].tolist() == features.samples.tolist()
        assert block["label"].tolist() == features.labels.tolist()
        assert block["sav"].tolist() == features.sav[:, key.layer - 1].tolist()
        squares = (features.mean[:, key.layer - 1].astype(np.float64) ** 2).sum(axis=1)
        assert block["energy"].to_numpy() == pytest.approx(squares, rel=1e-5)


def test_the_models_own_answer_is_scored_without_a_head(features, classes, frame):
    final = frame[frame.aggregation == "final"]
    check_block(final, cosine_logits(features.final.astype(np.float64), classes))
    assert final["layer"].unique().tolist() == [DEPTH]
    assert final["supervision"].unique().tolist() == ["own"]
    assert final[["sav", "energy", "certainty"]].isna().all(axis=None)


def test_the_frame_holds_every_image_at_every_exit(frame, heads):
    assert tuple(frame.columns) == COLUMNS
    assert len(frame) == N * (len(heads.keys) + 1)
    assert (frame["variant"] == BASE).all()
    assert frame[frame.aggregation != "final"].notna().all(axis=None)


def test_some_rows_are_scored_as_among_all(features, scorer, frame):
    rows = np.array([40, 2, 17])
    some = scorer.score(features.at(rows))
    assert some["sample"].tolist() == [140, 102, 117] * (len(KEYS) + 1)
    merged = some.merge(frame, on=["variant", "aggregation", "supervision", "layer", "sample"], suffixes=("", "_all"))
    assert len(merged) == len(some)
    for name in ("label", "prediction", "confidence", "certainty", "energy", "sav"):
        pd.testing.assert_series_equal(merged[name], merged[f"{name}_all"], check_names=False, rtol=1e-4, atol=1e-5)


def test_many_images_are_scored_a_few_at_a_time(features, scorer, frame, monkeypatch):
    monkeypatch.setattr("lraee.exits.scores._AT_ONCE", 25)
    few = scorer.score(features)
    assert len(few) == len(frame)
    for key in KEYS:
        own, whole = block_of(few, key), block_of(frame, key)
        assert own["sample"].tolist() == whole["sample"].tolist()
        assert own["confidence"].to_numpy() == pytest.approx(whole["confidence"].to_numpy(), abs=1e-5)


@pytest.fixture
def score_with(features, heads, scorer):
    """Score all images with other class embeddings."""
    return lambda classes: Scorer(Variant(), heads, scorer.probes, classes).score(features)


def test_an_undecided_image_has_entropy_one_and_no_margin(score_with):
    frame = score_with(ClassEmbeddings(torch.zeros(CLASSES, SIZE), torch.zeros(CLASSES), 1.0, cosine=True))
    assert frame["entropy"].to_numpy() == pytest.approx(1.0)
    assert frame["confidence"].to_numpy() == pytest.approx(1 / CLASSES)
    assert (frame["margin"] == 0).all()
    assert (frame["entropy"] <= 1.0).all()


def test_a_very_sure_image_has_no_entropy_and_no_overflow(score_with, classes):
    frame = score_with(ClassEmbeddings(classes.rows, classes.bias, 1e5, cosine=True))
    assert np.isfinite(frame["entropy"]).all()
    assert (frame["entropy"] >= 0.0).all()
    assert (frame["confidence"] <= 1.0).all()


def test_predictions_are_the_largest_logits(features, classes):
    expected = cosine_logits(features.final.astype(np.float64), classes).argmax(axis=1)
    assert predictions(torch.from_numpy(features.final), classes).tolist() == expected.tolist()


# Probes.


def pipeline():
    return make_pipeline(StandardScaler(), RidgeCV(PENALTIES))


def test_a_probe_is_scikit_learns_standardised_ridge():
    rng = np.random.default_rng(3)
    inputs = rng.normal([5.0, -2.0, 0.0], [0.1, 3.0, 40.0], size=(4, 80, 3)).astype(np.float32)
    right = rng.random((4, 80)) < 1 / (1 + np.exp(-inputs[..., 1]))
    probes = fit_probes(inputs, right)
    elsewhere = rng.normal([5.0, -2.0, 0.0], [0.1, 3.0, 40.0], size=(4, 9, 3)).astype(np.float32)
    ours = probes.certainty(torch.from_numpy(elsewhere)).numpy()
    assert probes.weights.shape == (4, 3)
    for head in range(4):
        theirs = pipeline().fit(inputs[head], right[head].astype(float)).predict(elsewhere[head])
        assert ours[head] == pytest.approx(theirs, abs=1e-4)
    assert np.ptp(ours) > 0.3


def test_a_probe_of_an_exit_that_is_always_right_says_so():
    inputs = np.random.default_rng(0).normal(size=(1, 30, 4)).astype(np.float32)
    certainty = fit_probes(inputs, np.ones((1, 30), dtype=bool)).certainty(torch.from_numpy(inputs))
    assert certainty.numpy() == pytest.approx(1.0, abs=1e-5)


def test_a_constant_input_does_not_break_a_probe():
    inputs = np.random.default_rng(0).normal(size=(1, 30, 2)).astype(np.float32)
    inputs[..., 1] = 3.0
    probes = fit_probes(inputs, inputs[..., 0] > 0)
    assert torch.isfinite(probes.certainty(torch.from_numpy(inputs))).all()
    assert probes.weights[0, 1] == pytest.approx(0.0, abs=1e-6)


def test_certainty_is_learned_on_gate_images_from_what_the_head_reads(features, frame, heads, classes, fp32_answers):
    for index, key in enumerate(heads.keys):
        answers = plain_logits(features, heads, classes, index).argmax(axis=1)
        truth = fp32_answers if key.supervision == "label-free" else features.labels
        x, right = inputs_of(key, features), (answers == truth).astype(float)
        theirs = pipeline().fit(x[GATE], right[GATE]).predict(x)
        assert block_of(frame, key)["certainty"].to_numpy() == pytest.approx(theirs, abs=2e-4)


def certainties(scorer, features):
    """Certainty by supervision."""
    frame = scorer.score(features)
    return {name: part["certainty"].to_numpy() for name, part in frame.groupby("supervision")}


def test_probes_of_label_free_heads_never_read_the_labels(features, heads, classes, fp32_answers, scorer):
    mislabelled = Features(**(vars(features) | {"labels": np.roll(features.labels, 1)}))
    other = fit_scorer(Variant(), heads, mislabelled.at(GATE), fp32_answers[GATE], classes)
    one, two = certainties(scorer, features), certainties(other, features)
    assert np.array_equal(one["label-free"], two["label-free"])
    assert not np.allclose(one["distilled"], two["distilled"], atol=1e-3)


def test_probes_of_other_heads_never_read_the_fp32_answers(features, heads, classes, fp32_answers, scorer):
    other = fit_scorer(Variant(), heads, features.at(GATE), np.roll(fp32_answers, 1)[GATE], classes)
    one, two = certainties(scorer, features), certainties(other, features)
    assert np.array_equal(one["distilled"], two["distilled"])
    assert not np.allclose(one["label-free"], two["label-free"], atol=1e-3)


# Variants.


def test_a_temperature_multiplies_the_logits_and_nothing_else(features, heads, classes, fp32_answers, frame):
    variant = Variant(name="temperature-0.25", temperature=0.25)
    own = heads.only([key._replace(variant=BASE) for key in KEYS])  # it has no heads of its own
    cooler = fit_scorer(variant, own, features.at(GATE), fp32_answers[GATE], classes).score(features)
    assert (cooler["variant"] == "temperature-0.25").all()
    for index, key in enumerate(KEYS):
        check_block(block_of(cooler, key), 0.25 * plain_logits(features, heads, classes, index))
    final = 0.25 * cosine_logits(features.final.astype(np.float64), classes)
    check_block(cooler[cooler.aggregation == "final"], final)
    same = ["aggregation", "supervision", "layer", "sample", "label", "prediction", "certainty", "sav", "energy"]
    pd.testing.assert_frame_equal(cooler[same], frame[same])
    assert (cooler["confidence"] < frame["confidence"]).all()


def test_parts_of_all_variants_make_one_table_that_can_be_taken_apart(features, heads, scorer, classes):
    second = Variant(name="seed-1", seed=1)
    moved = Heads(KEYS[:3], heads.only(KEYS[3:6]).parameters)
    few = Probes(scorer.probes.weights[:3], scorer.probes.bias[:3])
    other = Scorer(second, moved, few, classes)
    chunks = (slice(0, 25), slice(25, N))
    table = score_table([s.score(features.at(rows)) for rows in chunks for s in (scorer, other)])
    assert len(table) == N * (len(KEYS) + 1 + 3 + 1)
    assert isinstance(table["variant"].dtype, pd.CategoricalDtype)
    found = score_tables(table)
    assert list(found) == [BASE, "seed-1"]
    whole = scorer.score(features)
    for key in KEYS:
        exits = found[BASE].at(key.aggregation, key.supervision, [key.layer])
        assert exits.samples.tolist() == features.samples.tolist()
        block = block_of(whole, key)
        assert exits.prediction[:, 0].tolist() == block["prediction"].tolist()
        assert exits.confidence[:, 0] == pytest.approx(block["confidence"].to_numpy(), abs=1e-5)
    with pytest.raises(KeyError):
        found["seed-1"].at("ssa", "distilled", [5])
