"""Keep the share of images low that leave early with another answer than full depth's (consistency risk; no labels).

Leaving early and disagreeing is a yes-or-no event, so the test is the exact binomial one: with k of n images, "risk >
level" is rejected where P(Binomial(n, level) <= k) <= delta.
"""

import numpy as np
from numpy.typing import NDArray

from lraee.exits.rules import RULES, Selection
from lraee.exits.rules.fixed_sequence import FixedSequence, left_and


class RiskDisagreement(FixedSequence):
    """The risk is P(left early and answered otherwise than full depth)."""

    def rejects(self, selection: Selection, level: float, delta: float) -> NDArray[np.bool_]:
        from scipy.stats import binom  # here, because every job that reads the configuration imports this module

        losses = left_and(selection.readiness, ~selection.agrees)
        return binom.cdf(losses, len(selection.readiness), level) <= delta


RULES.register("risk-disagreement")(RiskDisagreement())
