"""OpenVINO: the same arithmetic in graphs that it compiles for the CPU; equal to torch up to the order of summation.

Sums in another order differ in their last bits, which now and then turns the rounding of an activation to a code.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from lraee.exits.score_table import SIGNALS
from lraee.models.tower import Tower
from lraee.runtime.engines import ENGINES, Engine
from lraee.runtime.exits import ExitHead, Told


@ENGINES.register("openvino")
class OpenVinoEngine(Engine):
    """Compiles each segment for batches of any size and as many threads as torch has."""

    package = "openvino"

    def __init__(self, tower: Tower, stops: Sequence[int], size: tuple[int, int]) -> None:
        from lraee.runtime.openvino_graph import runner, segment

        ends = [0, *stops, tower.shape.depth]
        self._threads, self._shape = torch.get_num_threads(), tower.shape
        self._segments = [runner(segment(tower, *pair, size), self._threads) for pair in pairwise(ends)]

    def run(self, segment: int, x: Tensor) -> Tensor:
        return torch.from_numpy(self._segments[segment](x)[0])

    def exit(self, head: ExitHead) -> Callable[[Tensor], Told]:
        """One call instead of some fifty of torch's, each of which takes microseconds."""
        from lraee.runtime.openvino_graph import exit_graph, runner

        run = runner(exit_graph(head, self._shape), self._threads)

        def ask(z: Tensor) -> Told:
            logits, prediction, *signals = run(z)
            return Told(torch.from_numpy(logits), prediction, dict(zip(SIGNALS, signals, strict=True)))

        return ask
