"""Who of a batch leaves at an exit, decided as in the evaluation: by the same heads, signals, gates and thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lraee.exits.heads import Heads
from lraee.exits.policies import Policy
from lraee.exits.score_table import SIGNALS, ExitScores
from lraee.exits.signals import Probes, summarise
from lraee.features.extract import at_layer
from lraee.models.tower import ClassEmbeddings


class Told(NamedTuple):
    """What an exit tells of B images: logits (B, K), the class (B,), and every signal by name (B,), float32."""

    logits: Tensor
    prediction: NDArray[np.integer]
    signals: dict[str, NDArray[np.float32]]

    def of(self, some: NDArray[np.bool_]) -> "Told":
        """Keep some of the images (B,)."""
        signals = {name: signal[some] for name, signal in self.signals.items()}
        return Told(self.logits[torch.from_numpy(some)], self.prediction[some], signals)


@dataclass(frozen=True)
class ExitHead:
    """One exit's head and probe (stacks of one), what they read of a state (B, 1 + N, d), and the classes."""

    aggregation: str
    head: Heads
    probe: Probes
    classes: ClassEmbeddings

    @property
    def layer(self) -> int:
        """Where the exit is, 1..depth."""
        return self.head.keys[0].layer

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
    """Who leaves an exported network where: its exits, E of them, in ascending order."""

    layers: tuple[int, ...]
    policy: Policy
    gates: Sequence[dict[str, Any]]
    thresholds: Sequence[float]

    def leaving(self, told: Sequence[Told]) -> NDArray[np.bool_]:
        """Decide who of B images leaves at an exit (B,), by what it tells, and what those before it told of them."""
        index = len(told) - 1
        if self.policy.looks_back:
            # Readiness at an exit does not depend on later ones: the last stands in for them.
            columns, seen = slice(None), [*told, *[told[-1]] * (len(self.layers) - len(told))]
        else:
            columns, seen = slice(index, index + 1), [told[-1]]
        readiness = self.policy.readiness(_scores(self.layers[columns], seen), self.gates[columns])
        ready: NDArray[np.bool_] = readiness[:, index if self.policy.looks_back else 0] > self.thresholds[index]
        return ready


def _scores(layers: tuple[int, ...], told: Sequence[Told]) -> ExitScores:
    """As a policy reads them; labels and answers at full depth are not known and -1."""
    prediction = np.array([one.prediction for one in told], dtype=np.int32).T
    unknown = np.full(len(prediction), -1, dtype=np.int32)
    return ExitScores(
        layers=layers, samples=np.arange(len(unknown)), labels=unknown, prediction=prediction, final_prediction=unknown,
        **{name: np.array([one.signals[name] for one in told]).T for name in SIGNALS},
    )  # fmt: skip
