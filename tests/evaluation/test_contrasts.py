"""What compares arms, heads, seeds, classes and quantizers."""

import math
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from lraee.evaluation.bench import TestBench
from lraee.evaluation.contrasts import (
    attribution_row,
    class_rows,
    control_rows,
    over_seeds,
    refit_row,
    rival_rows,
    seed_row,
    seed_spread,
    static_row,
)
from lraee.evaluation.fit import Static
from lraee.metrics.statistics import mcnemar_p, wilson
from tests import examples
from tests.evaluation.tables import (
    BLOCK,
    CLASSES,
    FULL,
    HEAD,
    PRODUCTS,
    SHAPE,
    STEM,
    UNQUANTIZED,
    hand_bench,
    hand_fitted,
    hand_table,
    point_of,
)

INF = np.inf
SSA8, SSA12, CLS12 = ("ssa", "distilled", 8), ("ssa", "distilled", 12), ("cls", "hard", 12)
EVERYBODY, NOBODY = hand_fitted([8], [-INF]), hand_fitted([8], [INF])
REFIT = Static(layer=12, aggregation="cls", supervision="hard", select_top1=0.5)
LABELS = [0, 1, 2, 3]


@pytest.fixture
def arm():
    """Leaving rescues two (1, 2) and loses none; the refitted head is right on 0, 1 and 3."""
    return hand_bench(LABELS, [0, 0, 0, 0], {SSA8: [0, 1, 2, 0], CLS12: [0, 1, 0, 3]})


@pytest.fixture
def control():
    """Leaving rescues one (1) and loses two (2, 3)."""
    return hand_bench(LABELS, [0, 0, 2, 3], {SSA8: [0, 1, 0, 0], CLS12: LABELS})


def test_attribution_worked_by_hand(arm, control):
    row = attribution_row(arm, control, EVERYBODY, EVERYBODY)
    assert row["n"] == 4
    assert row["margin"] == pytest.approx(2 / 4)
    assert row["fp32_margin"] == pytest.approx(-1 / 4)
    # Image by image: 0, 1 - 1, 1 + 1, 0 + 1.
    assert row["attributable"] == pytest.approx(3 / 4)
    assert row["attributable_low"] == 0.0
    assert row["attributable_high"] == pytest.approx(1.5, abs=0.01)
    assert row["saved"] == row["fp32_saved"] == pytest.approx(1 - (STEM + 8 * BLOCK + HEAD + PRODUCTS) / FULL)
    other = attribution_row(arm, control, EVERYBODY, NOBODY)
    assert other["fp32_saved"] == pytest.approx(-(HEAD + PRODUCTS) / FULL)
    assert (other["fp32_margin"], other["attributable"]) == pytest.approx((0.0, 2 / 4))


def test_a_refitted_head_against_exits_worked_by_hand(arm):
    on_top = hand_fitted([8], [INF], final=("cls", "hard"))  # nobody leaves: the refitted head answers all
    row = refit_row(arm, REFIT, EVERYBODY, NOBODY, on_top)
    assert row["best_full_depth_refit_label"] == "cls hard"
    assert tuple(row[f"best_full_depth_refit{end}"] for end in ("", "_low", "_high")) == wilson(3, 4)
    assert row["routed_minus_refit"] == pytest.approx(0.0)  # rescued 2, lost 3
    assert (row["routed_minus_refit_low"], row["routed_minus_refit_high"]) == pytest.approx((-0.75, 0.75))
    assert row["best_minus_refit"] == pytest.approx(1 / 4 - 3 / 4)
    assert (row["on_refit_top1"], row["on_refit_top1_low"], row["on_refit_top1_high"]) == wilson(3, 4)
    assert (row["on_refit_minus_refit"], row["on_refit_minus_refit_low"]) == (0.0, 0.0)
    assert row["on_refit_minus_full"] == pytest.approx(3 / 4 - 1 / 4)
    # An exit met by all in vain, and a head like an exit's instead of the own one (128 MACs) at the end.
    assert row["on_refit_saved"] == pytest.approx(-(HEAD + PRODUCTS + HEAD - 128) / FULL)


def test_without_routing_on_the_refitted_head_its_columns_are_missing(arm):
    with_, without = (refit_row(arm, REFIT, EVERYBODY, EVERYBODY, one) for one in (EVERYBODY, None))
    assert with_.keys() == without.keys()
    missing = {name for name, value in without.items() if not isinstance(value, str) and math.isnan(value)}
    assert missing == {name for name in without if name.startswith("on_refit")}
    assert len(missing) == 10


