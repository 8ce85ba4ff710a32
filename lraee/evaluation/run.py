"""Both arms of one quantizer: the quantized model, and the unquantized one at the same exit layers as its control."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lraee.evaluation import contrasts, points
from lraee.evaluation.bench import Row, TestBench
from lraee.evaluation.choices import (
    Conditions,
    Configuration,
    ExitSettings,
    Variation,
    ablation_variations,
    grid_configurations,
    headline_configuration,
    refit_configurations,
    risk_configurations,
    seed_configurations,
    sensitivity_variations,
    toggled_layers,
)
from lraee.evaluation.fit import Arm, Fitted, Ground, Static, best_static, fit_configurations, static_exits
from lraee.evaluation.sweep import sweep_rows, threshold_rows
from lraee.exits.head_plan import HeadPlan
from lraee.exits.score_table import ScoreTable
from lraee.exits.thresholds import ThresholdGrid
from lraee.exits.variants import BASE
from lraee.metrics.compute import FLOAT_BITS, whole_tower
from lraee.metrics.pruning import inr_by_layer, pathological_layers
from lraee.models.shape import TowerShape
from lraee.names import FP32
from lraee.quantize.schemes import Coverage
from lraee.settings import Settings

Scores = Mapping[str, ScoreTable]
"""Score tables by variant of the heads."""


class FittedArm(Settings):
    """All that was fitted in one precision. `full_top1` is full depth on the `select` split.

    `seeds` are the headline under every seed, `refits` the full-depth heads refitted under it (best on `select`).
    """

    precision: str
    full_top1: float
    headline: Fitted
    grid: list[Fitted]
    risk: list[Fitted]
    on_refit: list[Fitted]
    ablations: list[Fitted]
    sensitivity: list[Fitted]
    sweep: list[Fitted]
    statics: list[Static]
    seeds: list[Fitted]
    refits: list[Static]


class FittedArms(Settings):
    """What `evaluate` needs besides the test scores. `inr` is by layer, `grid` the thresholds that were tried."""

    quantizer: str
    ablations: list[Variation]
    sensitivity: list[Variation]
    grid: ThresholdGrid
    inr: dict[int, float]
    shape: TowerShape
    classes: int
    arms: list[FittedArm]


@dataclass(frozen=True)
class Run:
    """What fitting needs to know of a run: its settings, sizes and noise."""

    exits: ExitSettings
    fit_images: int
    noise: pd.DataFrame
    kappa: float
    shape: TowerShape
    classes: int

    @property
    def inr(self) -> pd.Series:
        """INR by layer."""
        return inr_by_layer(self.noise)

    def kept(self, kappa: float) -> tuple[int, ...]:
        """The candidates that the pruning rule leaves."""
        dropped = pathological_layers(self.inr, self.exits.candidates, kappa)
        return tuple(layer for layer in self.exits.candidates if layer not in dropped)

    @property
    def ground(self) -> Ground:
        """What every configuration is fitted with."""
        return Ground(self.exits.thresholds, self.inr, self.exits.risk.delta, self.shape, self.classes)

    @property
    def plan(self) -> HeadPlan:
        """Which heads there are."""
        headline = self.exits.headline
        return HeadPlan(
            candidates=self.exits.candidates, depth=self.shape.depth,
            aggregation=headline.aggregation, supervision=headline.supervision,
        )  # fmt: skip


def fit_both_arms(scores: Mapping[str, Scores], quantizer: str, run: Run) -> FittedArms:
    """Prune the candidates by INR, then fit everything in both precisions, at the same exit layers.

    `scores` holds gate, select, fp32_gate, fp32_select. Raises ValueError where no thresholds meet the headline's
    budget, or the precisions answered different images.
    """
    for split in ("gate", "select"):
        _check_same_images(scores[split], scores[f"fp32_{split}"], quantizer, split)
    exits, base = run.exits, headline_configuration(run.exits.headline, run.kept(run.kappa))
    conditions = Conditions(
        layers_by_kappa={kappa: run.kept(kappa) for kappa in exits.sensitivity.kappas} | {run.kappa: base.layers},
        kappa=run.kappa,
        fit_images=run.fit_images,
    )
    ablations = ablation_variations(exits.ablations, base, exits.candidates)
    sensitivity = sensitivity_variations(exits.sensitivity, base, conditions)
    fp32 = (scores["fp32_gate"], scores["fp32_select"])
    arms = []
    for precision, own in ((quantizer, (scores["gate"], scores["select"])), (FP32, fp32)):
        arms.append(_fit_arm(precision, Arm(*own, *fp32), run, base, [ablations, sensitivity]))
    return FittedArms(
        quantizer=quantizer, ablations=ablations, sensitivity=sensitivity, grid=exits.thresholds,
        inr=dict(zip(run.inr.index.tolist(), run.inr.tolist(), strict=True)), shape=run.shape, classes=run.classes,
        arms=arms,
    )  # fmt: skip


def _check_same_images(own: Scores, fp32: Scores, quantizer: str, split: str) -> None:
    for variant, table in own.items():
        if not np.array_equal(table.samples, fp32[variant].samples):
            raise ValueError(f"{quantizer} and {FP32} answered different images of the {split} split")


def _fit_arm(
    precision: str, arm: Arm, run: Run, base: Configuration, varied: Sequence[Sequence[Variation]]
) -> FittedArm:
    exits, depth = run.exits, run.shape.depth

    def fit(configurations: Sequence[Configuration]) -> list[Fitted]:
        return fit_configurations(arm, list(dict.fromkeys(configurations)), run.ground)

    headline = fit([base])
    if not headline:
        raise ValueError(
            f"exits.headline.budget is {base.budget}, which no thresholds meet at layers {list(base.layers)} "
            f"({precision}), heads and gates counted; take a smaller budget or earlier candidates"
        )
    select = arm.table("select", BASE)
    statics = static_exits(select, [key[1:] for key in run.plan.keys(exits.heads, BASE)])
    refit = best_static(statics, [depth])
    seeds = seed_configurations(base, exits.seeds)
    uniform = base.model_copy(update={"threshold_rule": "global", "budget": 0.0})
    swept = [uniform.model_copy(update={"policy": policy}) for policy in exits.policies()]
    swept += [uniform.model_copy(update={"layers": layers}) for layers in toggled_layers(base, exits.candidates)]
    return FittedArm(
        precision=precision,
        full_top1=float((select.final_prediction == select.labels).mean()),
        headline=headline[0],
        grid=fit(grid_configurations(exits.grids, base.layers)),
        risk=fit(risk_configurations(exits.risk, base)),
        on_refit=fit(refit_configurations(exits, base, (refit.aggregation, refit.supervision))),
        ablations=fit([v.configuration for v in varied[0]]),
        sensitivity=fit([v.configuration for v in varied[1]]),
        sweep=fit(swept),
        statics=statics,
        seeds=fit(seeds),
        refits=[_refit_of(arm, run, c.variant) for c in seeds],
    )


def _refit_of(arm: Arm, run: Run, variant: str) -> Static:
    """The best full-depth head of a seed, among those that every seed has: the headline's supervision."""
    heads = [(run.shape.depth, a, run.exits.headline.supervision) for a in run.exits.heads.aggregations]
    return best_static(static_exits(arm.table("select", variant), heads, variant), [run.shape.depth])


