"""ONNX Runtime's INT8 as its users get it: static quantization, weights by channel, its own defaults otherwise."""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from lraee.models.tower import Tower
from lraee.runtime.peers import PEERS, Peer


@PEERS.register("onnxruntime-int8")
class OnnxRuntimeInt8(Peer):
    """The tower as ONNX, quantized and run by ONNX Runtime."""

    label = "ONNX Runtime, INT8"
    int8 = True
    packages = ("onnx", "onnxscript", "onnxruntime")

    def __init__(self, tower: Tower, calibration: Tensor) -> None:
        from onnxruntime.quantization import quant_pre_process, quantize_static

        with TemporaryDirectory() as folder:
            given, plain, quantized = (Path(folder) / f"{name}.onnx" for name in ("given", "plain", "quantized"))
            torch.onnx.export(
                tower, (calibration[:2],), given, input_names=["pixels"], output_names=["embeddings"],
                dynamic_shapes=({0: torch.export.Dim("batch")},), external_data=False, verbose=False,
            )  # fmt: skip
            quant_pre_process(given, plain)
            quantize_static(plain, quantized, _reader(calibration), per_channel=True)
            self._model = quantized.read_bytes()

    def start(self) -> Callable[[Tensor], Tensor]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(self._model, options, providers=["CPUExecutionProvider"])
        return lambda pixels: torch.from_numpy(session.run(None, {"pixels": pixels.contiguous().numpy()})[0])


def _reader(calibration: Tensor) -> Any:
    """Hand out images one by one, as ONNX Runtime asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._images: Iterator[dict[str, Any]] = ({"pixels": image.numpy()} for image in calibration.split(1))

        def get_next(self) -> dict[str, Any] | None:
            return next(self._images, None)

    return Reader()
