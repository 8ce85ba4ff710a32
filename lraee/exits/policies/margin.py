"""Top-2 margin: leave where the two best probabilities lie far apart."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lraee.exits.policies import POLICIES, Policy
from lraee.exits.score_table import ExitScores


class Margin(Policy):
    """Readiness is the difference of the two best probabilities."""

    def readiness(self, scores: ExitScores, fitted: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
        return scores.margin.astype(np.float64)


POLICIES.register("margin")(Margin())