def evaluate_both_arms(
    fitted: FittedArms, test: Scores, fp32_test: Scores, coverage: Coverage, class_names: Sequence[str], seed: int
) -> dict[str, pd.DataFrame]:
    """Open the test split: all tables of one quantizer, both arms in each. `coverage` is the quantizer's.

    Raises ValueError where the two precisions did not answer the same images.
    """
    _check_same_images(test, fp32_test, fitted.quantizer, "test")
    ours, control = fitted.arms
    arm = TestBench(test, fitted.shape, fitted.classes, coverage, seed)
    fp32 = TestBench(fp32_test, fitted.shape, fitted.classes, whole_tower(fitted.shape, FLOAT_BITS), seed)
    tables: dict[str, list[pd.DataFrame]] = {}
    for own, bench in ((ours, arm), (control, fp32)):
        names = {"quantizer": fitted.quantizer, "precision": own.precision}
        rows = points.sensitivity_rows(
            bench, fp32, fitted.sensitivity, _by_configuration(own.sensitivity), _by_configuration(control.sensitivity)
        )
        for table, frame in {
            **_arm_tables(own, bench, fitted),
            "sensitivity": pd.DataFrame(rows, columns=points.SENSITIVITY_COLUMNS),
        }.items():
            tables.setdefault(table, []).append(frame.assign(**names))
    costs = pd.DataFrame(points.cost_rows(arm, ours.headline, arm.routed(ours.headline)))
    at_full_depth = [(fitted.quantizer, arm), (FP32, fp32)]
    quantizers = [{"quantizer": name, **points.quantizer_row(bench, fp32)} for name, bench in at_full_depth]
    return {
        **{name: pd.concat(frames, ignore_index=True) for name, frames in tables.items()},
        **_contrasts(ours, control, arm, fp32, class_names),
        "costs": costs.assign(quantizer=fitted.quantizer),
        "quantizers": pd.DataFrame(quantizers),
        "answers": _answers(fitted.quantizer, arm, ours.headline, fp32),
    }


def _by_configuration(fitted: Sequence[Fitted]) -> dict[Configuration, Fitted]:
    return {own.configuration: own for own in fitted}


def _studies(arm: FittedArm) -> dict[Configuration, tuple[Fitted, str]]:
    """Every routed configuration once: the headline is also in the grid and the base of every ablation."""
    routed = [(own, "frontier") for own in (arm.headline, *arm.grid)]
    routed += [(own, "risk") for own in arm.risk]
    routed += [(own, "on-refit") for own in arm.on_refit]
    routed += [(own, "ablation") for own in arm.ablations]
    unique: dict[Configuration, tuple[Fitted, str]] = {}
    for own, study in routed:
        unique.setdefault(own.configuration, (own, study))
    return unique


