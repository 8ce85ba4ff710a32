from typing import Any

import torch
from torch import Tensor

from lraee.evaluation.calibrations import COST_COLUMNS
from lraee.quantize.cost import calibration_cost, peak_mib
from lraee.quantize.schemes import ActivationSpec, WeightSpec
from lraee.quantize.schemes.uniform import Uniform

STATIC = Uniform(scheme="uniform", weights=WeightSpec(granularity="channel"), activations=ActivationSpec())


class Hungry(Uniform):
    """Takes 200 MiB while it calibrates."""

    def calibrate(self, tower: Any, batches: Any) -> dict[str, Tensor]:
        seen = sum(len(batch) for batch in batches())
        return {"blocks.0.seen": torch.full((200, 2**18), float(seen))}


def test_the_cost_is_that_of_calibrating(tower: Any) -> None:
    hungry = Hungry(scheme="uniform", weights=WeightSpec(), activations=ActivationSpec())
    cost = calibration_cost(hungry, tower, torch.randn(20, 3, 32, 32))
    assert {"quantizer", "model", *cost} == set(COST_COLUMNS)
    assert cost["images"] == 20
    assert cost["state_mib"] == 200
    assert cost["peak_mib"] - cost["peak_before_mib"] > 100
    assert cost["cpu_seconds"] > 0
    assert peak_mib() >= cost["peak_mib"]


def test_the_state_is_that_of_all_images(tower: Any) -> None:
    pixels = torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    state = STATIC.calibrate(tower, lambda: [pixels])
    cost = calibration_cost(STATIC, tower, pixels)
    assert cost["state_mib"] == sum(tensor.nbytes for tensor in state.values()) / 2**20
