"""Training that goes on where it was interrupted, to the same bytes."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lraee.tensors import read_tensors, write_tensors

MINUTES = 5.0


@dataclass
class Checkpoint:
    """The state of an Adam run over named parameters, kept in `path` every few minutes.

    `path` must name all that the run depends on: a checkpoint of another run cannot be told from one's own.
    """

    path: Path
    minutes: float = MINUTES
    _saved: float = field(default_factory=time.monotonic)

    def restore(self, parameters: dict[str, Tensor], optimiser: torch.optim.Adam) -> int:
        """Put a kept state into the parameters and the optimiser; return the steps done (0 where nothing is kept)."""
        if not self.path.exists():
            return 0
        tensors, metadata = read_tensors(self.path)
        for name, parameter in parameters.items():
            parameter.data.copy_(tensors[name])
            optimiser.state[parameter] = {key: tensors[f"{name}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
        return int(metadata["steps"])

    def keep(self, parameters: dict[str, Tensor], optimiser: torch.optim.Adam, steps: int) -> None:
        """Keep the state after `steps`, if the last one is old enough."""
        if time.monotonic() - self._saved < 60.0 * self.minutes:
            return
        tensors = {name: parameter.detach() for name, parameter in parameters.items()}
        for name, parameter in parameters.items():
            tensors |= {f"{name}.{key}": value for key, value in optimiser.state[parameter].items()}
        write_tensors(self.path, tensors, {"steps": steps})
        self._saved = time.monotonic()
