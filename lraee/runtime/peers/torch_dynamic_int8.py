"""torch's own INT8: `quantize_dynamic` on every Linear, ranges of activations found anew for every batch."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lraee.models.tower import Tower
from lraee.runtime.peers import PEERS, Peer


@PEERS.register("torch-dynamic-int8")
class TorchDynamicInt8(Peer):
    """Bytes by FBGEMM, or whichever engine torch was built with."""

    label = "torch, dynamic INT8"
    int8 = True

    def __init__(self, tower: Tower, calibration: Tensor) -> None:
        self._tower = torch.ao.quantization.quantize_dynamic(copy.deepcopy(tower), {nn.Linear}, torch.qint8)

    def start(self) -> Callable[[Tensor], Tensor]:
        return self._tower
