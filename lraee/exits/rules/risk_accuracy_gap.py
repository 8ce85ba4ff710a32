"""Keep the accuracy lost by leaving early low, net of what is gained:

    risk = P(full depth right, routed wrong) - P(full depth wrong, routed right)

The loss of an image is -1, 0 or 1, and nearly always 0. Both shares are bounded by Clopper and Pearson's exact limits,
the first from above and the second from below, each at delta / 2; "risk > level" is rejected where the difference of
the limits is at most the level.

A bound for any loss in [0, 1], such as Hoeffding-Bentkus on (loss + 1) / 2, is valid too but blind to the small
variance: without a gain it certifies no level below sqrt(2 ln(1 / delta) / n), which for delta = 0.1 and n = 2,880 is 4
points. The exact limits certify from ln(2 / delta) / n on, 0.1 point, and do not depend on the order of the images, as
betting bounds do.

What is right is right by labels, or for heads without labels by the FP32 model's answers; the guarantee is in the same
terms. Where early exit gains, the risk is negative and binds nowhere.
"""

import numpy as np
from numpy.typing import NDArray

from lraee.exits.rules import RULES, Selection
from lraee.exits.rules.fixed_sequence import FixedSequence, left_and


def gap_bound(lost: NDArray[np.int64], gained: NDArray[np.int64], n: int, delta: float) -> NDArray[np.float64]:
    """Bound P(lost) - P(gained) from above with confidence 1 - delta, from the counts among n images (both (G,))."""
    from scipy.stats import beta  # here, because every job that reads the configuration imports this module

    # Where a count leaves no room for a limit (all lost, none gained) the beta distribution is undefined.
    highest_lost = np.where(lost < n, beta.ppf(1.0 - delta / 2.0, lost + 1, np.maximum(n - lost, 1)), 1.0)
    lowest_gained = np.where(gained > 0, beta.ppf(delta / 2.0, np.maximum(gained, 1), n - gained + 1), 0.0)
    return highest_lost - lowest_gained


class RiskAccuracyGap(FixedSequence):
    """The risk is the accuracy of full depth minus that of the routed network."""

    def rejects(self, selection: Selection, level: float, delta: float) -> NDArray[np.bool_]:
        exits, full = selection.right[:, :-1], selection.right[:, -1:]
        lost = left_and(selection.readiness, full & ~exits)
        gained = left_and(selection.readiness, ~full & exits)
        return gap_bound(lost, gained, len(selection.readiness), delta) <= level


RULES.register("risk-accuracy-gap")(RiskAccuracyGap())
