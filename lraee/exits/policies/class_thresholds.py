"""Class-based thresholding (CBT, arXiv 2210.15621): classes that are told apart easily get lower thresholds.

With g_c in [0, 1] the mean top-2 margin of class c, scaled over the classes from the least (0) to the largest (1):

    leave where  confidence > tau_c = tau + SPAN * (1/2 - g_c),   c the predicted class

so g is mapped inversely into [tau - SPAN/2, tau + SPAN/2]. Margins are averaged over the `gate` images *predicted* as
c, which is what the threshold is looked up by, and which needs no labels. For one tau on all classes, the shift is
taken from the confidence instead of added to the threshold: for tau in [0, 1) that is the same.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lraee.exits.policies import POLICIES, Policy
from lraee.exits.score_table import ExitScores

SPAN = 0.2
"""Distance of the highest from the lowest threshold. The paper sets both by hand. Here their middle, tau, is chosen on
`select` like every policy's threshold and the span is not, so that this policy has no more freedom than the others; at
0.2 a class is moved by up to three steps of the default grid (0.03 each)."""
NEUTRAL = 0.5
"""The g of a class that was never predicted: its threshold is tau itself."""


def class_gaps(prediction: NDArray[np.int32], margin: NDArray[np.float32]) -> list[float]:
    """Return g of the classes 0, 1, .. from one exit's predictions and margins (n,), up to the last one predicted."""
    counts = np.bincount(prediction)
    means = np.bincount(prediction, weights=margin) / np.maximum(counts, 1)
    seen = counts > 0
    low, high = means[seen].min(), means[seen].max()
    if high == low:
        return [NEUTRAL] * len(counts)
    return np.where(seen, (means - low) / (high - low), NEUTRAL).tolist()


class ClassThresholds(Policy):
    """Readiness is the confidence, shifted by how easy the predicted class is."""

    def fit(self, scores: ExitScores, right: NDArray[np.bool_], features: Sequence[str]) -> list[dict[str, Any]]:
        exits = range(len(scores.layers))
        return [{"gaps": class_gaps(scores.prediction[:, e], scores.margin[:, e])} for e in exits]

    def readiness(self, scores: ExitScores, fitted: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
        columns = []
        for exit_, classes in enumerate(fitted):
            # One more entry stands for every class beyond the last that was predicted while fitting.
            gaps = np.append(classes["gaps"], NEUTRAL)
            g = gaps[np.minimum(scores.prediction[:, exit_], len(gaps) - 1)]
            columns.append(scores.confidence[:, exit_] - SPAN * (NEUTRAL - g))
        return np.clip(np.stack(columns, axis=1), 0.0, 1.0)


POLICIES.register("class-thresholds")(ClassThresholds())
