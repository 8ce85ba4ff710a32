"""One threshold for all exits, lower where the noise is lower:

    tau_L = tau * (mean INR / INR_L) ^ inr_exponent

LRA-EE claims that layers of high INR get lower thresholds; the exponent makes that a law with one number, so that the
claim can be tested. At exponent 0 every exit has the same threshold.
"""

import numpy as np
from numpy.typing import NDArray

from lraee.exits.rules import RULES, Demand, Selection, ThresholdRule
from lraee.exits.thresholds import best_within, tally


def inr_factors(inr: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """Return (mean INR / INR) ^ exponent of each exit (E,).

    A layer without noise has infinite INR. It counts as the cleanest layer with noise: the formula's own limit, a
    threshold of zero, would make everybody leave there, whatever tau. Without noise anywhere, all factors are one.
    """
    noisy = np.isfinite(inr)
    if not noisy.any():
        return np.ones_like(inr)
    bounded = np.where(noisy, inr, inr[noisy].max())
    return (bounded.mean() / bounded) ** exponent


def scaled(grid: NDArray[np.float64], factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale thresholds (G,) for each exit: (G, E), the finite ones clipped to [0, 1], -inf and +inf as they are."""
    finite = np.isfinite(grid)
    path = np.repeat(grid[:, None], len(factors), axis=1)
    path[finite] = np.clip(path[finite] * factors, 0.0, 1.0)
    return path


class Global(ThresholdRule):
    """The most accurate tau of the grid within the budget, the cheapest of equals."""

    def choose(self, selection: Selection, demand: Demand) -> tuple[float, ...] | None:
        path = scaled(selection.grid, inr_factors(selection.inr, demand.inr_exponent))
        n = len(selection.readiness)
        accuracy = tally(selection.readiness, selection.right, path).sum(axis=1) / n
        cost = tally(selection.readiness, np.ones_like(selection.right), path) @ selection.costs / n
        best = best_within(accuracy, cost, (1.0 - demand.budget) * selection.full)
        return None if best is None else tuple(path[best].tolist())


RULES.register("global")(Global())
