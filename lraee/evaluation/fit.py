"""Fit configurations: gates on `gate`, thresholds on `select`. The test split has no way in here."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lraee.evaluation.choices import Configuration
from lraee.exits.policies import POLICIES
from lraee.exits.score_table import ExitScores, ScoreTable
from lraee.exits.thresholds import RULES, Surface, ThresholdGrid, surface
from lraee.metrics.compute import exit_costs
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


class Arm:
    """One precision's `gate` and `select` scores, and the FP32 model's full-depth answers to the same images."""

    def __init__(self, gate: ScoreTable, select: ScoreTable, fp32_gate: ScoreTable, fp32_select: ScoreTable) -> None:
        self.gate, self.select = gate, select
        self.fp32 = {"gate": fp32_gate.final_prediction, "select": fp32_select.final_prediction}

    def truth(self, split: str, supervision: str) -> NDArray[np.int32]:
        """Return what counts as right while fitting (n,): the labels, or without labels the FP32 model's answers."""
        if supervision == "label-free":
            return self.fp32[split]
        return self.gate.labels if split == "gate" else self.select.labels


def _right(scores: ExitScores, truth: NDArray[np.int32]) -> NDArray[np.bool_]:
    return np.column_stack([scores.prediction, scores.final_prediction]) == truth[:, None]


def fit_configurations(
    arm: Arm, configurations: Sequence[Configuration], grid: ThresholdGrid, shape: TowerShape, classes: int
) -> list[Fitted]:
    """Fit every configuration; those whose budget no thresholds meet are left out.

    Configurations that differ in rule or budget alone share their gates and their surface of combinations.
    """
    shared: dict[Any, list[Configuration]] = {}
    for c in configurations:
        shared.setdefault((c.policy, c.aggregation, c.supervision, c.gate_features, c.layers), []).append(c)
    fitted = []
    for group in shared.values():
        gates, values, labelled = _surfaces(arm, group[0], grid, shape, classes)
        full = exit_costs(shape, classes, group[0].layers, POLICIES[group[0].policy].gated).full
        for configuration in group:
            steps = RULES[configuration.threshold_rule](values, (1.0 - configuration.budget) * full)
            if steps is not None:
                fitted.append(
                    Fitted(
                        configuration=configuration,
                        gates=gates,
                        thresholds=[float(values.grid[step]) for step in steps],
                        select_top1=float(labelled.accuracy[steps]),
                        select_saved=float(1.0 - labelled.cost[steps] / full),
                    )
                )
    return fitted


def _surfaces(
    arm: Arm, c: Configuration, grid: ThresholdGrid, shape: TowerShape, classes: int
) -> tuple[list[dict[str, Any]], Surface, Surface]:
    """Fit the gates; return them, the surface that thresholds are chosen on, and the same by true labels."""
    policy = POLICIES[c.policy]
    on_gate = arm.gate.at(c.aggregation, c.supervision, c.layers)
    gates = policy.fit(on_gate, _right(on_gate, arm.truth("gate", c.supervision))[:, :-1], c.gate_features)
    on_select = arm.select.at(c.aggregation, c.supervision, c.layers)
    readiness = policy.readiness(on_select, gates)
    costs = exit_costs(shape, classes, c.layers, policy.gated).leaving
    chosen = surface(readiness, _right(on_select, arm.truth("select", c.supervision)), costs, grid.values)
    if c.supervision != "label-free":
        return gates, chosen, chosen
    return gates, chosen, surface(readiness, _right(on_select, on_select.labels), costs, grid.values)


def static_exits(arm: Arm, layers: Sequence[int], heads: Sequence[tuple[str, str]]) -> list[Static]:
    """Every head on its own, at every layer, with its accuracy on `select`."""
    rows = []
    for aggregation, supervision in heads:
        scores = arm.select.at(aggregation, supervision, layers)
        accuracy = (scores.prediction == scores.labels[:, None]).mean(axis=0)
        rows += [
            Static(layer=layer, aggregation=aggregation, supervision=supervision, select_top1=float(accuracy[index]))
            for index, layer in enumerate(layers)
        ]
    return rows
