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

    def prepare(self, tower: Tower, calibration: Tensor) -> Callable[[Tensor], Tensor]:
        height, width = calibration.shape[2:]
        return ENGINES["openvino"](tower, (height, width)).encode
