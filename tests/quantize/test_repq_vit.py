import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor, nn

from lraee.models.tower import ROLES
from lraee.quantize.blocks import in_blocks, of_block
from lraee.quantize.channel_grids import best_percentile_grids, range_parameters, rounded
from lraee.quantize.grids import quantize_affine
from lraee.quantize.log_grids import LogGrid
from lraee.quantize.observers import Histogram
from lraee.quantize.reparameterise import reparameterised
from lraee.quantize.repq_vit import folded, largest_value
from lraee.quantize.schemes.repq_vit import RepQVit
from lraee.quantize.trace import trace


def _scheme(bits: int = 4) -> RepQVit:
    return RepQVit(scheme="repq-vit", weight_bits=bits, activation_bits=bits)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_folding_by_hand() -> None:
    # s = (1, 3), z = (2, -5): s~ = 2, z~ = round(-1.5) = -2, brought to code 0.
    state = folded("norm1", "qkv", torch.tensor([1.0, 3.0]), torch.tensor([2.0, -5.0]), 4)
    assert state["norm1.divisor"].tolist() == [0.5, 1.5]
    assert state["norm1.offset"].tolist() == [4.0, -10.0]
    assert (state["qkv.input_scale"].item(), state["qkv.input_zero_point"].item()) == (2.0, 0.0)


def test_folding_is_the_papers_where_its_zero_point_is_whole() -> None:
    # beta / r - b with b = (-z s) / r + z~ s~, as published.
    scale, zero_point = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 8.0, 7.0])
    state = folded("norm1", "qkv", scale, zero_point, 4)
    r = scale / scale.mean()
    b = (-zero_point * scale) / r + zero_point.mean() * scale.mean()
    torch.testing.assert_close(state["norm1.divisor"], r)
    torch.testing.assert_close(state["norm1.offset"], -b)


@given(st.integers(2, 8), st.integers(0, 500), st.floats(0.0, 3.0))
def test_codes_per_tensor_after_folding_are_those_per_channel_before(bits: int, seed: int, spread: float) -> None:
    y = _random(40, 6, seed=seed) * torch.exp(spread * _random(6, seed=seed + 1)) + 2 * _random(6, seed=seed + 2)
    scale, zero_point = range_parameters(y.amin(0) * 0.8, y.amax(0) * 0.8, bits)
    state = folded("norm1", "qkv", scale, zero_point, bits)
    before = quantize_affine(y, scale, zero_point, bits)
    common, zero = state["qkv.input_scale"], state["qkv.input_zero_point"]
    assert zero == zero.round()
    assert 0 <= zero < 2**bits
    after = quantize_affine(y / state["norm1.divisor"] + state["norm1.offset"], common, zero, bits)
    # A half of a step may round to either side.
    clear = ((y / scale).frac().abs() - 0.5).abs() > 1e-3
    assert clear.float().mean() > 0.9
    assert torch.equal(after[clear], before[clear])


def test_the_folded_tower_is_the_same_function(tower: Any, pixels: Tensor) -> None:
    state = _scheme().calibrate(tower, lambda: pixels.split(3))
    expected = tower(pixels)
    found = in_blocks(tower, state, reparameterised)(pixels)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert all((state[f"blocks.0.norm{n}.divisor"] != 1).all() for n in (1, 2))


def test_a_quantized_blocks_qkv_is_the_original_with_a_range_for_each_channel(tower: Any, pixels: Tensor) -> None:
    scheme, block, z = _scheme(), tower.blocks[0], tower.stem(pixels)
    state = of_block(scheme.calibrate(tower, lambda: [pixels]), 0)
    y = block.norm1(z)
    grid = best_percentile_grids(y.flatten(0, 1), 4, (99.9, 99.99, 99.999))
    quantized = scheme.block(block, state)
    divisor = state["norm1.divisor"]
    weight, scale = block.qkv.weight * divisor, state["qkv.weight_scale"][:, None]
    weight = rounded(weight, scale, state["qkv.weight_zero_point"][:, None], 4) / divisor
    bias = block.qkv.bias
    # In the changed coordinates the offset is multiplied by rounded weights: their error stays.
    lost = (block.qkv.weight * divisor - weight * divisor) @ state["norm1.offset"]
    expected = rounded(y, *grid, 4) @ weight.mT + bias - lost
    found = quantized.qkv(quantized.norm1(z))
    assert (found - expected).abs().median() < 1e-4
    assert ((found - expected).abs() < 1e-4).float().mean() > 0.95


