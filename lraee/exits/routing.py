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
    """What routing did to n images: their place (0..E, E = full depth), the answer there, and whether it is right.

    `full_correct`: whether the head that answers at full depth is right.
    """

    layers: tuple[int, ...]
    place: NDArray[np.int64]
    answer: NDArray[np.int32]
    correct: NDArray[np.bool_]
    full_correct: NDArray[np.bool_]

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of the images that leave at each of the E exits and at full depth: (E + 1,)."""
        return np.bincount(self.place, minlength=len(self.layers) + 1) / len(self.place)


def answers(scores: ExitScores) -> NDArray[np.int32]:
    """Return the answer at each exit and at full depth: (n, E + 1)."""
    return np.column_stack([scores.prediction, scores.final_prediction])


def outcome(scores: ExitScores, place: NDArray[np.int64]) -> Outcome:
    """Look up the answer of every image at its place."""
    answer = answers(scores)[np.arange(len(place)), place]
    return Outcome(scores.layers, place, answer, answer == scores.labels, scores.final_prediction == scores.labels)


def oracle_place(scores: ExitScores) -> NDArray[np.int64]:
    """Return the first place (n,) whose answer is right, else full depth: an upper bound, which needs the labels."""
    right = answers(scores) == scores.labels[:, None]
    return np.where(right.any(axis=1), right.argmax(axis=1), len(scores.layers))


def random_place(place: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Deal the places of a routing to the images at random: same exit shares and cost, no choice; a lower bound."""
    return np.random.default_rng(seed).permutation(place)