def test_attribution_of_a_whole_run(evaluated, points):
    row, spread = evaluated["attribution"].iloc[0], evaluated["seed_spread"].set_index("measure")
    headline = points[points.headline].set_index("precision")
    assert (row.quantizer, row.seeds) == ("w4a4", 3)
    for measure in ("margin", "fp32_margin", "attributable"):
        given = (row[measure], row[f"{measure}_low"], row[f"{measure}_high"])
        assert given == pytest.approx(spread.loc[measure, ["mean", "mean_low", "mean_high"]].tolist())
    assert row.attributable == pytest.approx(row.margin - row.fp32_margin)
    assert (row.saved, row.fp32_saved) == pytest.approx((headline.loc["w4a4", "saved"], headline.loc["fp32", "saved"]))


def test_margins_are_means_over_seeds_where_there_are_several():
    spreads = [
        {"measure": measure, "seeds": 2, "mean": mean, "mean_low": mean - 1, "mean_high": mean + 1}
        for measure, mean in (("top1", 9.0), ("margin", 1.0), ("fp32_margin", 2.0), ("attributable", 3.0))
    ]
    row = over_seeds(spreads)
    assert row == {
        "seeds": 2, "margin": 1.0, "margin_low": 0.0, "margin_high": 2.0, "fp32_margin": 2.0, "fp32_margin_low": 1.0,
        "fp32_margin_high": 3.0, "attributable": 3.0, "attributable_low": 2.0, "attributable_high": 4.0,
    }  # fmt: skip
    assert over_seeds([{**spread, "seeds": 1} for spread in spreads]) == {"seeds": 1}


def test_routing_against_one_static_exit_worked_by_hand(arm):
    """Everybody routed is right on 0, 1 and 2; the static head on 0, 1 and 3."""
    row = static_row(arm, REFIT, EVERYBODY)
    assert row["best_static_label"] == "layer 12, cls hard"
    assert row["best_static"] == 0.75
    assert row["routed_minus_static"] == 0.0
    assert (row["routed_minus_static_low"], row["routed_minus_static_high"]) == (-0.75, 0.75)
    assert static_row(arm, REFIT, NOBODY)["routed_minus_static"] == -0.5


def test_the_best_refit_and_the_best_points_are_chosen_on_select(evaluated, points):
    row = evaluated["attribution"].iloc[0]
    ours = points[points.precision == "w4a4"]
    refits = ours[(ours.study == "static") & (ours.layers == "12")]
    best = refits.loc[refits.select_top1.idxmax()]
    headline = ours[ours.headline].iloc[0]
    assert row.best_full_depth_refit_label == f"{best.aggregation} {best.supervision}"
    assert row.best_full_depth_refit == best.top1
    assert row.routed_minus_refit == pytest.approx(headline.top1 - best.top1)
    for name, study, top1 in (("best_point", "frontier", None), ("best_on_refit_point", "on-refit", "on_refit_top1")):
        allowed = ours[(ours.study == study) & (ours.budget >= headline.budget)]
        chosen = allowed[allowed.point == row[name]].iloc[0]
        assert chosen.select_top1 == allowed.select_top1.max()
        minus = row.best_minus_refit if top1 is None else row.on_refit_minus_refit
        assert minus == pytest.approx(chosen.top1 - best.top1)
        if top1:
            assert row[top1] == chosen.top1
            assert row.on_refit_saved == pytest.approx(chosen.saved)
            assert row.on_refit_minus_full == pytest.approx(chosen.margin)
            assert chosen.full_depth_head == row.best_full_depth_refit_label


# Classes.


def test_classes_worked_by_hand():
    labels = [0, 0, 0, 1, 1, 3]
    arm = hand_bench(labels, [0, 4, 4, 1, 1, 4], {SSA8: [4, 0, 0, 1, 4, 3]})
    control = hand_bench(labels, [0, 0, 0, 1, 1, 4], {SSA8: [0, 0, 4, 1, 1, 3]})
    rows = class_rows(arm, control, EVERYBODY, EVERYBODY, ["a", "b", "c", "d"])
    assert [(r["name"], r["label"], r["n"]) for r in rows] == [("a", 0, 3), ("b", 1, 2), ("d", 3, 1)]
    assert [(r["rescue"], r["loss"]) for r in rows] == [(2, 1), (0, 1), (1, 0)]
    assert [r["full_top1"] for r in rows] == pytest.approx([1 / 3, 1.0, 0.0])
    assert [r["top1"] for r in rows] == pytest.approx([2 / 3, 1 / 2, 1.0])
    assert [r["margin"] for r in rows] == pytest.approx([1 / 3, -1 / 2, 1.0])
    assert [r["fp32_margin"] for r in rows] == pytest.approx([-1 / 3, 0.0, 1.0])
    assert [r["mcnemar_p"] for r in rows] == [mcnemar_p(2, 1), mcnemar_p(0, 1), mcnemar_p(1, 0)]


