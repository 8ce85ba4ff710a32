"""OpenVINO: the same arithmetic in graphs that it compiles for the CPU; equal to torch up to the order of summation.

Sums in another order differ in their last bits, which now and then turns the rounding of an activation to a code.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from lraee.models.tower import Tower
from lraee.runtime.engines import ENGINES, Engine


@ENGINES.register("openvino")
class OpenVinoEngine(Engine):
    """Compiles each segment for batches of any size and as many threads as torch has."""

    package = "openvino"

    def __init__(self, tower: Tower, stops: Sequence[int], size: tuple[int, int]) -> None:
        from lraee.runtime.openvino_graph import compiled, segment

        ends = [0, *stops, tower.shape.depth]
        models = [segment(tower, *pair, size) for pair in pairwise(ends)]
        self._requests = [compiled(model, torch.get_num_threads()).create_infer_request() for model in models]

    def run(self, segment: int, x: Tensor) -> Tensor:
        found = self._requests[segment].infer([x.contiguous().numpy()], share_inputs=True)
        return torch.from_numpy(found[0])
