"""Fixed-sequence testing, which both risk rules share (Learn then Test, arXiv 2110.01052, section 2.2; for early exits
Fast yet Safe, arXiv 2405.20915).

One threshold for all exits is lowered step by step from "nobody leaves". At each step the hypothesis "the risk is above
the level" is tested at level delta; the last threshold before the first test that fails to reject is taken. Whichever
true hypothesis comes first in the sequence is rejected with probability at most delta, and without that rejection no
threshold of too high a risk can be taken; so the many tests need no correction.

The guarantee, P(risk <= level) >= 1 - delta over the draw of the `select` images, needs a sequence that does not
depend on these images. Hence SEQUENCE is fixed, and the configuration's grid and the layers' INR play no part. It holds
for one configuration at a time, not for the best of several picked afterwards.
"""

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lraee.exits.rules import Demand, Selection, ThresholdRule
from lraee.exits.thresholds import tally

SEQUENCE: NDArray[np.float64] = np.concatenate([[-np.inf], np.linspace(0.0, 1.0, 201)[:-1]])
"""Thresholds, ascending; tested from the last to the first. At 1 or +inf nobody leaves, so there is nothing to test."""


def left_and(readiness: NDArray[np.float64], marked: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count, at each threshold of SEQUENCE, the images that leave at an exit where they are marked (n, E): (G,)."""
    path = np.repeat(SEQUENCE[:, None], readiness.shape[1], axis=1)
    at_exits = np.pad(marked, ((0, 0), (0, 1)))  # at full depth nothing is marked
    return tally(readiness, at_exits, path).sum(axis=1)


class FixedSequence(ThresholdRule):
    """Takes the lowest threshold that is certified with all above it; the budget is ignored."""

    controls_risk: ClassVar[bool] = True

    @abstractmethod
    def rejects(self, selection: Selection, level: float, delta: float) -> NDArray[np.bool_]:
        """Test "risk > level" at level delta for each threshold of SEQUENCE on its own: (G,), whether rejected."""

    def choose(self, selection: Selection, demand: Demand) -> tuple[float, ...]:
        """Return E equal thresholds; +inf where no test succeeds, as when nobody leaves the risk is zero for certain.

        ValueError where the demand names no risk, or one below zero, which even "nobody leaves" exceeds.
        """
        if demand.risk is None or demand.risk < 0.0:
            raise ValueError(f"a risk rule needs a risk level of at least 0, not {demand.risk}")
        rejected = self.rejects(selection, demand.risk, demand.delta)
        certified = int(np.logical_and.accumulate(rejected[::-1]).sum())
        threshold = float(SEQUENCE[-certified]) if certified else np.inf
        return (threshold,) * selection.readiness.shape[1]
