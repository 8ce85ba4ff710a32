"""Operating points on the test split: one row a configuration, never a number without its n and its interval."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lraee.evaluation.choices import Configuration, Variation
from lraee.evaluation.fit import Fitted, Static
from lraee.exits.policies import POLICIES
from lraee.exits.routing import Outcome, outcome, route
from lraee.exits.score_table import FINAL, ScoreTable
from lraee.metrics.compute import exit_costs, full_depth_macs, static_cost
from lraee.metrics.statistics import compare, paired_mean, quadrants, wilson
from lraee.models.shape import TowerShape

Row = dict[str, Any]


@dataclass(frozen=True)
class TestBench:
    """One arm's test split: scores, sizes, and the seed of the bootstrap."""

    __test__ = False  # not a test class, whatever pytest makes of the name

    test: ScoreTable
    shape: TowerShape
    classes: int
    seed: int

    @property
    def full_correct(self) -> NDArray[np.bool_]:
        """Whether the full-depth answer is right (n,)."""
        return self.test.final_prediction == self.test.labels

    def routed(self, fitted: Fitted) -> Outcome:
        """Route the test images through a fitted configuration."""
        c = fitted.configuration
        scores = self.test.at(c.aggregation, c.supervision, c.layers)
        return outcome(scores, route(POLICIES[c.policy].readiness(scores, fitted.gates), fitted.thresholds))

    def static_correct(self, static: Static) -> NDArray[np.bool_]:
        """Whether a static exit's answer is right (n,)."""
        scores = self.test.at(static.aggregation, static.supervision, [static.layer])
        return scores.prediction[:, 0] == scores.labels


def _measures(correct: NDArray[np.bool_], full: NDArray[np.bool_], seed: int) -> Row:
    accuracy = wilson(int(correct.sum()), len(correct))
    counts = quadrants(correct, full)
    margin, p = compare(correct, full, seed)
    return {
        "n": len(correct), "correct": int(correct.sum()),
        "top1": accuracy.value, "top1_low": accuracy.low, "top1_high": accuracy.high,
        "both_right": counts.both_right, "rescue": counts.rescue, "loss": counts.loss, "both_wrong": counts.both_wrong,
        "margin": margin.value, "margin_low": margin.low, "margin_high": margin.high, "mcnemar_p": p,
    }  # fmt: skip


def _identity(study: str, policy: str, aggregation: str, supervision: str) -> Row:
    return {
        "study": study, "policy": policy, "aggregation": aggregation, "supervision": supervision, "gate_features": "",
        "layers": "", "threshold_rule": "", "thresholds": "", "budget": np.nan, "select_top1": np.nan,
        "select_saved": np.nan, "headline": False,
    }  # fmt: skip


def full_depth_row(bench: TestBench, select_top1: float) -> Row:
    """The model as it is."""
    row = _identity("full-depth", "none", *FINAL) | {"select_top1": select_top1, "select_saved": 0.0}
    spent = {"saved": 0.0, "saved_blocks": 0.0, "mean_layer": float(bench.shape.depth)}
    return row | _measures(bench.full_correct, bench.full_correct, bench.seed) | spent


def static_row(bench: TestBench, static: Static) -> Row:
    """Everybody leaves at one layer."""
    full = full_depth_macs(bench.shape, bench.classes)
    saved = 1.0 - static_cost(bench.shape, bench.classes, static.layer) / full
    row = _identity("static", "static", static.aggregation, static.supervision)
    row |= {"layers": str(static.layer), "select_top1": static.select_top1, "select_saved": saved}
    spent = {"saved": saved, "saved_blocks": 1.0 - static.layer / bench.shape.depth, "mean_layer": float(static.layer)}
    return row | _measures(bench.static_correct(static), bench.full_correct, bench.seed) | spent


def routed_row(bench: TestBench, fitted: Fitted, study: str, headline: bool = False) -> Row:
    """A fitted configuration, routed image by image."""
    c, result = fitted.configuration, bench.routed(fitted)
    policy = POLICIES[c.policy]
    ends = np.append(c.layers, bench.shape.depth)
    mean_layer = float(result.shares @ ends)
    row = _identity(study, c.policy, c.aggregation, c.supervision) | {
        "gate_features": "+".join(c.gate_features) if policy.gated else "",
        "layers": ",".join(map(str, c.layers)),
        "threshold_rule": c.threshold_rule,
        "thresholds": json.dumps([str(t) if np.isinf(t) else round(t, 4) for t in fitted.thresholds]),
        "budget": c.budget,
        "select_top1": fitted.select_top1,
        "select_saved": fitted.select_saved,
        "headline": headline,
    }
    costs = exit_costs(bench.shape, bench.classes, c.layers, policy.gated)
    spent = {
        "saved": costs.saved(result.shares),
        "saved_blocks": 1.0 - mean_layer / bench.shape.depth,
        "mean_layer": mean_layer,
    }
    return row | _measures(result.correct, result.full_correct, bench.seed) | spent


