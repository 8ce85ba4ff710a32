"""Threshold rules by name; one file each: how the thresholds of a configuration are chosen on the `select` split.

A rule either spends a compute budget or keeps a risk below a level with a finite-sample guarantee.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lraee.exits.thresholds import Surface, surface
from lraee.registry import Registry


@dataclass(frozen=True)
class Selection:
    """What thresholds are chosen on: n images at E exits.

    readiness: (n, E) in [0, 1]. right: (n, E + 1), whether the answer at each exit and at full depth is right (by
    labels, or without labels by the FP32 model's answers). agrees: (n, E), whether an exit answers as full depth does.
    costs: (E + 1,) of leaving at each place; full: that of the model without exits. grid: (G,) thresholds from -inf to
    +inf. inr: (E,) of the exit layers.
    """

    readiness: NDArray[np.float64]
    right: NDArray[np.bool_]
    agrees: NDArray[np.bool_]
    costs: NDArray[np.float64]
    full: float
    grid: NDArray[np.float64]
    inr: NDArray[np.float64]

    @cached_property
    def surface(self) -> Surface:
        """Accuracy and cost of every combination of the grid's thresholds."""
        return surface(self.readiness, self.right, self.costs, self.grid)


@dataclass(frozen=True)
class Demand:
    """What a configuration asks of its thresholds.

    `budget`: least share of the compute to be saved. `risk` and `delta`: the level that a risk may exceed with
    probability at most `delta` (risk rules only). `inr_exponent`: how strongly thresholds fall with a layer's INR.
    """

    budget: float
    risk: float | None
    delta: float
    inr_exponent: float


class ThresholdRule(ABC):
    """Picks one threshold an exit; `controls_risk` tells whether it needs a risk level instead of a budget."""

    controls_risk: ClassVar[bool] = False

    @abstractmethod
    def choose(self, selection: Selection, demand: Demand) -> tuple[float, ...] | None:
        """Return E thresholds (an image leaves where its readiness is above), or None where the demand is not met."""


RULES: Registry[ThresholdRule] = Registry("threshold rule", __name__)
