from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional

from lraee.models.tower import ROLES
from lraee.quantize.blocks import of_block
from lraee.quantize.fq_vit import factor_errors
from lraee.quantize.layers import SimulatedLinear
from lraee.quantize.schemes.fq_vit import FQVit
from lraee.quantize.trace import trace


def _scheme(bits: int = 4) -> FQVit:
    return FQVit(scheme="fq-vit", weight_bits=bits, activation_bits=bits)


def _round(x: np.ndarray, scale: float, zero: float, bits: int) -> np.ndarray:
    return (np.clip(np.rint(x / scale) + zero, 0, 2**bits - 1) - zero) * scale


def test_factor_errors_are_numpys() -> None:
    x = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 0.3, 1.0, 3.0])
    found = factor_errors(x, torch.tensor(0.8), torch.tensor(6.0), 4)
    rows = x.flatten(0, 1).numpy()
    expected = [((_round(rows, 0.8 / shrink, 6, 4) - rows) ** 2).sum(0) for shrink in (8, 4, 2, 1)]
    np.testing.assert_allclose(found.numpy(), np.stack(expected), rtol=1e-4)


def test_narrow_channels_get_small_steps_and_wide_ones_the_whole() -> None:
    x = torch.linspace(-1, 1, 50)[:, None] * torch.tensor([0.125, 0.25, 0.5, 1.0])
    errors = factor_errors(x, torch.tensor(2 / 15), torch.tensor(8.0), 4)
    assert errors.argmin(dim=0).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("site", ["qkv", "fc1"])
def test_each_channels_scale_is_the_best_power_of_two_on_all_images(tower: Any, pixels: Tensor, site: Any) -> None:
    state = of_block(_scheme().calibrate(tower, lambda: pixels.split(3)), 1)
    x = trace(tower.blocks[1], tower.blocks[0](tower.stem(pixels)), [site])[0][site].flatten(0, 1).numpy()
    whole, zero = (max(x.max(), 0) - min(x.min(), 0)) / 15, state[f"{site}.input_zero_point"].item()
    assert zero == np.rint(-x.min() / whole)
    errors = [((_round(x, whole / shrink, zero, 4) - x) ** 2).sum(0) for shrink in (8, 4, 2, 1)]
    factors = state[f"{site}.input_scale"].numpy() / whole
    np.testing.assert_allclose(np.log2(factors), np.rint(np.log2(factors)), atol=1e-4)
    assert set(np.rint(np.log2(factors))) <= {-3.0, -2.0, -1.0, 0.0}
    chosen = np.take_along_axis(np.stack(errors), np.rint(np.log2(factors)).astype(int)[None] + 3, 0)[0]
    np.testing.assert_allclose(chosen, np.min(errors, axis=0), rtol=1e-4)


def test_weights_are_min_max_per_channel_and_their_mean_error_is_in_the_bias(tower: Any, pixels: Tensor) -> None:
    scheme = _scheme(3)
    state = of_block(scheme.calibrate(tower, lambda: pixels.split(3)), 0)
    inputs, _ = trace(tower.blocks[0], tower.stem(pixels), ROLES)
    quantized = scheme.block(tower.blocks[0], state)
    for role in ROLES:
        own, rounded = getattr(tower.blocks[0], role), getattr(quantized, role)
        steps = (own.weight.amax(1) - own.weight.amin(1)) / 7
        torch.testing.assert_close(state[f"{role}.weight_scale"], steps)
        assert isinstance(rounded, SimulatedLinear)
        assert ((rounded.weight - own.weight).abs() <= 1.001 * steps[:, None]).all()
        difference = functional.linear(inputs[role], rounded.weight, rounded.bias) - own(inputs[role])
        uncorrected = functional.linear(inputs[role], rounded.weight, own.bias) - own(inputs[role])
        assert difference.mean((0, 1)).abs().max() < 1e-4 * max(1.0, own(inputs[role]).abs().max())
        assert uncorrected.mean((0, 1)).abs().max() > 1e-3


def test_softmax_is_rounded_to_powers_of_two(tower: Any, pixels: Tensor) -> None:
    scheme = _scheme(3)
    state = of_block(scheme.calibrate(tower, lambda: [pixels]), 0)
    mix = scheme.block(tower.blocks[0], state).mix
    softmax = trace(tower.blocks[0], tower.stem(pixels), ["softmax"])[0]["softmax"]
    found = mix.softmax(softmax).unique()
    assert set(found.tolist()) <= {0.0, *(2.0**-power for power in range(7))}


def test_noise_falls_with_bits_and_the_tower_stays(tower: Any, pixels: Tensor) -> None:
    expected, noise = tower(pixels), []
    for bits in (2, 4, 6):
        scheme = _scheme(bits)
        state = scheme.calibrate(tower, lambda: pixels.split(4))
        noise.append(float((scheme.apply(tower, state)(pixels) - expected).norm() / expected.norm()))
        assert torch.equal(tower(pixels), expected)
    assert all(more > 1.2 * less for more, less in pairwise(noise))


def test_the_batch_size_of_calibration_does_not_matter_and_the_state_survives_a_file(
    tower: Any, pixels: Tensor
) -> None:
    scheme = _scheme()
    one, two = (scheme.calibrate(tower, lambda size=size: pixels.split(size)) for size in (3, 8))
    assert one.keys() == two.keys()
    assert all(name.startswith("blocks.") for name in one)
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=0.02, atol=0.02, msg=name)
    kept = load(save({name: tensor.contiguous() for name, tensor in one.items()}))
    assert torch.equal(scheme.apply(tower, kept)(pixels), scheme.apply(tower, one)(pixels))


def test_no_calibration_image_at_all_is_refused(tower: Any) -> None:
    with pytest.raises(ValueError, match="nothing to calibrate on"):
        _scheme().calibrate(tower, lambda: [])