def exit_rows(bench: TestBench, result: Outcome) -> list[Row]:
    """Who leaves where, how often they are right there, and how often they would have been right at full depth."""
    rows = []
    for place, layer in enumerate([*result.layers, bench.shape.depth]):
        here = result.place == place
        n = int(here.sum())
        rows.append(
            {
                "layer": layer, "n": n, "share": n / len(here),
                "accuracy_exit": float(result.correct[here].mean()) if n else np.nan,
                "accuracy_full": float(result.full_correct[here].mean()) if n else np.nan,
            }
        )  # fmt: skip
    return rows


ABLATION_COLUMNS = [
    "axis", "setting", "is_base", "point", "n", "top1", "top1_low", "top1_high", "saved",
    "difference", "difference_low", "difference_high", "mcnemar_p",
]  # fmt: skip


def ablation_rows(
    bench: TestBench,
    variations: Sequence[Variation],
    fitted: Mapping[Configuration, Fitted],
    points: Mapping[Configuration, str],
) -> list[Row]:
    """Each variation's accuracy and its paired difference to the base, which is the first row of its axis.

    Variations whose budget no thresholds met are not in `fitted` and have no row.
    """
    rows: list[Row] = []
    base: dict[str, NDArray[np.bool_]] = {}
    for axis, setting, configuration in ((v.axis, v.setting, v.configuration) for v in variations):
        if configuration not in fitted:
            continue
        measured = routed_row(bench, fitted[configuration], "ablation")
        correct = bench.routed(fitted[configuration]).correct
        is_base = axis not in base
        base.setdefault(axis, correct)
        row = {"axis": axis, "setting": setting, "is_base": is_base, "point": points[configuration]}
        row |= {name: measured[name] for name in ("n", "top1", "top1_low", "top1_high", "saved")}
        rows.append(row | (_NO_DIFFERENCE if is_base else _difference(correct, base[axis], bench.seed)))
    return rows


_NO_DIFFERENCE: Row = {"difference": 0.0, "difference_low": np.nan, "difference_high": np.nan, "mcnemar_p": np.nan}


def _difference(first: NDArray[np.bool_], second: NDArray[np.bool_], seed: int) -> Row:
    difference, p = compare(first, second, seed)
    return {
        "difference": difference.value, "difference_low": difference.low, "difference_high": difference.high,
        "mcnemar_p": p,
    }  # fmt: skip


def mark_frontier(points: pd.DataFrame) -> pd.Series:
    """Pareto-optimal points by accuracy and compute saved on the `select` split: never by test results.

    Ablations take no part. A point is kept unless another is at least as good in both and better in one.
    """
    eligible = points["study"].isin(["full-depth", "static", "frontier"])
    accuracy, saved = points["select_top1"].to_numpy(), points["select_saved"].to_numpy()
    better = (accuracy[None] >= accuracy[:, None]) & (saved[None] >= saved[:, None])
    better &= (accuracy[None] > accuracy[:, None]) | (saved[None] > saved[:, None])
    dominated = (better & eligible.to_numpy()[None]).any(axis=1)
    return eligible & pd.Series(~dominated, index=points.index)


def attribution_row(arm: TestBench, fp32: TestBench, fitted: Fitted, fp32_fitted: Fitted, refit: Static) -> Row:
    """How much of the headline's rescue margin quantization explains: the arm's margin minus the FP32 control's.

    `refit` is the best head refitted at full depth on the arm's features, chosen on `select`.
    """
    routed, control = arm.routed(fitted), fp32.routed(fp32_fitted)
    ours = routed.correct.astype(np.int64) - routed.full_correct
    theirs = control.correct.astype(np.int64) - control.full_correct
    refitted = arm.static_correct(refit)
    row: Row = {"n": len(ours)}
    for prefix, interval in (
        ("margin", paired_mean(ours, arm.seed)),
        ("fp32_margin", paired_mean(theirs, arm.seed)),
        ("attributable", paired_mean(ours - theirs, arm.seed)),
        ("routed_minus_refit", compare(routed.correct, refitted, arm.seed)[0]),
    ):
        row |= {prefix: interval.value, f"{prefix}_low": interval.low, f"{prefix}_high": interval.high}
    label = f"{refit.aggregation} {refit.supervision}"
    return row | {"best_full_depth_refit": float(refitted.mean()), "best_full_depth_refit_label": label}


def quantizer_row(arm: TestBench, fp32: TestBench) -> Row:
    """Full depth under a quantizer against full depth in FP32, with no exit at all: cost and churn."""
    accuracy = wilson(int(arm.full_correct.sum()), len(arm.full_correct))
    counts = quadrants(arm.full_correct, fp32.full_correct)
    return {
        "n": len(arm.full_correct), "top1": accuracy.value, "top1_low": accuracy.low, "top1_high": accuracy.high,
        "agreement": float((arm.test.final_prediction == fp32.test.final_prediction).mean()),
        "churn_rescue": counts.rescue, "churn_loss": counts.loss,
        **_difference(arm.full_correct, fp32.full_correct, arm.seed),
    }  # fmt: skip
