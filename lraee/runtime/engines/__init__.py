"""Engines by name, which run the quantized network; one file each."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Self

from torch import Tensor

from lraee.models.tower import Tower
from lraee.registry import Registry

if TYPE_CHECKING:
    from lraee.runtime.exits import ExitHead, Told


class Engine(ABC):
    """A quantized network on the CPU, in float32: whole, and cut behind its exits 0..E-1, where it asks `heads`.

    `size` (H, W) is that of its pixels, `package` what has to be installed for it. Engines have as many threads as
    torch has when they are made. `identity` names all that the engine is made of, for what it may keep between
    processes; without one it keeps nothing.
    """

    package: str

    def __init__(
        self, tower: Tower, size: tuple[int, int], heads: "Sequence[ExitHead]" = (), identity: str = ""
    ) -> None:
        self._tower, self._size, self._heads = tower, size, heads
        self._ends = [*(head.layer for head in heads), tower.shape.depth]

    def with_heads(self, heads: "Sequence[ExitHead]") -> Self:
        """Return the same network that asks other heads."""
        return type(self)(self._tower, self._size, heads)

    @abstractmethod
    def encode(self, pixels: Tensor) -> Tensor:
        """Embed pixels (B, 3, H, W) at full depth, past all exits: (B, e)."""

    @abstractmethod
    def visit(self, index: int, x: Tensor) -> "tuple[Tensor, Told]":
        """Go on to an exit: the state (B, 1 + N, d) there, and what the exit tells of it.

        `x` is what the exit before it yielded; pixels for the first.
        """

    @abstractmethod
    def finish(self, z: Tensor) -> Tensor:
        """Go on from the state at the last exit to embeddings (B, e)."""


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
        package = ENGINES[name].package
        raise ValueError(f"the engine {name} needs a package that is not installed: pip install {package}")
    return ENGINES[name]