def _names(arm: FittedArm) -> dict[Configuration, str]:
    """The name of every routed point; those of full depth, static exits and the two bounds come before."""
    first = 1 + len(arm.statics) + len(points.BOUNDS)
    return {configuration: f"p{number:03d}" for number, configuration in enumerate(_studies(arm), start=first)}


def _points(arm: FittedArm, bench: TestBench) -> pd.DataFrame:
    """All operating points of an arm."""
    rows = [points.full_depth_row(bench, arm.full_top1)]
    rows += [points.static_row(bench, static) for static in arm.statics]
    rows += points.bound_rows(bench, arm.headline)
    rows += [
        points.routed_row(bench, own, study, headline=own is arm.headline) for own, study in _studies(arm).values()
    ]
    frame = pd.DataFrame(rows)
    frame.insert(0, "point", [f"p{number:03d}" for number in range(len(frame))])
    return frame.assign(on_frontier=points.mark_frontier(frame))


def _arm_tables(arm: FittedArm, bench: TestBench, fitted: FittedArms) -> dict[str, pd.DataFrame]:
    """What concerns one arm alone."""
    frame, names, studies = _points(arm, bench), _names(arm), _studies(arm)
    base, result = arm.headline.configuration, bench.routed(arm.headline)
    by_configuration = {c: own for c, (own, _) in studies.items()}
    compared = points.ablation_rows(bench, fitted.ablations, by_configuration, frame, names)
    swept = pd.DataFrame([row for own in arm.sweep for row in sweep_rows(bench, own, fitted.grid)])
    varied = {"threshold_rule": base.threshold_rule, "budget": base.budget}
    family = [
        (names[c], own)
        for c, (own, study) in studies.items()
        if study == "frontier" and c.model_copy(update=varied) == base
    ]
    headline = {"point": names[base]}
    return {
        "points": frame,
        "exits": pd.DataFrame(points.exit_rows(bench, arm.headline, result)).assign(**headline),
        "early": pd.DataFrame([points.early_row(bench, result)]).assign(**headline),
        "ablations": pd.DataFrame(compared, columns=points.ABLATION_COLUMNS),
        "sweep": swept.assign(is_base=swept["layers"] == ",".join(map(str, base.layers))),
        "thresholds": pd.DataFrame(threshold_rows(family, pd.Series(fitted.inr))),
    }


def _best_within(fitted: Sequence[Fitted], budget: float) -> Fitted | None:
    """The configuration that is best on `select` among those that save at least `budget`, the first of equals."""
    allowed = [own for own in fitted if own.configuration.budget >= budget]
    return max(allowed, key=lambda own: own.select_top1, default=None)


def _contrasts(
    ours: FittedArm, control: FittedArm, arm: TestBench, fp32: TestBench, class_names: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """What compares the two arms, seeds or classes."""
    budget, pair, names = ours.headline.configuration.budget, (ours.headline, control.headline), _names(ours)
    best = _best_within([ours.headline, *ours.grid], budget) or ours.headline
    on_refit, refit = _best_within(ours.on_refit, budget), best_static(ours.statics, [arm.shape.depth])
    seeds = [contrasts.seed_row(arm, fp32, *rest) for rest in zip(ours.seeds, control.seeds, ours.refits, strict=True)]
    spreads = contrasts.seed_spread([per_image for _, per_image in seeds], arm.seed)
    attribution = {
        **contrasts.attribution_row(arm, fp32, *pair),
        **contrasts.over_seeds(spreads),
        **contrasts.refit_row(arm, refit, ours.headline, best, on_refit),
        **contrasts.static_row(arm, best_static(ours.statics, range(1, arm.shape.depth)), ours.headline),
        "best_point": names[best.configuration],
        "best_on_refit_point": "" if on_refit is None else names[on_refit.configuration],
    }
    rows: list[Row] = [{"seed": seed, **row} for seed, (row, _) in enumerate(seeds)]
    tables = {
        "attribution": [attribution],
        "classes": contrasts.class_rows(arm, fp32, *pair, class_names),
        "seeds": rows,
        "seed_spread": spreads,
    }
    return {name: pd.DataFrame(table).assign(quantizer=ours.precision) for name, table in tables.items()}


def _answers(quantizer: str, arm: TestBench, headline: Fitted, fp32: TestBench) -> pd.DataFrame:
    """Whether each image is right at full depth in both precisions, and when routed: for comparing quantizers."""
    routed = arm.routed(headline).correct.astype(np.float64)
    models = [(quantizer, arm.full_correct, routed), (FP32, fp32.full_correct, np.nan)]
    frames = [
        pd.DataFrame({"quantizer": name, "sample": arm.base.samples, "full": full, "routed": routed_})
        for name, full, routed_ in models
    ]
    return pd.concat(frames, ignore_index=True)
