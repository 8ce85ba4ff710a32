"""Operating points on the test split: one row a configuration, never a number without its n and its interval."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lraee.evaluation.bench import Row, TestBench, accuracy, difference, measures, signed, spent, spread
from lraee.evaluation.choices import Configuration, Variation
from lraee.evaluation.fit import Fitted, Static
from lraee.exits.policies import POLICIES
from lraee.exits.routing import Outcome, oracle_place, outcome, random_place
from lraee.exits.score_table import FINAL
from lraee.metrics.compute import Components, ExitCosts, exit_costs, static_costs
from lraee.metrics.statistics import Interval, paired_mean

DEPLOYABLE = ("full-depth", "static", "frontier", "risk", "on-refit")
"""Studies that a user could choose from; ablations spoil one thing, and bounds are no policies."""

BOUNDS = ("oracle", "random")


def _identity(study: str, policy: str, aggregation: str, supervision: str) -> Row:
    return {
        "study": study, "policy": policy, "aggregation": aggregation, "supervision": supervision,
        "full_depth_head": "own", "gate_features": "", "layers": "", "threshold_rule": "", "thresholds": "",
        "budget": np.nan, "risk": np.nan, "inr_exponent": 0.0, "select_top1": np.nan, "select_saved": np.nan,
        "headline": False,
    }  # fmt: skip


def full_depth_row(bench: TestBench, select_top1: float) -> Row:
    """The model as it is."""
    row = _identity("full-depth", "none", *FINAL) | {"select_top1": select_top1, "select_saved": 0.0}
    macs, bops = (exit_costs(parts, []) for parts in bench.parts())
    nowhere_else = np.zeros(len(bench.labels), dtype=np.int64)
    return (
        row | measures(bench, bench.full_answer) | spent(nowhere_else, macs, bops, bench.shape.depth, bench.seed)
    )  # fmt: skip


def static_row(bench: TestBench, static: Static) -> Row:
    """Everybody leaves at one layer."""
    macs, bops = (static_costs(parts, static.layer) for parts in bench.parts())
    row = _identity("static", "static", static.aggregation, static.supervision)
    row |= {
        "layers": str(static.layer),
        "select_top1": static.select_top1,
        "select_saved": float(1.0 - macs.leaving[0] / macs.full),
    }
    everybody = np.zeros(len(bench.labels), dtype=np.int64)
    answer = bench.static_answer(static)
    return row | measures(bench, answer) | spent(everybody, macs, bops, bench.shape.depth, bench.seed)


def _described(fitted: Fitted) -> Row:
    c = fitted.configuration
    return {
        "full_depth_head": "own" if c.final == FINAL else " ".join(c.final),
        "gate_features": "+".join(c.gate_features) if POLICIES[c.policy].gated else "",
        "layers": ",".join(map(str, c.layers)),
        "threshold_rule": c.threshold_rule,
        "thresholds": json.dumps([str(t) if np.isinf(t) else round(t, 4) for t in fitted.thresholds]),
        "budget": np.nan if c.risk is not None else c.budget,
        "risk": np.nan if c.risk is None else c.risk,
        "inr_exponent": c.inr_exponent,
        "select_top1": fitted.select_top1,
        "select_saved": fitted.select_saved,
    }


def routed_row(bench: TestBench, fitted: Fitted, study: str, headline: bool = False) -> Row:
    """A fitted configuration, routed image by image."""
    c, result = fitted.configuration, bench.routed(fitted)
    row = _identity(study, c.policy, c.aggregation, c.supervision) | _described(fitted) | {"headline": headline}
    used = spent(result.place, *bench.costs(c), bench.shape.depth, bench.seed)
    return row | measures(bench, result.answer) | used


def bound_rows(bench: TestBench, headline: Fitted) -> list[Row]:
    """The headline's exits under the oracle (upper bound) and with its exit shares dealt at random (lower bound).

    Random has the headline's compute; the oracle, which needs no gate, is spared that of the gates.
    """
    c, scores = headline.configuration, bench.scores(headline.configuration)
    free = tuple(exit_costs(parts, c.layers) for parts in bench.parts())
    dealt = random_place(bench.routed(headline).place, bench.seed)
    rows = []
    for policy, place, costs in zip(BOUNDS, (oracle_place(scores), dealt), (free, bench.costs(c)), strict=True):
        row = _identity("bound", policy, c.aggregation, c.supervision) | {"layers": ",".join(map(str, c.layers))}
        used = spent(place, costs[0], costs[1], bench.shape.depth, bench.seed)
        rows.append(row | measures(bench, outcome(scores, place).answer) | used)
    return rows


def _auroc(readiness: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """How well readiness tells right from wrong: the area under the ROC curve; NaN where all are alike."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(right, readiness)) if 0 < right.sum() < len(right) else float("nan")


