"""Routing: who leaves where, and what that gives."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lraee.exits.score_table import ExitScores


def route(readiness: NDArray[np.float64], thresholds: Sequence[float]) -> NDArray[np.int64]:
    """Return each image's place (n,): the first exit whose readiness (n, E) is *above* its threshold, else E.

    A threshold of -inf lets everybody leave, +inf nobody.
    """
    leaves = readiness > np.asarray(thresholds)
    return np.where(leaves.any(axis=1), leaves.argmax(axis=1), readiness.shape[1])


@dataclass(frozen=True)
class Outcome:
    """What routing did to n images: their place (0..E, E = full depth), and whether the answer there was right."""

    layers: tuple[int, ...]
    place: NDArray[np.int64]
    correct: NDArray[np.bool_]
    full_correct: NDArray[np.bool_]

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of the images that leave at each of the E exits and at full depth: (E + 1,)."""
        return np.bincount(self.place, minlength=len(self.layers) + 1) / len(self.place)


def outcome(scores: ExitScores, place: NDArray[np.int64]) -> Outcome:
    """Look up the answer of every image at its place."""
    answers = np.column_stack([scores.prediction, scores.final_prediction])
    chosen = answers[np.arange(len(place)), place]
    return Outcome(scores.layers, place, chosen == scores.labels, scores.final_prediction == scores.labels)
