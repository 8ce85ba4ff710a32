"""Fit configurations: gates on `gate`, thresholds on `select`. The test split has no way in here."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lraee.evaluation.choices import Configuration
from lraee.exits.policies import POLICIES
from lraee.exits.routing import answers, outcome, route
from lraee.exits.rules import RULES, Demand, Selection
from lraee.exits.score_table import FINAL, ExitScores, ScoreTable
from lraee.exits.thresholds import ThresholdGrid
from lraee.exits.variants import BASE
from lraee.metrics.compute import ExitCosts, components, exit_costs
from lraee.models.shape import TowerShape
from lraee.settings import Settings


class Fitted(Settings):
    """A configuration with all that was fitted: per exit, gate parameters and a threshold.

    `select_top1` and `select_saved` are its operating point on the `select` split, by true labels.
    """

    configuration: Configuration
    gates: list[dict[str, Any]]
    thresholds: list[float]
    select_top1: float
    select_saved: float


class Static(Settings):
    """A network that always leaves at `layer` through one head (layer = depth: a head refitted at full depth)."""

    layer: int
    aggregation: str
    supervision: str
    select_top1: float
    variant: str = BASE


@dataclass(frozen=True)
class Ground:
    """What fitting needs besides scores: the thresholds' grid, INR by layer, delta of risk rules, and sizes."""

    grid: ThresholdGrid
    inr: pd.Series
    delta: float
    shape: TowerShape
    classes: int


class Arm:
    """One precision's `gate` and `select` scores by variant, and the FP32 model's full-depth answers to them."""

    def __init__(
        self,
        gate: Mapping[str, ScoreTable],
        select: Mapping[str, ScoreTable],
        fp32_gate: Mapping[str, ScoreTable],
        fp32_select: Mapping[str, ScoreTable],
    ) -> None:
        self._own = {"gate": gate, "select": select}
        self._fp32 = {"gate": fp32_gate, "select": fp32_select}

    def scores(self, split: str, c: Configuration) -> ExitScores:
        """Return a configuration's exits on a split."""
        return self._own[split][c.variant].at(c.aggregation, c.supervision, c.layers, c.final)

    def table(self, split: str, variant: str) -> ScoreTable:
        """Return all scores of a variant on a split."""
        return self._own[split][variant]

    def truth(self, split: str, c: Configuration) -> NDArray[np.int32]:
        """Return what counts as right while fitting (n,): the labels, or without labels the FP32 model's answers."""
        if c.supervision == "label-free":
            return self._fp32[split][c.variant].final_prediction
        return self._own[split][c.variant].labels


def costs_of(c: Configuration, shape: TowerShape, classes: int) -> ExitCosts:
    """MACs of leaving at each exit of a configuration."""
    gate = POLICIES[c.policy].macs(shape, c.gate_features)
    return exit_costs(components(shape, classes, gate), c.layers, refitted=c.final != FINAL)


def fit_configurations(arm: Arm, configurations: Sequence[Configuration], ground: Ground) -> list[Fitted]:
    """Fit every configuration; those whose demand no thresholds meet are left out.

    Configurations that differ in rule, budget or risk alone share their gates and their selection.
    """
    shared: dict[Any, list[Configuration]] = {}
    for c in configurations:
        key = (c.policy, c.aggregation, c.supervision, c.gate_features, c.layers, c.final, c.variant)
        shared.setdefault(key, []).append(c)
    fitted = []
    for group in shared.values():
        gates, selection = _selection(arm, group[0], ground)
        on_select = arm.scores("select", group[0])
        for c in group:
            demand = Demand(c.budget, c.risk, ground.delta, c.inr_exponent)
            thresholds = RULES[c.threshold_rule].choose(selection, demand)
            if thresholds is not None:
                result = outcome(on_select, route(selection.readiness, thresholds))
                fitted.append(
                    Fitted(
                        configuration=c,
                        gates=gates,
                        thresholds=list(thresholds),
                        select_top1=float(result.correct.mean()),
                        select_saved=float(1.0 - result.shares @ selection.costs / selection.full),
                    )
                )
    return fitted


def _selection(arm: Arm, c: Configuration, ground: Ground) -> tuple[list[dict[str, Any]], Selection]:
    """Fit the gates; return them, and what thresholds are chosen on."""
    policy = POLICIES[c.policy]
    on_gate = arm.scores("gate", c)
    right = answers(on_gate)[:, :-1] == arm.truth("gate", c)[:, None]
    gates = policy.fit(on_gate, right, c.gate_features)
    on_select = arm.scores("select", c)
    costs = costs_of(c, ground.shape, ground.classes)
    selection = Selection(
        readiness=policy.readiness(on_select, gates),
        right=answers(on_select) == arm.truth("select", c)[:, None],
        agrees=on_select.prediction == on_select.final_prediction[:, None],
        costs=costs.leaving,
        full=costs.full,
        grid=policy.thresholds(ground.grid, len(c.layers)),
        inr=ground.inr.loc[list(c.layers)].to_numpy(),
    )
    return gates, selection


def static_exits(table: ScoreTable, heads: Sequence[tuple[int, str, str]], variant: str = BASE) -> list[Static]:
    """Every head (layer, aggregation, supervision) on its own, with its accuracy on `select`, which `table` holds."""
    rows = []
    for layer, aggregation, supervision in heads:
        scores = table.at(aggregation, supervision, [layer])
        accuracy = float((scores.prediction[:, 0] == scores.labels).mean())
        rows.append(
            Static(
                layer=layer, aggregation=aggregation, supervision=supervision, select_top1=accuracy, variant=variant
            )
        )  # fmt: skip
    return rows


def best_static(statics: Sequence[Static], layers: Collection[int]) -> Static:
    """The head at one of the layers that is best on `select`, the first of equals."""
    return max((static for static in statics if static.layer in layers), key=lambda static: static.select_top1)
