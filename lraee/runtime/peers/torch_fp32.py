"""torch in FP32, as it is: what all ratios are to."""

from collections.abc import Callable

from torch import Tensor

from lraee.evaluation.timings import REFERENCE
from lraee.models.tower import Tower
from lraee.runtime.peers import PEERS, Peer


@PEERS.register("torch-fp32")
class TorchFp32(Peer):
    """The tower's own modules."""

    label = REFERENCE
    int8 = False

    def prepare(self, tower: Tower, calibration: Tensor) -> Callable[[Tensor], Tensor]:
        return tower
