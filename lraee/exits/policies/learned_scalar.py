"""A learned scalar (BERxiT's learning to exit, EACL 2021): one linear regression an exit, on the vector its head reads.

It is fitted by least squares to "this exit is right" when the exits are scored, with a ridge penalty and without
BERxiT's sigmoid, and stored as `certainty`; here its estimate is only confined to [0, 1].
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lraee.exits.policies import POLICIES, Policy
from lraee.exits.score_table import ExitScores
from lraee.models.shape import TowerShape


class LearnedScalar(Policy):
    """Readiness is the estimated probability that the exit is right."""

    def readiness(self, scores: ExitScores, fitted: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
        return np.clip(scores.certainty.astype(np.float64), 0.0, 1.0)

    def macs(self, shape: TowerShape, features: Sequence[str]) -> int:
        """Return one product with the vector that the head reads."""
        return shape.width


POLICIES.register("learned-scalar")(LearnedScalar())
