"""Who of a batch leaves at an exit, decided as in the evaluation: by the same heads, signals, gates and thresholds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lraee.exits.heads import Heads
from lraee.exits.policies import Policy
from lraee.exits.score_table import SIGNALS, ExitScores
from lraee.exits.scores import Probes, summarise
from lraee.features.extract import at_layer
from lraee.models.tower import ClassEmbeddings


class Told(NamedTuple):
    """What an exit tells of B images: logits (B, K), the class (B,), and every signal by name (B,), float32."""

    logits: Tensor
    prediction: NDArray[np.integer]
    signals: dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class ExitHead:
    """One exit's head and probe (stacks of one), what they read of a state (B, 1 + N, d), and the classes."""

    aggregation: str
    head: Heads
    probe: Probes
    classes: ClassEmbeddings

    def __call__(self, z: Tensor) -> Told:
        """Ask the exit, as the benchmark does."""
        cls, mean, sav = at_layer(z)
        # Features are kept in float16, and heads were fitted to that.
        x = (mean if self.aggregation == "ssa" else cls).float()
        logits = self.classes.logits(self.head.embed(x[None])[0])
        found = summarise(logits) | {
            "certainty": self.probe.certainty(x[None])[0].numpy(),
            "sav": sav.numpy(),
            "energy": np.square(mean.float().numpy()).sum(axis=1),
        }
        return Told(logits, found["prediction"], {name: found[name] for name in SIGNALS})


@dataclass(frozen=True)
class Exits:
    """The exits of an exported network, E of them, in ascending order; `ask` are the heads as an engine runs them."""

    layers: tuple[int, ...]
    heads: Sequence[ExitHead]
    ask: Sequence[Callable[[Tensor], Told]]
    policy: Policy
    gates: Sequence[dict[str, Any]]
    thresholds: Sequence[float]

    def with_classes(self, classes: ClassEmbeddings, run: Callable[[ExitHead], Callable[[Tensor], Told]]) -> Self:
        """Answer with other classes; `run` is the engine's way to run a head."""
        heads = [replace(head, classes=classes) for head in self.heads]
        return replace(self, heads=heads, ask=[run(head) for head in heads])

    def visit(self, index: int, z: Tensor, so_far: "SoFar") -> tuple[Tensor, NDArray[np.bool_]]:
        """Answer the images that are still there at an exit: their logits (B, K), and who leaves (B,).

        `z` is the state (B, 1 + N, d). `so_far` takes what the exit tells of them.
        """
        told = self.ask[index](z)
        so_far.put(index, told)
        # Most policies look at one exit at a time, and need not be asked about all again.
        columns = slice(None) if self.policy.looks_back else slice(index, index + 1)
        readiness = self.policy.readiness(so_far.scores(self.layers, columns), self.gates[columns])
        ready = readiness[:, index if self.policy.looks_back else 0]
        return told.logits, ready > self.thresholds[index]


class SoFar:
    """What the exits met so far tell of `images` images: columns of later exits are still zero."""

    def __init__(self, images: int, exits: int) -> None:
        self._prediction = np.zeros((images, exits), dtype=np.int32)
        self._signals = {name: np.zeros((images, exits), dtype=np.float32) for name in SIGNALS}

    def put(self, index: int, told: Told) -> None:
        """Fill the column of an exit."""
        self._prediction[:, index] = told.prediction
        for name, signal in self._signals.items():
            signal[:, index] = told.signals[name]

    def keep(self, stay: NDArray[np.bool_]) -> None:
        """Go on with those that stay."""
        self._prediction = self._prediction[stay]
        self._signals = {name: signal[stay] for name, signal in self._signals.items()}

    def scores(self, layers: tuple[int, ...], columns: slice) -> ExitScores:
        """As a policy reads them, of some exits; labels and answers at full depth are not known and -1."""
        unknown = np.full(len(self._prediction), -1, dtype=np.int32)
        return ExitScores(
            layers=layers[columns], samples=np.arange(len(unknown)), labels=unknown,
            prediction=self._prediction[:, columns], final_prediction=unknown,
            **{name: signal[:, columns] for name, signal in self._signals.items()},
        )  # fmt: skip
