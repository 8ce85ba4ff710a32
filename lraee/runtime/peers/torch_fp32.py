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

    def __init__(self, tower: Tower, calibration: Tensor) -> None:
        self._tower = tower

    def start(self) -> Callable[[Tensor], Tensor]:
        return self._tower
