"""What block-wise schemes are made of: tracing, ranges of any site, reparameterisation, attention's products."""

from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from lraee.quantize.activation_grids import DynamicGrid, StaticGrid, static_grid
from lraee.quantize.blocks import in_blocks, of_block, with_prefix
from lraee.quantize.calibrate import first_states, static_ranges
from lraee.quantize.layers import QuantizedMix, SimulatedLinear
from lraee.quantize.reparameterise import reparameterised
from lraee.quantize.schemes import ActivationSpec
from lraee.quantize.trace import PRODUCT_SITES, Site, trace

SITES: tuple[Site, ...] = get_args(Site)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_tracing_a_block_does_not_change_what_it_yields(tower: Any, pixels: Tensor) -> None:
    states = list(tower.states(pixels))
    for block, z, expected in zip(tower.blocks, states[:-1], states[1:], strict=True):
        assert torch.equal(trace(block, z, SITES)[1], expected)


def test_the_sites_are_what_hooks_see(tower: Any, pixels: Tensor) -> None:
    block, seen = tower.blocks[1], {}
    for name in ("qkv", "proj", "fc1", "fc2"):
        block.get_submodule(name).register_forward_pre_hook(lambda _, x, name=name: seen.update({name: x[0]}))
    block.mix.register_forward_pre_hook(lambda _, x: seen.update(zip("qkv", x, strict=True)))
    values, _ = trace(block, tower.blocks[0](tower.stem(pixels)), SITES)
    linear_input, attention_values = values["qkv"], seen["v"]
    assert torch.equal(attention_values, values["v"])
    for name in ("q", "k", "proj", "fc1", "fc2"):
        assert torch.equal(seen[name], values[name])
    assert linear_input.shape == values["fc1"].shape


def test_softmax_times_v_is_what_the_output_projection_reads(tower: Any, pixels: Tensor) -> None:
    values, _ = trace(tower.blocks[0], tower.stem(pixels), SITES)
    mixed = (values["softmax"] @ values["v"]).transpose(1, 2).flatten(2)
    torch.testing.assert_close(mixed, values["proj"], rtol=1e-4, atol=1e-5)
    assert values["softmax"].sum(-1).sub(1).abs().max() < 1e-5


def test_a_tower_without_changed_blocks_is_the_tower(tower: Any, pixels: Tensor) -> None:
    copied = in_blocks(tower, {}, lambda block, state: block)
    assert torch.equal(copied(pixels), tower(pixels))


def test_the_state_of_a_block_comes_back_by_its_names() -> None:
    own = {"qkv.weight_scale": torch.ones(3), "norm1.divisor": torch.zeros(2)}
    state = with_prefix(own, 1) | with_prefix({"qkv.weight_scale": torch.zeros(1)}, 11)
    assert of_block(state, 1).keys() == own.keys()
    assert of_block(state, 11)["qkv.weight_scale"] == 0
    assert of_block(state, 0) == {}


@given(seed=st.integers(0, 1000), offset=st.booleans(), spread=st.floats(0.1, 3.0))
def test_reparameterisation_leaves_the_function_unchanged(seed: int, offset: bool, spread: float) -> None:
    from lraee.models.tower import Block

    def norm() -> nn.LayerNorm:
        layer = nn.LayerNorm(12).requires_grad_(False)
        layer.weight.copy_(1 + 0.3 * _random(12, seed=seed))
        layer.bias.copy_(_random(12, seed=seed + 1))
        return layer

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        block = Block(
            norm(), nn.Linear(12, 36), nn.Linear(12, 12), norm(), nn.Linear(12, 24, bias=False), nn.GELU(),
            nn.Linear(24, 12), 3, nn.Identity(), nn.Identity(),
        ).requires_grad_(False).double()  # fmt: skip
    # In double precision: divisors of very unlike size lose digits of a float.
    state = {f"{name}.divisor": torch.exp(spread * _random(12, seed=seed + 2)).double() for name in ("norm1", "norm2")}
    if offset:
        state |= {f"{name}.offset": _random(12, seed=seed + 3).double() for name in ("norm1", "norm2")}
    changed, z = reparameterised(block, state), _random(2, 5, 12, seed=seed + 4).double()
    torch.testing.assert_close(changed(z), block(z), rtol=1e-8, atol=1e-8)
    expected = block.norm1(z) / state["norm1.divisor"] + state.get("norm1.offset", 0)
    torch.testing.assert_close(changed.norm1(z), expected, rtol=1e-8, atol=1e-8)