def test_classes_sum_to_the_whole_and_are_corrected_together(evaluated, points, class_names):
    rows = evaluated["classes"]
    headline = points[(points.precision == "w4a4") & points.headline].iloc[0]
    control = points[(points.precision == "fp32") & points.headline].iloc[0]
    assert rows["name"].tolist() == class_names
    assert rows.label.tolist() == list(range(CLASSES))
    assert (rows.n.sum(), rows.rescue.sum(), rows.loss.sum()) == (170, headline.rescue, headline["loss"])
    for name, whole in (("margin", headline.margin), ("fp32_margin", control.margin), ("top1", headline.top1)):
        assert (rows[name] * rows.n).sum() / 170 == pytest.approx(whole)
    assert ((rows.top1 - rows.full_top1) - rows.margin).abs().max() < 1e-12
    theirs = [mcnemar_p(r.rescue, r.loss) for r in rows.astype({"rescue": int, "loss": int}).itertuples()]
    assert rows.mcnemar_p.tolist() == theirs
    assert rows.mcnemar_p_holm.tolist() == pytest.approx(multipletests(theirs, method="holm")[1].tolist())


@given(st.integers(0, 10_000))
@settings(max_examples=examples(6))
def test_classes_always_sum_to_the_whole(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, 60)
    arm, control = (hand_bench(labels, rng.integers(0, 3, 60), {SSA8: rng.integers(0, 3, 60)}) for _ in range(2))
    rows = pd.DataFrame(class_rows(arm, control, EVERYBODY, EVERYBODY, list("abcde")))
    whole = attribution_row(arm, control, EVERYBODY, EVERYBODY)
    assert rows.n.sum() == 60
    assert (rows.rescue.sum() - rows.loss.sum()) / 60 == pytest.approx(whole["margin"])
    assert (rows.fp32_margin * rows.n).sum() / 60 == pytest.approx(whole["fp32_margin"])


# Seeds.


def test_a_seed_worked_by_hand(control):
    base = hand_table(LABELS, [0, 0, 0, 0], {SSA8: LABELS, CLS12: LABELS})
    seeded = hand_table(LABELS, [0, 0, 0, 0], {SSA8: [0, 1, 2, 0], CLS12: [0, 1, 0, 3]}, variant="seed-1")
    arm = TestBench({"base": base, "seed-1": seeded}, SHAPE, CLASSES, UNQUANTIZED, 0)
    own, refit = hand_fitted([8], [-INF], variant="seed-1"), REFIT.model_copy(update={"variant": "seed-1"})
    row, per_image = seed_row(arm, control, own, EVERYBODY, refit)
    assert {name: values.tolist() for name, values in per_image.items()} == {
        "top1": [1, 1, 1, 0], "margin": [0, 1, 1, 0], "fp32_margin": [0, 1, -1, -1], "attributable": [0, 0, 2, 1],
        "refit": [1, 1, 0, 1], "routed_minus_refit": [0, 0, 1, -1],
    }  # fmt: skip
    for measure, values in per_image.items():
        assert row[measure] == pytest.approx(values.mean())
        assert row[f"{measure}_low"] <= row[measure] <= row[f"{measure}_high"]
    assert (row["top1"], row["top1_low"], row["top1_high"]) == wilson(3, 4)
    assert (row["refit"], row["refit_low"], row["refit_high"]) == wilson(3, 4)
    assert row["saved"] == pytest.approx(1 - (STEM + 8 * BLOCK + HEAD + PRODUCTS) / FULL)


def test_spread_over_seeds_worked_by_hand():
    seeds = [{"margin": np.array(values)} for values in ([1, 0, 0, -1], [1, 1, 0, 0], [1, 1, 1, 0])]
    (row,) = seed_spread(seeds, seed=0)
    # Means 0, 2/4 and 3/4.
    assert (row["measure"], row["seeds"], row["minimum"], row["maximum"]) == ("margin", 3, 0.0, 0.75)
    assert row["mean"] == pytest.approx(5 / 12)
    deviations = [0 - 5 / 12, 1 / 2 - 5 / 12, 3 / 4 - 5 / 12]
    assert row["sd"] == pytest.approx(math.sqrt(sum(d**2 for d in deviations) / 2))
    # Resampling four images of the first seed: the variance of one, 1/2, over 4.
    assert row["sampling_sd"] == pytest.approx(math.sqrt(0.5 / 4), rel=0.03)
    assert row["mean_low"] < row["mean"] < row["mean_high"]


