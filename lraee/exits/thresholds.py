"""What thresholds on the `select` split give: every combination of a grid at once, or a path of them.

Every exit has a grid of thresholds. Where an image leaves depends only on which grid steps its readiness passes, so a
histogram over those steps, one axis an exit, holds all that any combination of thresholds needs. Prefix sums turn it
into the accuracy and the cost of *every* combination: exact, and once the histogram is made independent of the number
of images.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from lraee.settings import PositiveInt, Settings

MAX_COMBINATIONS = 20_000_000


class ThresholdGrid(Settings):
    """`points` thresholds from `low` to `high`, the paper's 25 on [0.20, 0.92]; "everybody" and "nobody" are added."""

    low: float = Field(default=0.20, ge=0.0, le=1.0)
    high: float = Field(default=0.92, ge=0.0, le=1.0)
    points: PositiveInt = 25

    @model_validator(mode="after")
    def _check(self) -> "ThresholdGrid":
        if self.low >= self.high:
            raise ValueError(f"low is {self.low}, but must be below high, which is {self.high}")
        return self

    @property
    def values(self) -> NDArray[np.float64]:
        """The grid with -inf (everybody leaves) before and +inf (nobody) behind."""
        return np.concatenate([[-np.inf], np.linspace(self.low, self.high, self.points), [np.inf]])


@dataclass(frozen=True)
class Surface:
    """Share of right answers and mean cost for every combination of thresholds, each (G, .., G), one axis an exit."""

    grid: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    cost: NDArray[np.float64]


def surface(
    readiness: NDArray[np.float64],
    right: NDArray[np.bool_],
    costs: NDArray[np.float64],
    grid: NDArray[np.float64],
) -> Surface:
    """Evaluate every combination of thresholds.

    readiness: (n, E). right: (n, E + 1), whether the answer at each exit and at full depth is right. costs: (E + 1,).
    ValueError where the combinations would not fit in memory.
    """
    n, exits = readiness.shape
    if len(grid) ** exits > MAX_COMBINATIONS:
        raise ValueError(
            f"{len(grid)} thresholds at {exits} exits are {len(grid) ** exits:,} combinations, more than "
            f"{MAX_COMBINATIONS:,}; take fewer exit layers or threshold points"
        )
    # An image leaves at grid step i of an exit exactly when i < level.
    levels = np.searchsorted(grid, readiness, side="left")
    # Everybody answers at full depth, but for what changes when an image leaves before.
    gains = right[:, :-1].astype(np.float64) - right[:, -1:]
    correct, cost = np.full((1,) * exits, float(right[:, -1].sum())), np.full((1,) * exits, n * float(costs[-1]))
    for place in range(exits):
        axes = levels[:, : place + 1]
        correct = correct + _leaving(axes, gains[:, place], len(grid), exits)
        cost = cost + _leaving(axes, np.ones(n), len(grid), exits) * float(costs[place] - costs[-1])
    return Surface(grid, correct / n, cost / n)


def _leaving(levels: NDArray[np.int64], weight: NDArray[np.float64], steps: int, exits: int) -> NDArray[np.float64]:
    """Sum `weight` over the images that leave at the last exit of `levels` (n, E'), for every combination.

    Shape (G, .., G, 1, .., 1): E' axes of `steps` thresholds, and the exits behind it, which decide nothing.
    """
    # Nobody leaves at level 0, and nobody goes past an exit at level G: whoever is there is counted nowhere.
    counted = (levels[:, -1] > 0) & (levels[:, :-1] < steps).all(axis=1)
    *passed, last = levels[counted].T
    # The last axis runs from the highest level down, so that sums from its start on are over levels above a step.
    bins = np.ravel_multi_index((*passed, steps - last), (steps,) * levels.shape[1])
    totals = np.bincount(bins, weights=weight[counted], minlength=steps ** levels.shape[1])
    found = np.asarray(totals, dtype=np.float64).reshape((steps,) * levels.shape[1])
    for axis in range(found.ndim):
        np.cumsum(found, axis=axis, out=found)
    return found[..., ::-1].reshape(found.shape + (1,) * (exits - found.ndim))


def tally(
    readiness: NDArray[np.float64], marked: NDArray[np.bool_], thresholds: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Count the marked images at each place, along a path of thresholds.

    readiness: (n, E). marked: (n, E + 1), at each exit and at full depth. thresholds: (G, E), each column ascending.
    Returns (G, E + 1). The whole path costs one sort-free pass over the images, however many steps it has.
    """
    steps, exits = thresholds.shape
    # As in `surface`, an image leaves at step i of an exit exactly when i < level; so exit e is its place from the
    # highest level of the exits before e up to, not including, the highest with e.
    levels = [np.searchsorted(thresholds[:, e], readiness[:, e], side="left") for e in range(exits)]
    reached = np.maximum.accumulate(np.column_stack(levels), axis=1)
    bounds = np.pad(reached, ((0, 0), (1, 1)), constant_values=((0, 0), (0, steps)))
    counts = np.empty((steps, exits + 1), dtype=np.int64)
    for place in range(exits + 1):
        enters, leaves = (bounds[marked[:, place], side] for side in (place, place + 1))
        changes = np.bincount(enters, minlength=steps + 1) - np.bincount(leaves, minlength=steps + 1)
        counts[:, place] = np.cumsum(changes)[:steps]
    return counts


def best_within(accuracy: NDArray[np.float64], cost: NDArray[np.float64], max_cost: float) -> int | None:
    """The most accurate combination within the budget, the cheapest of equals; None where none is within it."""
    # Sums of integers and of costs carry rounding of about 1e-12; equal operating points must compare as equal.
    allowed = np.flatnonzero(cost <= max_cost * (1.0 + 1e-9))
    if not len(allowed):
        return None
    ties = allowed[accuracy[allowed] >= accuracy[allowed].max() - 1e-9]
    return int(ties[cost[ties].argmin()])
