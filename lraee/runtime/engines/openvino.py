"""OpenVINO: the same arithmetic in graphs that it compiles for the CPU; equal to torch up to the order of summation.

Sums in another order differ in their last bits, which now and then turns the rounding of an activation to a code.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from lraee.exits.score_table import SIGNALS
from lraee.models.tower import Tower
from lraee.runtime.engines import ENGINES, Engine
from lraee.runtime.exits import ExitHead, Told


@ENGINES.register("openvino")
class OpenVinoEngine(Engine):
    """One graph for the whole network, and one for each segment with the exit behind it, compiled when first needed."""

    package = "openvino"

    def __init__(self, tower: Tower, size: tuple[int, int], heads: Sequence[ExitHead] = (), identity: str = "") -> None:
        from lraee.runtime.openvino_graph import Graph, segment

        super().__init__(tower, size, heads)
        threads, ends = torch.get_num_threads(), [0, *self._ends]

        def graph(span: tuple[int, int], head: ExitHead | None = None) -> Graph:
            parts = (identity, span, head is not None) if identity else ()
            return Graph(partial(segment, tower, span, size, head), threads, parts)

        self._whole = graph((0, tower.shape.depth))
        self._segments = [graph(span, head) for span, head in zip(pairwise(ends), [*heads, None], strict=True)]

    def encode(self, pixels: Tensor) -> Tensor:
        return torch.from_numpy(self._whole(pixels)[0])

    def visit(self, index: int, x: Tensor) -> tuple[Tensor, Told]:
        z, logits, prediction, *signals = self._segments[index](x)
        return torch.from_numpy(z), Told(torch.from_numpy(logits), prediction, dict(zip(SIGNALS, signals, strict=True)))

    def finish(self, z: Tensor) -> Tensor:
        return torch.from_numpy(self._segments[-1](z)[0])
