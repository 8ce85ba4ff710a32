"""The score table: what every exit answers, and how sure it is.

It is long: one row an image and exit, with the columns of COLUMNS. The model's own full-depth answer is the exit with
aggregation "final" and supervision "own".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

COLUMNS = (
    "sample", "label", "aggregation", "supervision", "layer", "prediction", "confidence", "margin", "entropy", "sav",
)  # fmt: skip
FINAL = ("final", "own")


@dataclass(frozen=True)
class ExitScores:
    """Scores of n images at E exits of one aggregation and supervision, and at full depth.

    prediction, confidence, margin, entropy, sav: (n, E). labels, final_prediction: (n,). layers: 1..depth, ascending.
    """

    layers: tuple[int, ...]
    samples: NDArray[np.int64]
    labels: NDArray[np.int32]
    prediction: NDArray[np.int32]
    confidence: NDArray[np.float32]
    margin: NDArray[np.float32]
    entropy: NDArray[np.float32]
    sav: NDArray[np.float32]
    final_prediction: NDArray[np.int32]

    def signals(self, names: Sequence[str]) -> NDArray[np.float32]:
        """Stack the named signals: (n, E, len(names))."""
        return np.stack([getattr(self, name) for name in names], axis=-1)


class ScoreTable:
    """Looks exits up in a long score table, whose rows are whole blocks of one exit each, samples in one order."""

    def __init__(self, frame: pd.DataFrame) -> None:
        grouped = frame.groupby(["aggregation", "supervision", "layer"], observed=True, sort=False)
        self._exits = dict(iter(grouped))
        self._final = next(block for key, block in self._exits.items() if key[:2] == FINAL)
        self.samples = self._final["sample"].to_numpy()
        if any(not np.array_equal(block["sample"].to_numpy(), self.samples) for block in self._exits.values()):
            raise ValueError("the score table does not hold every image at every exit")

    @property
    def labels(self) -> NDArray[np.int32]:
        return self._final["label"].to_numpy()

    @property
    def final_prediction(self) -> NDArray[np.int32]:
        return self._final["prediction"].to_numpy()

    def at(self, aggregation: str, supervision: str, layers: Sequence[int]) -> ExitScores:
        """Pick exits; KeyError where a head was not fitted."""
        blocks = [self._exits[(aggregation, supervision, layer)] for layer in layers]

        def column(name: str) -> NDArray[Any]:
            return np.stack([block[name].to_numpy() for block in blocks], axis=1)

        return ExitScores(
            layers=tuple(layers),
            samples=self.samples,
            labels=self.labels,
            prediction=column("prediction"),
            confidence=column("confidence"),
            margin=column("margin"),
            entropy=column("entropy"),
            sav=column("sav"),
            final_prediction=self.final_prediction,
        )
