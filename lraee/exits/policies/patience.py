"""Patience (PABEE, arXiv 2006.04152): leave once p exits in a row have agreed with the exit before them.

p counts agreements, so p + 1 equal predictions in a row are needed, and the first exit can never be taken by p >= 1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lraee.exits.policies import POLICIES, Policy
from lraee.exits.score_table import ExitScores
from lraee.exits.thresholds import ThresholdGrid


class Patience(Policy):
    """Readiness is the number of consecutive agreements so far, over the number of exits."""

    looks_back = True

    def readiness(self, scores: ExitScores, fitted: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
        n, exits = scores.prediction.shape
        agreements = np.zeros((n, exits))
        for exit_ in range(1, exits):
            same = scores.prediction[:, exit_] == scores.prediction[:, exit_ - 1]
            agreements[:, exit_] = np.where(same, agreements[:, exit_ - 1] + 1.0, 0.0)
        return agreements / exits

    def thresholds(self, grid: ThresholdGrid, exits: int) -> NDArray[np.float64]:
        """Return one threshold a patience 1..E-1, half an agreement below it, between -inf and +inf.

        A grid of confidences would hold several thresholds of one patience and perhaps none of another.
        """
        return np.concatenate([[-np.inf], (np.arange(1, exits) - 0.5) / exits, [np.inf]])


POLICIES.register("patience")(Patience())
