"""Engines by name, which run the quantized network; one file each."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from torch import Tensor

from lraee.models.tower import Tower
from lraee.registry import Registry

if TYPE_CHECKING:
    from lraee.runtime.exits import ExitHead, Told


class Engine(ABC):
    """The network cut into segments behind the blocks `stops` (1..depth, ascending); the last ends in the embedding.

    `package` is what has to be installed for it. Engines have as many threads as torch has when they are made.
    """

    package: str

    @abstractmethod
    def __init__(self, tower: Tower, stops: Sequence[int], size: tuple[int, int]) -> None: ...

    @abstractmethod
    def run(self, segment: int, x: Tensor) -> Tensor:
        """Run segment 0..len(stops), in float32 on the CPU.

        The first takes pixels (B, 3, H, W) of the `size` (H, W), the others the state (B, 1 + N, d) that the one before
        yields; the last yields embeddings (B, e).
        """

    def exit(self, head: "ExitHead") -> "Callable[[Tensor], Told]":
        """Return what asks an exit about states (B, 1 + N, d). Default: the head itself, in torch."""
        return head


ENGINES: Registry[type[Engine]] = Registry("engine", __name__)

PREFERRED = ("openvino", "torch")
"""Fastest first, as measured by the latency benchmark."""


def installed() -> list[str]:
    """Name the engines whose package is installed, those that are preferred first."""
    rest = [name for name in ENGINES if name not in PREFERRED]
    return [name for name in (*PREFERRED, *rest) if find_spec(ENGINES[name].package) is not None]


def choose(name: str | None) -> type[Engine]:
    """Return the engine of a name, or the fastest that is installed; ValueError where there is none of that name."""
    if name is None:
        return ENGINES[installed()[0]]
    if name not in list(ENGINES):
        raise ValueError(f"engine is {name!r}, but must be one of {', '.join(ENGINES)}")
    if name not in installed():
        raise ValueError(f"the engine {name} needs a package that is not installed: pip install 'lraee[{name}]'")
    return ENGINES[name]
