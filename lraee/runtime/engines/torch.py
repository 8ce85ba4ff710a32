"""torch itself: integer products by oneDNN where a trial finds them exact on this CPU, in float32 elsewhere.

The same modules as in the benchmark, so that answers are the same to the bit.
"""

from collections.abc import Sequence

from torch import Tensor

from lraee.models.packed import packed
from lraee.models.tower import Tower
from lraee.runtime.engines import ENGINES, Engine


@ENGINES.register("torch")
class TorchEngine(Engine):
    """Runs the tower's own blocks."""

    package = "torch"

    def __init__(self, tower: Tower, stops: Sequence[int], size: tuple[int, int]) -> None:
        self._tower = packed(tower)
        self._ends = [*stops, tower.shape.depth]

    def run(self, segment: int, x: Tensor) -> Tensor:
        first = self._ends[segment - 1] if segment else 0
        z = x if segment else self._tower.stem(x)
        for block in self._tower.blocks[first : self._ends[segment]]:
            z = block(z)
        return self._tower.head(z) if segment == len(self._ends) - 1 else z
