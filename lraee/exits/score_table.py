"""The score table: what every exit answers, and how sure it is.

It is long: one row a variant of the heads, image and exit, with the columns of COLUMNS. The model's own full-depth
answer is the exit with aggregation "final" and supervision "own".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("variant", "aggregation", "supervision", "layer")
SIGNALS = ("confidence", "margin", "entropy", "certainty", "sav", "energy")
COLUMNS = (*KEYS, "sample", "label", "prediction", *SIGNALS)
FINAL = ("final", "own")
_READ = ("sample", "label", "prediction", *SIGNALS)


@dataclass(frozen=True)
class ExitScores:
    """Scores of n images at E exits of one aggregation and supervision, and at full depth.

    prediction and the signals confidence, margin, entropy, certainty, sav, energy: (n, E). labels, final_prediction:
    (n,). layers: 1..depth, ascending. certainty is a ridge regression's estimate, from the vector that the head reads,
    that the exit is right; energy is the squared length of the patch tokens' mean.
    """

    layers: tuple[int, ...]
    samples: NDArray[np.int64]
    labels: NDArray[np.int32]
    prediction: NDArray[np.int32]
    confidence: NDArray[np.float32]
    margin: NDArray[np.float32]
    entropy: NDArray[np.float32]
    certainty: NDArray[np.float32]
    sav: NDArray[np.float32]
    energy: NDArray[np.float32]
    final_prediction: NDArray[np.int32]

    def signals(self, names: Sequence[str]) -> NDArray[np.floating]:
        """Stack the named signals, or what is derived from them: (n, E, len(names))."""
        return np.stack([_DERIVED[name](self) if name in _DERIVED else getattr(self, name) for name in names], axis=-1)


_TINY = np.float32(np.finfo(np.float32).tiny)
_DERIVED: dict[str, Callable[[ExitScores], NDArray[np.floating]]] = {
    "log-sav": lambda scores: np.log(np.maximum(scores.sav, _TINY)),
    "relative-sav": lambda scores: scores.sav / np.maximum(scores.energy, _TINY),
}


class ScoreTable:
    """Looks exits of one variant up in a long score table, whose rows are whole blocks of one exit each.

    Every block of a variant holds the same samples in one order; ValueError where one does not.
    """

    def __init__(self, blocks: "dict[tuple[str, str, int], pd.DataFrame]") -> None:
        # As arrays, once: pandas takes longer to find a column than what is done with it.
        self._exits = {exit_: {name: block[name].to_numpy() for name in _READ} for exit_, block in blocks.items()}
        (self.depth,) = (layer for *head, layer in blocks if tuple(head) == FINAL)
        self._own = self._exits[(*FINAL, self.depth)]
        self.samples = self._own["sample"]
        if any(not np.array_equal(block["sample"], self.samples) for block in self._exits.values()):
            raise ValueError("the score table does not hold every image at every exit")

    @property
    def labels(self) -> NDArray[np.int32]:
        return self._own["label"]

    @property
    def final_prediction(self) -> NDArray[np.int32]:
        """The model's own full-depth answers (n,)."""
        return self._own["prediction"]

    def at(
        self, aggregation: str, supervision: str, layers: Sequence[int], final: tuple[str, str] = FINAL
    ) -> ExitScores:
        """Pick exits, and the head (aggregation, supervision) that answers at full depth.

        KeyError where a head was not fitted.
        """
        blocks = [self._exits[(aggregation, supervision, layer)] for layer in layers]

        def column(name: str) -> NDArray[Any]:
            return np.stack([block[name] for block in blocks], axis=1)

        return ExitScores(
            layers=tuple(layers),
            samples=self.samples,
            labels=self.labels,
            prediction=column("prediction"),
            final_prediction=self._exits[(*final, self.depth)]["prediction"],
            **{name: column(name) for name in SIGNALS},
        )


def score_tables(frame: "pd.DataFrame") -> dict[str, ScoreTable]:
    """Split a long score table into one a variant."""
    blocks: dict[str, dict[tuple[str, str, int], pd.DataFrame]] = {}
    for (variant, *head), block in frame.groupby(list(KEYS), observed=True, sort=False):
        blocks.setdefault(str(variant), {})[tuple(head)] = block  # type: ignore[index]
    return {variant: ScoreTable(exits) for variant, exits in blocks.items()}