def test_the_interval_over_seeds_has_two_sources_of_variance_worked_by_hand():
    values = np.random.default_rng(0).choice([-1, 0, 1], size=(4, 500), p=[0.1, 0.7, 0.2])
    (row,) = seed_spread([{"margin": of_seed} for of_seed in values], seed=0)
    between = np.var(values.mean(axis=1), ddof=1) / 4
    images = np.var(values.mean(axis=0), ddof=1) / 500
    freedom = (between + images) ** 2 / (between**2 / 3 + images**2 / 499)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(between + images)
    assert (row["mean_low"], row["mean_high"]) == pytest.approx((row["mean"] - half, row["mean"] + half))


def test_one_seed_has_no_spread_over_seeds_and_the_interval_of_its_images():
    values = np.array([1, 0, 0, -1, 1, 1])
    (row,) = seed_spread([{"margin": values}], seed=0)
    assert row["seeds"] == 1
    assert np.isnan(row["sd"])
    low, high = stats.t.interval(0.95, 5, loc=values.mean(), scale=stats.sem(values))
    assert (row["mean_low"], row["mean_high"]) == pytest.approx((low, high))


def test_seeds_of_a_whole_run(evaluated, points, fitted, tables):
    seeds, spread = evaluated["seeds"], evaluated["seed_spread"].set_index("measure")
    headline = points[(points.precision == "w4a4") & points.headline].iloc[0]
    assert seeds.seed.tolist() == [0, 1, 2]
    assert seeds.loc[0, ["top1", "margin", "saved"]].tolist() == pytest.approx(
        headline[["top1", "margin", "saved"]].tolist()
    )
    assert (seeds.attributable - (seeds.margin - seeds.fp32_margin)).abs().max() < 1e-12
    assert (seeds.routed_minus_refit - (seeds.top1 - seeds.refit)).abs().max() < 1e-12
    assert list(spread.index) == ["top1", "margin", "fp32_margin", "attributable", "refit", "routed_minus_refit"]
    for measure, row in spread.iterrows():
        assert row["mean"] == pytest.approx(seeds[measure].mean())
        assert row["sd"] == pytest.approx(seeds[measure].std())
        assert (row["minimum"], row["maximum"]) == (seeds[measure].min(), seeds[measure].max())
        half = (seeds.loc[0, f"{measure}_high"] - seeds.loc[0, f"{measure}_low"]) / 2
        assert row["sampling_sd"] == pytest.approx(half / 1.96, rel=0.15)
    refit = fitted.arms[0].refits[2]
    table = tables["test"]["seed-2"]
    right = table.at(refit.aggregation, refit.supervision, [12]).prediction[:, 0] == table.labels
    assert seeds.loc[2, "refit"] == pytest.approx(right.mean())


def test_the_best_point_is_named_as_in_the_table(evaluated, fitted, points):
    row = evaluated["attribution"].iloc[0]
    arm = fitted.arms[0]
    best = max((one for one in [arm.headline, *arm.grid] if one.configuration.budget >= 0.05),
               key=lambda one: one.select_top1)  # fmt: skip
    assert point_of(points, best, "w4a4").point == row.best_point


# Controls.

BITS = pd.DataFrame(
    {"quantizer": ["fp32", "w8", "w4"], "weight_bits": [32, 8, 4], "activation_bits": [32, 8, 6], "top1": 0.0}
)
RIGHT = {"fp32": [1, 1, 1, 0], "w8": [1, 1, 0, 0], "w4": [0, 0, 0, 0]}
ROUTED = {"fp32": [np.nan] * 4, "w8": [1.0, 1.0, 1.0, 1.0], "w4": [0.0, 1.0, 0.0, 1.0]}


def answers(samples=(5, 6, 7, 8)):
    parts = [
        pd.DataFrame({"quantizer": q, "sample": samples, "full": np.array(RIGHT[q], dtype=bool), "routed": ROUTED[q]})
        for q in ("w8", "fp32", "w4")
    ]
    return pd.concat(parts, ignore_index=True)


