"""What calibrating a quantizer takes, in time and memory."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lraee.process import peak_mib
from lraee.settings import Name, PositiveInt, Settings

if TYPE_CHECKING:
    from torch import Tensor

    from lraee.models.tower import Tower
    from lraee.quantize.schemes import Scheme


class CalibrationCost(Settings):
    """Calibrate `quantizers` on open_clip's architecture `model` as well, with random weights and pixels.

    Time and memory depend on neither. It shows what a method takes on a larger network than the experiment's.
    """

    quantizers: Annotated[tuple[Name, ...], Field(min_length=1)]
    model: str = "ViT-B-32"
    images: PositiveInt = 32


def calibration_cost(scheme: "Scheme", tower: "Tower", pixels: "Tensor") -> Mapping[str, float]:
    """Calibrate on pixels (n, 3, H, W), eight at a time; CPU and wall seconds, peaks before and after, and the state's
    size, MiB.
    """
    before, wall, cpu = peak_mib(), time.perf_counter(), time.process_time()
    state = scheme.calibrate(tower, lambda: pixels.split(8))
    return {
        "images": len(pixels),
        "cpu_seconds": time.process_time() - cpu,
        "wall_seconds": time.perf_counter() - wall,
        "peak_before_mib": before,
        "peak_mib": peak_mib(),
        "state_mib": sum(tensor.nbytes for tensor in state.values()) / 2**20,
    }
