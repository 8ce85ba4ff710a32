from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from lraee.models.tower import ROLES
from lraee.quantize.schemes import ActivationSpec, WeightSpec
from lraee.quantize.schemes.dynamic_int8 import DynamicInt8
from lraee.quantize.schemes.uniform import Uniform


def _scheme(granularity: Any = "tensor", **activations: Any) -> Uniform:
    return Uniform(
        scheme="uniform", weights=WeightSpec(granularity=granularity), activations=ActivationSpec(**activations)
    )


def _inputs_of(tower: Any, name: str, pixels: torch.Tensor) -> np.ndarray:
    seen: list[torch.Tensor] = []
    handle = tower.get_submodule(name).register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    tower(pixels)
    handle.remove()
    return seen[0].numpy()


@pytest.mark.parametrize("name", ["blocks.0.qkv", "blocks.1.proj", "blocks.2.fc1", "blocks.3.fc2"])
def test_min_max_ranges_are_those_of_all_calibration_images(tower: Any, pixels: torch.Tensor, name: str) -> None:
    state = _scheme().calibrate(tower, lambda: pixels.split(3))
    values = _inputs_of(tower, name, pixels)
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    assert state[f"{name}.input_scale"].item() == pytest.approx((high - low) / 255, rel=1e-4)
    assert state[f"{name}.input_zero_point"].item() == pytest.approx(np.rint(-low / ((high - low) / 255)), abs=1)


def test_percentile_ranges_are_numpys_percentiles(tower: Any, pixels: torch.Tensor) -> None:
    state = _scheme(observer="percentile", percentile=99.0).calibrate(tower, lambda: pixels.split(3))
    values = _inputs_of(tower, "blocks.2.fc2", pixels)
    low, high = np.percentile(values, [1.0, 99.0])
    assert state["blocks.2.fc2.input_scale"].item() == pytest.approx((high - min(low, 0)) / 255, rel=0.01)


@pytest.mark.parametrize("observer", ["min-max", "percentile", "mse"])
def test_the_batch_size_does_not_change_the_ranges(tower: Any, pixels: torch.Tensor, observer: Any) -> None:
    scheme = _scheme(observer=observer, bits=6)
    one, two = (scheme.calibrate(tower, lambda size=size: pixels.split(size)) for size in (2, 8))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=0.02, atol=1.0 if "zero_point" in name else 1e-6)


def test_a_static_scheme_reads_the_calibration_set_twice_and_a_dynamic_one_never(
    tower: Any, pixels: torch.Tensor
) -> None:
    passes = 0

    def batches() -> Iterator[torch.Tensor]:
        nonlocal passes
        passes += 1
        yield pixels

    _scheme().calibrate(tower, batches)
    assert passes == 2
    state = DynamicInt8(scheme="dynamic-int8", reading="all_linears").calibrate(tower, batches)
    assert passes == 2
    assert all(name.endswith(".weight_scale") for name in state)


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_weight_scales_have_their_granularity(tower: Any, pixels: torch.Tensor, granularity: Any) -> None:
    state = _scheme(granularity).calibrate(tower, lambda: [pixels])
    for name in (f"blocks.{i}.{role}" for i in range(len(tower.blocks)) for role in ROLES):
        linear = tower.get_submodule(name)
        largest = linear.weight.abs().max(dim=1).values if granularity == "channel" else linear.weight.abs().max()
        torch.testing.assert_close(state[f"{name}.weight_scale"], largest.reshape(-1) / 127.5)


@pytest.mark.parametrize("observer", ["min-max", "percentile", "mse"])
def test_no_calibration_image_at_all_is_refused(tower: Any, observer: Any) -> None:
    with pytest.raises(ValueError, match=r"calibrat|image"):
        _scheme(observer=observer).calibrate(tower, lambda: [])


def test_calibration_does_not_change_the_tower(tower: Any, pixels: torch.Tensor) -> None:
    before = tower(pixels)
    _scheme(observer="mse").calibrate(tower, lambda: [pixels])
    assert torch.equal(tower(pixels), before)
