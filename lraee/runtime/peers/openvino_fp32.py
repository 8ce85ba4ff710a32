"""OpenVINO in FP32: what its graphs gain without quantization."""

from collections.abc import Callable

from torch import Tensor

from lraee.models.tower import Tower
from lraee.runtime.engines import ENGINES
from lraee.runtime.peers import PEERS, Peer


@PEERS.register("openvino-fp32")
class OpenVinoFp32(Peer):
    """The runtime's own engine, given the unquantized tower."""

    label = "OpenVINO, FP32"
    int8 = False
    packages = ("openvino",)

    def __init__(self, tower: Tower, calibration: Tensor) -> None:
        height, width = calibration.shape[2:]
        self._tower, self._size = tower, (height, width)

    def start(self) -> Callable[[Tensor], Tensor]:
        return ENGINES["openvino"](self._tower, self._size).encode