def exit_rows(bench: TestBench, fitted: Fitted, result: Outcome) -> list[Row]:
    """Who leaves where, how often they are right there, and how often they would have been right at full depth.

    `auroc` is of the readiness at an exit for "this exit is right", over all test images.
    """
    readiness, scores = bench.readiness(fitted), bench.scores(fitted.configuration)
    rows = []
    for place, layer in enumerate([*result.layers, bench.shape.depth]):
        here, is_exit = result.place == place, place < len(result.layers)
        right = scores.prediction[:, place] == scores.labels if is_exit else result.full_correct
        rows.append(
            {
                "layer": layer, "n": int(here.sum()), "share": float(here.mean()),
                **accuracy("accuracy_exit", result.correct[here]),
                **accuracy("accuracy_full", result.full_correct[here]),
                "auroc": _auroc(readiness[:, place], right) if is_exit else np.nan,
            }
        )  # fmt: skip
    return rows


def early_row(bench: TestBench, result: Outcome) -> Row:
    """All that left early: right at the exit, and the same images forced to full depth; and the rest at full depth."""
    early = result.place < len(result.layers)
    return {
        "n": len(early), "n_early": int(early.sum()), "share": float(early.mean()),
        **accuracy("accuracy_exit", result.correct[early]), **accuracy("accuracy_full", result.full_correct[early]),
        **difference(result.correct[early], result.full_correct[early], bench.seed),
        "n_rest": int((~early).sum()), **accuracy("accuracy_rest", result.correct[~early]),
    }  # fmt: skip


def cost_rows(bench: TestBench, fitted: Fitted, result: Outcome) -> list[Row]:
    """Where the compute of the model as it is, and of the routed one, goes: MACs and BOPs an image, by component."""
    exits = len(result.layers)
    met = float(result.shares @ np.append(np.arange(1, exits + 1), exits))
    macs, bops = (
        _by_component(parts, costs, result.shares, met)
        for parts, costs in zip(bench.parts(fitted.configuration), bench.costs(fitted.configuration), strict=True)
    )
    return [
        {
            "component": component,
            "macs_full": full, "macs_routed": routed,
            "bops_full": bops[component][0], "bops_routed": bops[component][1],
            "counted_by_paper": component == "blocks",
        }
        for component, (full, routed) in macs.items()
    ]  # fmt: skip


def _by_component(
    parts: Components, costs: ExitCosts, shares: NDArray[np.float64], met: float
) -> dict[str, tuple[float, float]]:
    """What an image costs at full depth and when routed; `shares` leave at each place and meet `met` exits."""
    at_end = float(shares[-1])
    return {
        "patch embedding": (parts.stem, parts.stem),
        "blocks": (costs.full_blocks, float(shares @ costs.blocks)),
        "exit heads": (0.0, met * parts.exit_head),
        "gates": (0.0, met * parts.gate),
        "class products at exits": (0.0, met * parts.class_products),
        "own head": (parts.own_head, at_end * parts.own_head),
        "class products at full depth": (parts.class_products, at_end * parts.class_products),
    }


_NO_DIFFERENCE: Row = {"difference": 0.0, "difference_low": np.nan, "difference_high": np.nan, "mcnemar_p": np.nan}


