"""torch itself: integer products by oneDNN where a trial finds them exact on this CPU, in float32 elsewhere.

The same modules as in the benchmark, so that answers are the same to the bit.
"""

from collections.abc import Sequence

from torch import Tensor

from lraee.models.packed import packed
from lraee.models.tower import Tower
from lraee.runtime.engines import ENGINES, Engine
from lraee.runtime.exits import ExitHead, Told


@ENGINES.register("torch")
class TorchEngine(Engine):
    """Runs the tower's own blocks."""

    package = "torch"

    def __init__(self, tower: Tower, size: tuple[int, int], heads: Sequence[ExitHead] = (), identity: str = "") -> None:
        super().__init__(packed(tower), size, heads)

    def encode(self, pixels: Tensor) -> Tensor:
        return self._tower(pixels)

    def visit(self, index: int, x: Tensor) -> tuple[Tensor, Told]:
        z = (
            self._run(self._ends[index - 1], self._ends[index], x)
            if index
            else self._run(0, self._ends[0], self._tower.stem(x))
        )
        return z, self._heads[index](z)

    def finish(self, z: Tensor) -> Tensor:
        return self._tower.head(self._run(self._ends[-2], self._ends[-1], z))

    def _run(self, first: int, last: int, z: Tensor) -> Tensor:
        for block in self._tower.blocks[first:last]:
            z = block(z)
        return z