def test_reparameterisation_of_a_tower_leaves_its_embedding_unchanged(tower: Any, pixels: Tensor) -> None:
    width = tower.shape.width
    state = {f"norm{n}.divisor": torch.exp(_random(width, seed=n)) for n in (1, 2)} | {"norm1.offset": _random(width)}
    changed = in_blocks(tower, state=dict(x for i in range(4) for x in with_prefix(state, i).items()),
                        quantized=reparameterised)  # fmt: skip
    expected = tower(pixels)
    assert (changed(pixels) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_only_layer_norms_can_be_reparameterised(tower: Any) -> None:
    block = tower.blocks[0]
    block.norm1 = nn.Identity()
    with pytest.raises(TypeError, match="Identity cannot be reparameterised"):
        reparameterised(block, {"norm1.divisor": torch.ones(tower.shape.width)})


def test_ranges_of_attentions_factors_are_those_of_the_calibration_set(tower: Any, pixels: Tensor) -> None:
    spec = ActivationSpec(bits=8)
    state = static_ranges(tower, dict.fromkeys(PRODUCT_SITES, spec), lambda: pixels.split(3))
    values, _ = trace(tower.blocks[0], tower.stem(pixels), PRODUCT_SITES)
    for site in PRODUCT_SITES:
        low, high = min(float(values[site].min()), 0.0), float(values[site].max())
        assert state[f"blocks.0.{site}.input_scale"].item() == pytest.approx((high - low) / 255, rel=1e-4)
    assert len(state) == len(tower.blocks) * len(PRODUCT_SITES) * 2


def test_products_with_factors_on_fine_grids_are_the_products(tower: Any, pixels: Tensor) -> None:
    state = static_ranges(tower, dict.fromkeys(PRODUCT_SITES, ActivationSpec(bits=8)), lambda: [pixels])
    own, device = of_block(state, 0), torch.device("cpu")
    values, _ = trace(tower.blocks[0], tower.stem(pixels), PRODUCT_SITES)
    factors = values["q"], values["k"], values["v"]
    expected = functional.scaled_dot_product_attention(*factors)
    torch.testing.assert_close(QuantizedMix({})(*factors), expected)
    noise = (QuantizedMix({s: static_grid(own, s, 8, device) for s in PRODUCT_SITES})(*factors) - expected).norm()
    assert 0 < noise < 0.03 * expected.norm()
    exact = QuantizedMix({s: static_grid(own, s, 8, device) for s in ("q", "k")})(*factors)
    by_hand = torch.softmax(
        static_grid(own, "q", 8, device)(factors[0]) @ static_grid(own, "k", 8, device)(factors[1]).mT
        / factors[0].shape[-1] ** 0.5, dim=-1,
    ) @ factors[2]  # fmt: skip
    torch.testing.assert_close(exact, by_hand)


def test_a_static_grid_by_hand() -> None:
    grid = StaticGrid(2, torch.tensor(0.5), torch.tensor(1.0))
    assert grid(torch.tensor([-9.0, -0.3, 0.2, 0.3, 0.9, 9.0])).tolist() == [-0.5, -0.5, 0.0, 0.5, 1.0, 1.0]


def test_a_grid_may_have_a_range_for_each_channel() -> None:
    grid = StaticGrid(2, torch.tensor([1.0, 10.0]), torch.tensor([0.0, 1.0]))
    assert grid(torch.tensor([[1.4, 14.0], [9.0, -90.0]])).tolist() == [[1.0, 10.0], [3.0, -10.0]]


@given(st.integers(2, 8), st.integers(0, 100))
def test_values_of_a_dynamic_grid_lie_within_half_a_step_and_stay_there(bits: int, seed: int) -> None:
    x, grid = _random(3, 2, 5, 4, seed=seed), DynamicGrid(bits)
    rounded, (scale, _) = grid(x), grid.parameters_for(x)
    assert ((rounded - x).abs() <= 0.5 * scale * (1 + 1e-3) + 1e-6).all()
    torch.testing.assert_close(grid(rounded), rounded, rtol=1e-4, atol=1e-5)
    alone = grid(x[1:2])
    assert torch.equal(alone[0], rounded[1])


def test_a_simulated_linear_multiplies_what_its_grid_yields() -> None:
    grid, weight, bias = StaticGrid(4, torch.tensor(0.25), torch.tensor(7.0)), _random(5, 6), _random(5)
    x = _random(2, 3, 6, seed=3)
    expected = np.einsum("btd,od->bto", grid(x).numpy(), weight.numpy()) + bias.numpy()
    np.testing.assert_allclose(SimulatedLinear(weight, bias, grid)(x).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("images", "sizes"), [(None, [3, 3, 2]), (7, [3, 3, 1]), (3, [3]), (99, [3, 3, 2])])
def test_the_walk_starts_from_no_more_images_than_asked_for(
    tower: Any, pixels: Tensor, images: int | None, sizes: list[int]
) -> None:
    states = first_states(tower, lambda: pixels.split(3), images)
    assert list(map(len, states)) == sizes
    assert torch.equal(torch.cat(states), tower.stem(pixels)[: sum(sizes)])


def test_a_walk_over_nothing_is_refused(tower: Any) -> None:
    with pytest.raises(ValueError, match="nothing to calibrate on"):
        first_states(tower, lambda: [])
