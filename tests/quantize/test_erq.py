from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional

from lraee.models.tower import ROLES, linear_from, sharing_copy
from lraee.quantize.blocks import of_block
from lraee.quantize.channel_grids import best_percentile_grids, rounded
from lraee.quantize.erq import corrected, refined, role_inputs, rounded_by_halves
from lraee.quantize.layers import SimulatedLinear
from lraee.quantize.moments import Moments, moments_of
from lraee.quantize.schemes.erq import Erq
from lraee.quantize.schemes.repq_vit import RepQVit
from lraee.quantize.trace import trace
from tests import examples


def _scheme(bits: int = 4, **settings: Any) -> Erq:
    return Erq(scheme="erq", weight_bits=bits, activation_bits=bits, **settings)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _rows(seed: int, width: int, rows: int = 400) -> Tensor:
    """Correlated inputs."""
    return _random(rows, width, seed=seed) @ _random(width, width, seed=seed + 1) + 0.5


def _moments(x: Tensor) -> Moments:
    return moments_of([(x, x)])


def _cost(error: Tensor, covariance: Tensor) -> Tensor:
    return (error @ covariance * error).sum(1)


@settings(max_examples=examples(10))
@given(st.integers(0, 300), st.integers(2, 8))
def test_refinement_ends_where_no_single_change_helps_and_below_the_nearest_values(seed: int, width: int) -> None:
    covariance = _moments(_rows(seed, width)).covariance
    weight = _random(5, width, seed=seed).double()
    found = refined(weight, weight.floor(), weight.ceil(), covariance)
    assert ((found == weight.floor()) | (found == weight.ceil())).all()
    cost = _cost(found - weight, covariance)
    assert (cost <= _cost(weight.round() - weight, covariance) + 1e-9).all()
    for column in range(width):
        changed = found.clone()
        changed[:, column] = (weight.floor() + weight.ceil() - found)[:, column]
        assert (_cost(changed - weight, covariance) >= cost - 1e-9).all()


def test_refinement_finds_most_of_the_best_roundings_of_all() -> None:
    covariance, weight = _moments(_rows(3, 8)).covariance, _random(40, 8, seed=9).double()
    choices = torch.tensor(list(product([0.0, 1.0], repeat=8)), dtype=torch.float64)
    best = torch.stack([_cost(row.floor() + choices - row, covariance).min() for row in weight])
    nearest = _cost(weight.round() - weight, covariance)
    found = _cost(refined(weight, weight.floor(), weight.ceil(), covariance) - weight, covariance)
    assert (found >= best - 1e-9).all()
    assert found.mean() - best.mean() < 0.5 * (nearest.mean() - best.mean())


def test_refinement_by_hand() -> None:
    # Two equal inputs: 0.4 and 0.4 both round down, which loses 0.8; one of them up loses 0.2.
    weight, covariance = torch.tensor([[0.4, 0.4]]), torch.ones(2, 2)
    assert sorted(refined(weight, weight.floor(), weight.ceil(), covariance)[0].tolist()) == [0.0, 1.0]
    apart = refined(weight, weight.floor(), weight.ceil(), torch.eye(2))
    assert apart.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("width", [1, 2, 7, 32])
def test_weights_rounded_by_halves_lie_on_the_grid(width: int) -> None:
    moments, weight = _moments(_rows(5, width)), _random(6, width, seed=1).double()
    scale, zero_point = best_percentile_grids(weight.float().mT, 3, [100.0])
    found = rounded_by_halves(weight, scale.double(), zero_point.double(), 3, moments)
    codes = found / scale.double()[:, None] + zero_point.double()[:, None]
    torch.testing.assert_close(codes, codes.round(), rtol=0.0, atol=1e-6)
    assert ((codes.round() >= 0) & (codes.round() <= 7)).all()
    again = rounded(found.float(), scale[:, None], zero_point[:, None], 3)
    torch.testing.assert_close(again, found.float(), rtol=1e-6, atol=1e-6)


def test_rounding_by_halves_loses_much_less_than_to_the_nearest() -> None:
    # 48 inputs that share 12 sources, and noise.
    x = _random(20_000, 12, seed=7) @ _random(12, 48, seed=8) + 0.3 * _random(20_000, 48, seed=9)
    weight = _random(24, 48, seed=2).double()
    scale, zero_point = best_percentile_grids(weight.float().mT, 3, [100.0])
    nearest = rounded(weight, scale.double()[:, None], zero_point.double()[:, None], 3)
    found = rounded_by_halves(weight, scale.double(), zero_point.double(), 3, _moments(x))
    lost = {name: ((x - x.mean(0)).double() @ (w - weight).mT).square().mean() for name, w in
            (("nearest", nearest), ("halves", found))}  # fmt: skip
    assert lost["halves"] < 0.5 * lost["nearest"]


def test_independent_inputs_of_one_variance_leave_nothing_to_refine_or_compensate() -> None:
    weight, nothing, same = _random(5, 9).double(), torch.zeros(9).double(), torch.eye(9).double()
    moments = Moments(100, nothing, nothing, same, same)
    scale, zero_point = (x.double() for x in best_percentile_grids(weight.float().mT, 4, [100.0]))
    found = rounded_by_halves(weight, scale, zero_point, 4, moments)
    torch.testing.assert_close(found, rounded(weight, scale[:, None], zero_point[:, None], 4))