def test_controls_worked_by_hand():
    table = control_rows(answers(), BITS, seed=0).set_index(["quantizer", "other"])
    assert list(table.index) == [(q, other) for q in ("w8", "w4") for other in ("fp32", "w8", "w4")]
    assert (table["n"] == 4).all()
    assert table["top1"].tolist() == [1.0] * 3 + [0.5] * 3
    assert table["other_top1"].tolist() == [0.75, 0.5, 0.0] * 2
    assert table["difference"].tolist() == pytest.approx([0.25, 0.5, 1.0, -0.25, 0.0, 0.5])
    assert table.loc[("w4", "fp32"), "mcnemar_p"] == mcnemar_p(1, 2)
    bits = ["weight_bits", "activation_bits", "other_weight_bits", "other_activation_bits"]
    assert table.loc[("w4", "w8"), bits].tolist() == [4, 6, 8, 8]
    p = table["mcnemar_p"].to_numpy()
    assert table["mcnemar_p_holm"].tolist() == pytest.approx(multipletests(p, method="holm")[1].tolist())


def test_the_order_of_the_images_does_not_matter():
    shuffled = answers().sample(frac=1.0, random_state=1)
    pd.testing.assert_frame_equal(control_rows(shuffled, BITS, 0), control_rows(answers(), BITS, 0))


@pytest.mark.parametrize("damage", ["fewer", "others", "full depth alone"])
def test_quantizers_that_answered_different_images_are_refused(damage):
    frame = answers()
    if damage == "fewer":
        frame = frame.drop(index=frame.index[-1])
    elif damage == "others":
        frame.loc[frame.index[-1], "sample"] = 99
    else:
        frame = frame.drop(index=frame[frame["quantizer"] == "fp32"].index[-1])
    with pytest.raises(ValueError, match="different images of the test split"):
        control_rows(frame, BITS, seed=0)


RIVALS = pd.DataFrame(
    {
        "quantizer": ["fp32", "a4", "b4", "c4", "w8"],
        "weight_bits": [32.0, 4.0, 4.0, 4.4, 8.0], "activation_bits": [32.0, 4.0, 4.0, 4.4, 8.0],
    }
)  # fmt: skip


def rival_answers(**right):
    """A frame of answers: by model, whether each image is right at full depth, and the opposite when routed."""
    frames = [
        pd.DataFrame({"quantizer": name, "sample": range(len(full)), "full": np.array(full, bool),
                      "routed": np.nan if name == "fp32" else 1.0 - np.array(full, float)})
        for name, full in right.items()
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def test_rivals_worked_by_hand():
    answers = rival_answers(
        fp32=[1, 1, 1, 1, 1], a4=[1, 1, 1, 0, 0], b4=[0, 0, 0, 0, 1], c4=[1, 1, 1, 0, 0], w8=[1, 1, 1, 1, 0]
    )
    rows = rival_rows(answers, RIVALS, seed=0)
    full = rows[~rows["exits"].astype(bool)].set_index(["quantizer", "other"])
    # Mean bits within half a bit are equal; eight bits stand alone, and so does FP32.
    assert set(full.index) == set(permutations(["a4", "b4", "c4"], 2))
    assert full.loc[("a4", "b4"), "difference"] == pytest.approx(0.4)
    assert full.loc[("b4", "a4"), "difference"] == pytest.approx(-0.4)
    assert full.loc[("a4", "b4"), "mcnemar_p"] == pytest.approx(stats.binomtest(3, 4).pvalue)
    assert full.loc[("a4", "c4"), ["difference", "mcnemar_p"]].tolist() == [0.0, 1.0]
    routed = rows[rows["exits"].astype(bool)].set_index(["quantizer", "other"])
    assert routed.loc[("a4", "b4"), "difference"] == pytest.approx(-0.4)


def test_a_pair_of_rivals_counts_once_in_holms_family():
    answers = rival_answers(a4=[1] * 9 + [0], b4=[0] * 10, c4=[1] * 9 + [0])
    rows = rival_rows(answers, RIVALS[RIVALS["quantizer"].isin(["a4", "b4", "c4"])], seed=0)
    once = rows[rows["quantizer"] < rows["other"]]
    assert len(rows) == 2 * len(once) == 12
    expected = dict(zip(zip(once["quantizer"], once["other"], once["exits"], strict=True),
                        multipletests(once["mcnemar_p"], method="holm")[1], strict=True))  # fmt: skip
    for row in rows.itertuples():
        assert row.mcnemar_p_holm == expected[(*sorted((row.quantizer, row.other)), row.exits)]


def test_quantizers_without_rivals_make_an_empty_table():
    answers = rival_answers(a4=[1, 0], w8=[1, 1])
    rows = rival_rows(answers, RIVALS[RIVALS["quantizer"].isin(["a4", "w8"])], seed=0)
    assert rows.empty
    assert "mcnemar_p_holm" in rows