def ablation_rows(
    bench: TestBench,
    variations: Sequence[Variation],
    fitted: Mapping[Configuration, Fitted],
    points: pd.DataFrame,
    names: Mapping[Configuration, str],
) -> list[Row]:
    """Each variation's point, and its paired difference to the base, which is the first row of its axis.

    Variations whose budget no thresholds met are not in `fitted` and have no row.
    """
    rows: list[Row] = []
    base: dict[str, NDArray[np.bool_]] = {}
    measured = points.set_index("point")
    for v in variations:
        if v.configuration not in fitted:
            continue
        correct = bench.routed(fitted[v.configuration]).correct
        is_base = v.axis not in base
        base.setdefault(v.axis, correct)
        name = names[v.configuration]
        row = {"axis": v.axis, "setting": v.setting, "is_base": is_base, "point": name}
        row |= {column: measured.loc[name, column] for column in ("n", "top1", "top1_low", "top1_high", "saved")}
        rows.append(row | (_NO_DIFFERENCE if is_base else difference(correct, base[v.axis], bench.seed)))
    return rows


ABLATION_COLUMNS = [
    "axis", "setting", "is_base", "point", "n", "top1", "top1_low", "top1_high", "saved",
    "difference", "difference_low", "difference_high", "mcnemar_p",
]  # fmt: skip

SENSITIVITY_COLUMNS = [
    "axis", "value", "x", "is_base", "point_layers", "n", "top1", "top1_low", "top1_high", "saved",
    "margin", "margin_low", "margin_high", "attributable", "attributable_low", "attributable_high",
    "difference", "difference_low", "difference_high", "mcnemar_p",
]  # fmt: skip


def sensitivity_rows(
    arm: TestBench, fp32: TestBench, variations: Sequence[Variation], fitted: Mapping[Configuration, Fitted],
    fp32_fitted: Mapping[Configuration, Fitted],
) -> list[Row]:  # fmt: skip
    """Every point of the sensitivity curves in one arm, and what quantization explains of it.

    `arm` and `fp32` may be the same: then nothing is attributable.
    """
    rows: list[Row] = []
    base: dict[str, NDArray[np.bool_]] = {}
    for v in variations:
        if v.configuration not in fitted or v.configuration not in fp32_fitted:
            continue
        result, control = arm.routed(fitted[v.configuration]), fp32.routed(fp32_fitted[v.configuration])
        if v.is_base:
            base[v.axis] = result.correct
        ours, theirs = signed(result.correct, arm.full_correct), signed(control.correct, fp32.full_correct)
        explained = paired_mean(ours - theirs, arm.seed) if arm is not fp32 else Interval(np.nan, np.nan, np.nan)
        compared = not v.is_base and v.axis in base
        macs, _ = arm.costs(v.configuration)
        rows.append(
            {
                "axis": v.axis, "value": v.setting, "x": np.nan if v.x is None else v.x, "is_base": v.is_base,
                "point_layers": ",".join(map(str, result.layers)), "n": len(ours), **accuracy("top1", result.correct),
                "saved": float(1.0 - result.shares @ macs.leaving / macs.full),
                **spread("margin", paired_mean(ours, arm.seed)), **spread("attributable", explained),
                **(difference(result.correct, base[v.axis], arm.seed) if compared else _NO_DIFFERENCE),
            }
        )  # fmt: skip
    return rows


def mark_frontier(points: pd.DataFrame) -> pd.Series:
    """Pareto-optimal points by accuracy and compute saved on the `select` split: never by test results.

    Only deployable points take part. A point is kept unless another is at least as good in both and better in one.
    """
    eligible = points["study"].isin(DEPLOYABLE)
    accuracy_, saved = points["select_top1"].to_numpy(), points["select_saved"].to_numpy()
    better = (accuracy_[None] >= accuracy_[:, None]) & (saved[None] >= saved[:, None])
    better &= (accuracy_[None] > accuracy_[:, None]) | (saved[None] > saved[:, None])
    dominated = (better & eligible.to_numpy()[None]).any(axis=1)
    return eligible & pd.Series(~dominated, index=points.index)


def quantizer_row(arm: TestBench, fp32: TestBench) -> Row:
    """Full depth under a quantizer against full depth in FP32, with no exit at all: cost and churn."""
    changed = signed(arm.full_correct, fp32.full_correct)
    return {
        "n": len(changed), **accuracy("top1", arm.full_correct),
        "agreement": float((arm.full_answer == fp32.full_answer).mean()),
        "churn_rescue": int((changed > 0).sum()), "churn_loss": int((changed < 0).sum()),
        **difference(arm.full_correct, fp32.full_correct, arm.seed),
    }  # fmt: skip
