"""Confidence alone: leave where the top-1 probability is high (the paper's heuristic baseline)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lraee.exits.policies import POLICIES, Policy
from lraee.exits.score_table import ExitScores


class Confidence(Policy):
    """Readiness is the top-1 probability."""

    def readiness(self, scores: ExitScores, fitted: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
        return scores.confidence.astype(np.float64)


POLICIES.register("confidence")(Confidence())
