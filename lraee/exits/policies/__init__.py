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
from lraee.registry import Registry


class Policy(ABC):
    """How ready an image is to leave at each exit.

    `gated` policies compute SAV and a gate at every exit, which is counted in their cost.
    """

    gated: ClassVar[bool] = False

    def fit(self, scores: ExitScores, right: NDArray[np.bool_], features: Sequence[str]) -> list[dict[str, Any]]:
        """Fit on the `gate` split; return what JSON can hold, one entry an exit. Default: nothing to fit.

        `right` (n, E) tells whether leaving at an exit would have been right; `features` names a gate's inputs.
        """
        return [{} for _ in scores.layers]

    @abstractmethod
    def readiness(self, scores: ExitScores, fitted: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
        """Return the readiness (n, E), each in [0, 1]."""


POLICIES: Registry[Policy] = Registry("exit policy", __name__)