def test_all_factors_of_attention_are_rounded(tower: Any, pixels: Tensor) -> None:
    scheme = _scheme(2)
    state = of_block(scheme.calibrate(tower, lambda: [pixels]), 1)
    mix = scheme.block(tower.blocks[1], state).mix
    values, _ = trace(tower.blocks[1], tower.blocks[0](tower.stem(pixels)), ("q", "k", "softmax", "v"))
    for site, x in values.items():
        assert len(getattr(mix, site)(x).unique()) <= 4
    assert isinstance(mix.softmax, LogGrid)
    assert mix.softmax.largest == state["softmax.input_scale"]


def test_the_largest_softmax_value_is_the_percentile_with_the_smallest_error() -> None:
    # 10,000 values of 0.1, and 20 of 0.9 (0.2 %, above the cut at 99.9 %).
    counts = torch.zeros(100, dtype=torch.float64)
    counts[10], counts[90] = 10_000, 20
    assert largest_value(Histogram(0.0, 1.0, counts), 4).item() == pytest.approx(0.91)
    # 0.05 %: cut off at 99.9 %, where 0.1 lies on the grid; not so at the others, where the 5 are right instead.
    counts[90] = 5
    at = {top: LogGrid(4, torch.tensor(top), 2)(torch.tensor([0.105, 0.905])) for top in (0.11, 0.91)}
    errors = {top: 10_000 * (x[0] - 0.105) ** 2 + 5 * (x[1] - 0.905) ** 2 for top, x in at.items()}
    expected = min(errors, key=lambda top: float(errors[top]))
    assert largest_value(Histogram(0.0, 1.0, counts), 4).item() == pytest.approx(expected)


def test_weights_are_rounded_per_output_channel_and_follow_the_scales_in_the_state(tower: Any, pixels: Tensor) -> None:
    scheme = _scheme(3)
    state = of_block(scheme.calibrate(tower, lambda: [pixels]), 2)
    block = scheme.block(tower.blocks[2], state)
    for role in ROLES:
        linear = block.get_submodule(role)
        assert all(len(row.unique()) <= 8 for row in linear.weight)
        assert state[f"{role}.weight_scale"].shape == (len(linear.weight),)
        changed = scheme.block(tower.blocks[2], state | {f"{role}.weight_scale": 1.1 * state[f"{role}.weight_scale"]})
        assert not torch.equal(changed.get_submodule(role).weight, linear.weight)


def test_noise_falls_with_bits_and_the_tower_stays(tower: Any, pixels: Tensor) -> None:
    expected = tower(pixels)
    noise = []
    for bits in (3, 4, 6, 8):
        scheme = _scheme(bits)
        state = scheme.calibrate(tower, lambda: pixels.split(4))
        noise.append(float((scheme.apply(tower, state)(pixels) - expected).norm() / expected.norm()))
        assert torch.equal(tower(pixels), expected)
    assert all(more > 1.3 * less for more, less in pairwise(noise))
    assert noise[-1] < 0.05


def test_the_batch_size_of_calibration_does_not_matter_and_the_state_survives_a_file(
    tower: Any, pixels: Tensor
) -> None:
    scheme = _scheme()
    one, two = (scheme.calibrate(tower, lambda size=size: pixels.split(size)) for size in (3, 8))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=0.02, atol=0.02, msg=name)
    assert all(name.startswith("blocks.") for name in one)
    kept = load(save({name: tensor.contiguous() for name, tensor in one.items()}))
    assert torch.equal(scheme.apply(tower, kept)(pixels), scheme.apply(tower, one)(pixels))


def test_products_count_with_the_bits_of_activations(tower: Any) -> None:
    scheme = RepQVit(scheme="repq-vit", weight_bits=3, activation_bits=6)
    assert scheme.bits_of("products") == (6, 6)
    assert scheme.bits_of("fc1") == (3, 6)
    coverage = scheme.coverage(tower, {})
    assert (coverage.weight_bits, coverage.activation_bits) == (3.0, 6.0)
    assert math.isclose(sum(coverage.block_bops) / len(tower.blocks), coverage.block_bops[0])


def test_what_cannot_be_calibrated_is_refused(tower: Any, pixels: Tensor) -> None:
    with pytest.raises(ValueError, match="nothing to calibrate on"):
        _scheme().calibrate(tower, lambda: [])
    tower.blocks[0].norm1 = nn.Identity()
    with pytest.raises(TypeError, match="Identity cannot be reparameterised"):
        _scheme().calibrate(tower, lambda: [pixels])
