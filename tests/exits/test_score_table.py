from itertools import product

import numpy as np
import pandas as pd
import pytest

from lraee.exits.score_table import COLUMNS, FINAL, KEYS, SIGNALS, score_tables
from lraee.io import read_table, write_table

N, DEPTH, CLASSES = 11, 12, 5
HEADS = [*product(("ssa", "cls"), ("distilled", "hard"), (5, 7, 12)), (*FINAL, DEPTH)]


def scores_of(variant, samples, seed):
    rng = np.random.default_rng(seed)
    labels, parts = rng.integers(0, CLASSES, len(samples)), []
    for aggregation, supervision, layer in HEADS:
        signals = {name: rng.lognormal(size=len(samples)).astype(np.float32) for name in SIGNALS}
        named = {"variant": variant, "aggregation": aggregation, "supervision": supervision, "layer": layer}
        who = {"sample": samples, "label": labels, "prediction": rng.integers(0, CLASSES, len(samples))}
        parts.append(pd.DataFrame(named | who | signals))
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


@pytest.fixture(scope="module")
def frame():
    return scores_of("base", np.arange(100, 100 + N), seed=0)


def test_the_columns_are_where_who_and_what():
    assert list(COLUMNS) == [*KEYS, "sample", "label", "prediction", *SIGNALS]
    assert len(set(COLUMNS)) == len(COLUMNS)


def test_exits_are_found_again_after_the_table_was_stored(frame, tmp_path):
    write_table(tmp_path / "scores.parquet", frame)
    (table,) = score_tables(read_table(tmp_path / "scores.parquet")).values()
    scores = table.at("cls", "hard", [12, 5])
    assert scores.layers == (12, 5)
    assert table.depth == DEPTH
    assert scores.samples.tolist() == list(range(100, 100 + N))
    assert scores.prediction.shape == (N, 2)
    for column, layer in enumerate((12, 5)):
        block = frame[(frame.layer == layer) & (frame.aggregation == "cls") & (frame.supervision == "hard")]
        assert scores.labels.tolist() == block["label"].tolist()
        for name in ("prediction", *SIGNALS):
            assert getattr(scores, name)[:, column].tolist() == block[name].tolist()
    final = frame[frame.aggregation == "final"]
    assert table.final_prediction.tolist() == scores.final_prediction.tolist() == final["prediction"].tolist()


def test_another_head_may_answer_at_full_depth(frame):
    table = score_tables(frame)["base"]
    scores = table.at("ssa", "distilled", [5, 7], final=("cls", "hard"))
    block = frame[(frame.layer == DEPTH) & (frame.aggregation == "cls") & (frame.supervision == "hard")]
    assert scores.final_prediction.tolist() == block["prediction"].tolist()
    assert scores.prediction.tolist() == table.at("ssa", "distilled", [5, 7]).prediction.tolist()
    assert table.final_prediction.tolist() == frame[frame.aggregation == "final"]["prediction"].tolist()


def test_variants_are_told_apart(frame):
    other = scores_of("seed-1", np.arange(7), seed=1)
    tables = score_tables(pd.concat([frame, other]).astype({"variant": "category"}))
    assert list(tables) == ["base", "seed-1"]
    for name, part in (("base", frame), ("seed-1", other)):
        block = part[(part.layer == 7) & (part.aggregation == "ssa") & (part.supervision == "hard")]
        assert tables[name].samples.tolist() == block["sample"].tolist()
        assert tables[name].at("ssa", "hard", [7]).certainty[:, 0].tolist() == block["certainty"].tolist()


def test_rows_of_an_exit_may_come_in_several_chunks(frame):
    first = frame[frame["sample"] < 104]
    tables = score_tables(pd.concat([first, frame[frame["sample"] >= 104]]))
    scores, expected = (t["base"].at("cls", "hard", [5]) for t in (tables, score_tables(frame)))
    assert scores.samples.tolist() == expected.samples.tolist()
    assert scores.margin.tolist() == expected.margin.tolist()


def test_signals_are_stacked_in_the_order_of_their_names(frame):
    scores = score_tables(frame)["base"].at("ssa", "distilled", [5, 7])
    signals = scores.signals(["sav", "margin"])
    assert signals.shape == (N, 2, 2)
    assert np.array_equal(signals[..., 0], scores.sav)
    assert np.array_equal(signals[..., 1], scores.margin)


def test_sav_is_normalised_by_its_logarithm_or_by_the_energy(frame):
    scores = score_tables(frame)["base"].at("ssa", "distilled", [5, 7])
    signals = scores.signals(["log-sav", "confidence", "relative-sav"])
    block = frame[(frame.layer == 7) & (frame.aggregation == "ssa") & (frame.supervision == "distilled")]
    assert signals[:, 1, 0] == pytest.approx(np.log(block["sav"].to_numpy()), rel=1e-5)
    assert signals[:, 1, 1].tolist() == block["confidence"].tolist()
    assert signals[:, 1, 2] == pytest.approx((block["sav"] / block["energy"]).to_numpy(), rel=1e-5)


def test_normalised_sav_stays_finite_where_all_patches_are_alike_or_cancel(frame):
    still = frame.assign(sav=np.float32(0.0), energy=np.float32(0.0))
    signals = score_tables(still)["base"].at("ssa", "hard", [5]).signals(["log-sav", "relative-sav"])
    assert np.isfinite(signals).all()


def test_a_head_that_was_not_fitted_is_not_found(frame):
    table = score_tables(frame)["base"]
    with pytest.raises(KeyError):
        table.at("ssa", "label-free", [5])
    with pytest.raises(KeyError):
        table.at("ssa", "hard", [5], final=("ssa", "label-free"))


@pytest.mark.parametrize("damage", ["missing", "swapped"])
def test_exits_with_other_images_are_refused(frame, damage):
    if damage == "missing":
        damaged = frame.drop(index=3)
    else:
        damaged = frame.copy()
        damaged.loc[[0, 1], "sample"] = damaged.loc[[1, 0], "sample"].to_numpy()
    with pytest.raises(ValueError, match="every image at every exit"):
        score_tables(damaged)


def test_variants_may_hold_different_images(frame):
    tables = score_tables(pd.concat([frame, scores_of("seed-1", np.arange(500, 520), seed=1)]))
    assert len(tables["seed-1"].samples) == 20