def test_the_bias_is_the_best_for_the_rounded_weights(tower: Any, pixels: Tensor) -> None:
    linear, x = tower.blocks[0].fc1, trace(tower.blocks[0], tower.stem(pixels), ["fc1"])[0]["fc1"]
    noisy = (x / 0.4).round() * 0.4
    state = corrected(linear, "fc1", moments_of([(x, noisy)] * 200), 4)  # far more rows than the penalty is worth
    left = linear(x) - functional.linear(noisy, state["fc1.weight"], state["fc1.bias"])
    assert left.mean((0, 1)).abs().max() < 1e-3
    plain = linear(x) - functional.linear(noisy, rounded(
        linear.weight, state["fc1.weight_scale"][:, None], state["fc1.weight_zero_point"][:, None], 4), linear.bias
    )  # fmt: skip
    assert left.square().mean() < 0.8 * plain.square().mean()


def test_a_linear_without_bias_gets_one() -> None:
    x, linear = _rows(1, 5), linear_from(_random(3, 5), None)
    state = corrected(linear, "fc2", moments_of([(x, x + 1.0)]), 8)
    left = linear(x) - functional.linear(x + 1.0, state["fc2.weight"], state["fc2.bias"])
    assert left.abs().max() < 0.1 * linear(x).abs().max()


def test_the_walk_shows_what_each_linear_reads_and_ends_behind_the_block(tower: Any, pixels: Tensor) -> None:
    z, block = tower.stem(pixels), tower.blocks[0]
    expected, behind = trace(block, z, ROLES)
    states = [z[:3], z[3:]]
    seen = {role: torch.cat(inputs) for role, inputs in role_inputs(block, states)}
    for role in ROLES:
        torch.testing.assert_close(seen[role], expected[role], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.cat(states), behind, rtol=1e-4, atol=1e-4)


def test_a_linear_may_be_exchanged_before_the_walk_goes_on(tower: Any, pixels: Tensor) -> None:
    block, z = sharing_copy(tower.blocks[0]), tower.stem(pixels)
    changed, states = sharing_copy(block), [z]
    changed.fc1 = linear_from(2 * block.fc1.weight, block.fc1.bias)
    for role, _ in role_inputs(block, states):
        if role == "fc1":
            block.fc1 = changed.fc1
    torch.testing.assert_close(states[0], changed(z), rtol=1e-4, atol=1e-4)


def test_weights_in_the_state_lie_on_the_grid_that_the_block_uses(tower: Any, pixels: Tensor) -> None:
    scheme = _scheme(3)
    state = of_block(scheme.calibrate(tower, lambda: pixels.split(3)), 1)
    block = scheme.block(tower.blocks[1], state)
    for role in ROLES:
        linear = getattr(block, role)
        assert isinstance(linear, SimulatedLinear)
        torch.testing.assert_close(linear.weight, state[f"{role}.weight"], rtol=1e-5, atol=1e-6)
        assert all(len(row.unique()) <= 8 for row in linear.weight)
        wider = scheme.block(tower.blocks[1], state | {f"{role}.weight_scale": 1.01 * state[f"{role}.weight_scale"]})
        torch.testing.assert_close(getattr(wider, role).weight, 1.01 * linear.weight, rtol=1e-4, atol=1e-6)


def test_noise_falls_with_bits_and_is_less_than_repq_vits(tower: Any, pixels: Tensor) -> None:
    images = torch.cat([pixels + 0.3 * _random(*pixels.shape, seed=seed) for seed in range(24)])
    expected, noise = tower(images), []
    for bits in (3, 4, 6):
        scheme = _scheme(bits)
        state = scheme.calibrate(tower, lambda: images.split(32))
        noise.append(float((scheme.apply(tower, state)(images) - expected).norm()))
        plain = RepQVit(scheme="repq-vit", weight_bits=bits, activation_bits=bits)
        repq = plain.apply(tower, plain.calibrate(tower, lambda: images.split(32)))
        assert noise[-1] < float((repq(images) - expected).norm())
    assert all(more > 1.3 * less for more, less in pairwise(noise))
    assert torch.equal(tower(images), expected)


def test_no_more_images_are_regressed_on_than_asked_for(tower: Any, pixels: Tensor) -> None:
    all_of_them, five = (_scheme(images=images).calibrate(tower, lambda: pixels.split(3)) for images in (512, 5))
    first = _scheme().calibrate(tower, lambda: pixels[:5].split(3))
    name = "blocks.0.qkv.weight"
    assert not torch.equal(all_of_them[name], five[name])
    assert torch.equal(five["blocks.0.norm1.divisor"], all_of_them["blocks.0.norm1.divisor"])
    assert not torch.equal(five["blocks.0.norm1.divisor"], first["blocks.0.norm1.divisor"])


def test_the_batch_size_of_calibration_does_not_matter_and_the_state_survives_a_file(
    tower: Any, pixels: Tensor
) -> None:
    scheme = _scheme(6)
    one, two = (scheme.calibrate(tower, lambda size=size: pixels.split(size)) for size in (3, 8))
    assert one.keys() == two.keys()
    assert all(name.startswith("blocks.") for name in one)
    outputs = [scheme.apply(tower, state)(pixels) for state in (one, two)]
    # A weight between two roundings may go to either, after which the others differ too: the functions are close.
    assert (outputs[0] - outputs[1]).norm() < 0.05 * outputs[0].norm()
    kept = load(save({name: tensor.contiguous() for name, tensor in one.items()}))
    assert torch.equal(scheme.apply(tower, kept)(pixels), outputs[0])


def test_calibration_is_deterministic(tower: Any, pixels: Tensor) -> None:
    one, two = (_scheme().calibrate(tower, lambda: [pixels]) for _ in range(2))
    assert all(np.array_equal(one[name].numpy(), two[name].numpy()) for name in one)
