"""Entropy (BranchyNet, DeeBERT): leave where 1 - H / log K is high."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lraee.exits.policies import POLICIES, Policy
from lraee.exits.score_table import ExitScores


class Entropy(Policy):
    """Readiness is 1 - H / log K."""

    def readiness(self, scores: ExitScores, fitted: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
        return 1.0 - scores.entropy.astype(np.float64)


POLICIES.register("entropy")(Entropy())
