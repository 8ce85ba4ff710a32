"""Both arms of one quantizer: the quantized model, and the unquantized one at the same exit layers as its control."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lraee.evaluation import points
from lraee.evaluation.choices import (
    Configuration,
    ExitSettings,
    Variation,
    ablation_variations,
    grid_configurations,
    headline_configuration,
)
from lraee.evaluation.fit import Arm, Fitted, Static, fit_configurations, static_exits
from lraee.evaluation.points import TestBench
from lraee.exits.score_table import ScoreTable
from lraee.metrics.pruning import inr_by_layer, pathological_layers
from lraee.models.shape import TowerShape
from lraee.names import FP32
from lraee.settings import Settings


class FittedArm(Settings):
    """All that was fitted in one precision. `full_top1` is full depth on the `select` split."""

    precision: str
    full_top1: float
    headline: Fitted
    grid: list[Fitted]
    ablations: list[Fitted]
    statics: list[Static]


class FittedArms(Settings):
    """What `evaluate` needs besides the test scores."""

    quantizer: str
    pathological: list[int]
    variations: list[Variation]
    shape: TowerShape
    classes: int
    arms: list[FittedArm]


def fit_both_arms(
    tables: Mapping[str, ScoreTable],
    quantizer: str,
    noise: pd.DataFrame,
    kappa: float,
    exits: ExitSettings,
    shape: TowerShape,
    classes: int,
) -> FittedArms:
    """Prune the candidates by INR, then fit the headline, the grid and the ablations in both precisions.

    `tables` holds the scores gate, select, fp32_gate, fp32_select. Raises ValueError where no thresholds meet the
    headline's budget.
    """
    pathological = pathological_layers(inr_by_layer(noise), exits.candidates, kappa)
    layers = [layer for layer in exits.candidates if layer not in pathological]
    base = headline_configuration(exits.headline, layers)
    variations = ablation_variations(exits.ablations, base, exits.candidates)
    heads = [(a, s) for a in exits.heads.aggregations for s in exits.heads.supervisions]
    fp32 = (tables["fp32_gate"], tables["fp32_select"])
    for split in ("gate", "select"):
        if not np.array_equal(tables[split].samples, tables[f"fp32_{split}"].samples):
            raise ValueError(f"{quantizer} and {FP32} answered different images of the {split} split")
    arms = []
    for precision, own in ((quantizer, (tables["gate"], tables["select"])), (FP32, fp32)):
        arm = Arm(*own, *fp32)

        def fit(configurations: list[Configuration], arm: Arm = arm) -> list[Fitted]:
            return fit_configurations(arm, configurations, exits.thresholds, shape, classes)

        headline = fit([base])
        if not headline:
            raise ValueError(
                f"exits.headline.budget is {base.budget}, which no thresholds meet at layers {list(base.layers)} "
                f"({precision}), heads and gates counted; take a smaller budget or earlier candidates"
            )
        arms.append(
            FittedArm(
                precision=precision,
                full_top1=float((arm.select.final_prediction == arm.select.labels).mean()),
                headline=headline[0],
                grid=fit(grid_configurations(exits.grid, layers)),
                ablations=fit(list(dict.fromkeys(v.configuration for v in variations))),
                statics=static_exits(arm, [*exits.candidates, shape.depth], heads),
            )
        )
    return FittedArms(
        quantizer=quantizer, pathological=pathological, variations=variations, shape=shape, classes=classes, arms=arms
    )


def evaluate_both_arms(
    fitted: FittedArms, test: ScoreTable, fp32_test: ScoreTable, seed: int
) -> dict[str, pd.DataFrame]:
    """Open the test split: tables points, exits, ablations, attribution and quantizers, both arms in each.

    Raises ValueError where the two precisions did not answer the same images.
    """
    if not np.array_equal(test.samples, fp32_test.samples):
        raise ValueError(f"{fitted.quantizer} and {FP32} answered different images of the test split")
    scores = {fitted.quantizer: test, FP32: fp32_test}
    benches = {
        precision: TestBench(table, fitted.shape, fitted.classes, seed) for precision, table in scores.items()
    }  # fmt: skip
    tables: dict[str, list[pd.DataFrame]] = {"points": [], "exits": [], "ablations": []}
    for arm in fitted.arms:
        bench = benches[arm.precision]
        names = {"quantizer": fitted.quantizer, "precision": arm.precision}
        for table, frame in _arm_tables(arm, bench, fitted.variations).items():
            tables[table].append(frame.assign(**names))
    ours, control = (arm for arm in fitted.arms)
    pair = benches[ours.precision], benches[control.precision]
    attribution = points.attribution_row(*pair, ours.headline, control.headline, _best_refit(ours, fitted.shape.depth))
    quantizer_rows = [{"quantizer": name, **points.quantizer_row(bench, pair[1])} for name, bench in benches.items()]
    return {
        **{name: pd.concat(frames, ignore_index=True) for name, frames in tables.items()},
        "attribution": pd.DataFrame([{"quantizer": fitted.quantizer, **attribution}]),
        "quantizers": pd.DataFrame(quantizer_rows),
    }


def _best_refit(arm: FittedArm, depth: int) -> Static:
    """The head refitted at full depth that is best on `select`."""
    return max((s for s in arm.statics if s.layer == depth), key=lambda s: s.select_top1)


def _arm_tables(arm: FittedArm, bench: TestBench, variations: list[Variation]) -> dict[str, pd.DataFrame]:
    routed = [(arm.headline, "frontier")]
    routed += [(fitted, "frontier") for fitted in arm.grid]
    routed += [(fitted, "ablation") for fitted in arm.ablations]
    # The headline is part of the grid and the base of every ablation: it is one point, not three.
    unique = {fitted.configuration: (fitted, study) for fitted, study in reversed(routed)}
    rows = [points.full_depth_row(bench, arm.full_top1)]
    rows += [points.static_row(bench, static) for static in arm.statics]
    names: dict[Configuration, str] = {}
    for configuration, (fitted, study) in reversed(unique.items()):
        names[configuration] = f"p{len(rows):03d}"
        rows.append(points.routed_row(bench, fitted, study, headline=fitted is arm.headline))
    frame = pd.DataFrame(rows)
    frame.insert(0, "point", [f"p{index:03d}" for index in range(len(frame))])
    frame["on_frontier"] = points.mark_frontier(frame)
    exits = pd.DataFrame(points.exit_rows(bench, bench.routed(arm.headline)))
    fitted_by = {configuration: fitted for configuration, (fitted, _) in unique.items()}
    compared = points.ablation_rows(bench, variations, fitted_by, names)
    return {
        "points": frame,
        "exits": exits.assign(point=names[arm.headline.configuration]),
        "ablations": pd.DataFrame(compared, columns=points.ABLATION_COLUMNS),
    }
