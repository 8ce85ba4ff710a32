"""Exit policies by name; one file each.

A policy turns the scores of an exit into one number in [0, 1]: the higher, the readier to leave. Thresholds on that
number are chosen elsewhere, in the same way for every policy.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lraee.exits.score_table import ExitScores
from lraee.exits.thresholds import ThresholdGrid
from lraee.models.shape import TowerShape
from lraee.registry import Registry


class Policy(ABC):
    """How ready an image is to leave at each exit.

    `gated` policies read the signals that the configuration's `gate_features` name. The readiness at an exit depends on
    that exit alone, unless a policy `looks_back`: then on those before it as well, never on later ones.
    """

    gated: ClassVar[bool] = False
    looks_back: ClassVar[bool] = False

    def fit(self, scores: ExitScores, right: NDArray[np.bool_], features: Sequence[str]) -> list[dict[str, Any]]:
        """Fit on the `gate` split; return what JSON can hold, one entry an exit. Default: nothing to fit.

        `right` (n, E) tells whether leaving at an exit would have been right; `features` names a gate's inputs.
        """
        return [{} for _ in scores.layers]

    @abstractmethod
    def readiness(self, scores: ExitScores, fitted: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
        """Return the readiness (n, E), each in [0, 1]."""

    def macs(self, shape: TowerShape, features: Sequence[str]) -> int:
        """Return the MACs that the policy adds at every exit, beside the head. Default: none worth counting."""
        return 0

    def thresholds(self, grid: ThresholdGrid, exits: int) -> NDArray[np.float64]:
        """Return the thresholds to choose from, ascending from -inf to +inf. Default: the configuration's grid."""
        return grid.values


POLICIES: Registry[Policy] = Registry("exit policy", __name__)
