"""Engines by name, which run the quantized network; one file each."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from lraee.models.tower import Tower
from lraee.registry import Registry


class Engine(ABC):
    """The network cut into segments behind the blocks `stops` (1..depth, ascending); the last ends in the embedding."""

    @abstractmethod
    def __init__(self, tower: Tower, stops: Sequence[int]) -> None: ...

    @abstractmethod
    def run(self, segment: int, x: Tensor) -> Tensor:
        """Run segment 0..len(stops), in float32 on the CPU.

        The first takes pixels (B, 3, H, W), the others the state (B, 1 + N, d) that the one before yields; the last
        yields embeddings (B, e).
        """


ENGINES: Registry[type[Engine]] = Registry("engine", __name__)
