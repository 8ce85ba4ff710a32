"""OpenVINO's INT8 as its users get it: NNCF's post-training quantization for transformers, its own defaults."""

import os
from collections.abc import Callable

import torch
from torch import Tensor

from lraee.models.tower import Tower
from lraee.runtime.peers import PEERS, Peer


@PEERS.register("openvino-nncf-int8")
class OpenVinoNncf(Peer):
    """NNCF chooses what is quantized, and its ranges; OpenVINO runs it."""

    label = "OpenVINO with NNCF, INT8"
    int8 = True
    packages = ("openvino", "nncf")

    def __init__(self, tower: Tower, calibration: Tensor) -> None:
        os.environ.setdefault("NNCF_CI", "1")  # a benchmark tells nobody that it runs
        import nncf

        from lraee.runtime.openvino_graph import segment

        height, width = calibration.shape[2:]
        images = nncf.Dataset([image.numpy() for image in calibration.split(1)])
        self._model = nncf.quantize(
            segment(tower, (0, tower.shape.depth), (height, width)), images, model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(calibration),
        )  # fmt: skip

    def start(self) -> Callable[[Tensor], Tensor]:
        from lraee.runtime.openvino_graph import Graph

        run = Graph(self._model.clone, torch.get_num_threads())
        return lambda pixels: torch.from_numpy(run(pixels)[0])
