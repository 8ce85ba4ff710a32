"""Who of a batch leaves at an exit, decided as in the evaluation: by the same heads, signals, gates and thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lraee.exits.heads import Heads
from lraee.exits.policies import Policy
from lraee.exits.score_table import SIGNALS, ExitScores
from lraee.exits.scores import Probes, summarise
from lraee.features.extract import at_layer
from lraee.models.tower import ClassEmbeddings


@dataclass(frozen=True)
class Exits:
    """The exits of an exported network, E of them, in ascending order: a stack of one head, and a probe, for each."""

    layers: tuple[int, ...]
    aggregation: str
    heads: Sequence[Heads]
    probes: Sequence[Probes]
    policy: Policy
    gates: Sequence[dict[str, Any]]
    thresholds: Sequence[float]

    def visit(
        self, index: int, z: Tensor, so_far: "SoFar", classes: ClassEmbeddings
    ) -> tuple[Tensor, NDArray[np.bool_]]:
        """Answer the images that are still there at an exit: their logits (B, K), and who leaves (B,).

        `z` is the state (B, 1 + N, d). `so_far` takes what the exit tells of them.
        """
        cls, mean, sav = at_layer(z)
        # Features are kept in float16, and heads were fitted to that.
        x = (mean if self.aggregation == "ssa" else cls).float()
        logits = classes.logits(self.heads[index].embed(x[None])[0])
        so_far.put(index, summarise(logits), {
            "certainty": self.probes[index].certainty(x[None])[0].numpy(),
            "sav": sav.numpy(),
            "energy": np.square(mean.float().numpy()).sum(axis=1),
        })  # fmt: skip
        readiness = self.policy.readiness(so_far.scores(self.layers), self.gates)
        return logits, readiness[:, index] > self.thresholds[index]


class SoFar:
    """What the exits met so far tell of `images` images: columns of later exits are still zero."""

    def __init__(self, images: int, exits: int) -> None:
        self._prediction = np.zeros((images, exits), dtype=np.int32)
        self._signals = {name: np.zeros((images, exits), dtype=np.float32) for name in SIGNALS}

    def put(self, index: int, answers: dict[str, NDArray[Any]], others: dict[str, NDArray[Any]]) -> None:
        """Fill the column of an exit."""
        self._prediction[:, index] = answers["prediction"]
        for name, signal in self._signals.items():
            signal[:, index] = answers[name] if name in answers else others[name]

    def keep(self, stay: NDArray[np.bool_]) -> None:
        """Go on with those that stay."""
        self._prediction = self._prediction[stay]
        self._signals = {name: signal[stay] for name, signal in self._signals.items()}

    def scores(self, layers: tuple[int, ...]) -> ExitScores:
        """As a policy reads them; labels and answers at full depth are not known and -1."""
        unknown = np.full(len(self._prediction), -1, dtype=np.int32)
        return ExitScores(
            layers=layers, samples=np.arange(len(unknown)), labels=unknown, prediction=self._prediction,
            final_prediction=unknown, **self._signals,
        )  # fmt: skip
