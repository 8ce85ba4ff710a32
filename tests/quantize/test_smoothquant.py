from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lraee.quantize.blocks import in_blocks
from lraee.quantize.calibrate import first_states
from lraee.quantize.reparameterise import reparameterised
from lraee.quantize.schemes.smoothquant import SmoothQuant
from lraee.quantize.schemes.uniform import Uniform
from lraee.quantize.smoothquant import factors, first_images, largest_inputs, smoothing


def _scheme(**settings: Any) -> SmoothQuant:
    return SmoothQuant(scheme="smoothquant", **settings)


def _noise(scheme: Any, tower: Any, pixels: Tensor) -> float:
    state = scheme.calibrate(tower, lambda: [pixels])
    return float((scheme.apply(tower, state)(pixels) - tower(pixels)).square().sum())


def _with_outliers(tower: Any) -> None:
    """Blow one channel of each LayerNorm's output up 40 times; the Linear behind takes it back: the same function."""
    with torch.no_grad():
        for block in tower.blocks:
            for norm, linear in ((block.norm1, block.qkv), (block.norm2, block.fc1)):
                norm.weight[5] *= 40
                norm.bias[5] *= 40
                linear.weight[:, 5] /= 40


def test_the_papers_own_example() -> None:
    # Figure 5 of the paper: X, W (in, out) and s at alpha 0.5.
    x = torch.tensor([[1.0, -16.0, 2.0, 6.0], [-2.0, 8.0, -1.0, -9.0]])
    weight = torch.tensor([[2.0, 1.0, -2.0], [1.0, -1.0, -1.0], [2.0, -1.0, -2.0], [-1.0, -1.0, 1.0]]).mT
    assert factors(x.abs().amax(0), weight, 0.5).tolist() == [1.0, 4.0, 1.0, 3.0]


@given(alpha=st.floats(0, 1), seed=st.integers(0, 1000))
def test_alpha_says_how_much_of_the_difficulty_moves(alpha: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    largest, weight = np.exp(rng.normal(0, 3, 6)), rng.normal(size=(4, 6)) * np.exp(rng.normal(size=6))
    s = factors(torch.tensor(largest), torch.tensor(weight), alpha).numpy()
    # What is left of each channel: all of it in the inputs at alpha 0, all in the weights at 1, and in between as
    # shares of the whole, whose size the division cannot change.
    inputs, weights = largest / s, np.abs(weight).max(axis=0) * s
    np.testing.assert_allclose(inputs * weights, largest * np.abs(weight).max(axis=0), rtol=1e-8)
    np.testing.assert_allclose(inputs**alpha, weights ** (1 - alpha), rtol=1e-8)


def test_dead_channels_keep_finite_factors() -> None:
    found = factors(torch.tensor([0.0, 1.0, 0.0]), torch.tensor([[1.0, 0.0, 0.0]]), 0.7)
    assert found.isfinite().all()
    assert (found > 0).all()


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_smoothing_leaves_the_embedding_unchanged(tower: Any, pixels: Tensor, alpha: float) -> None:
    largest = largest_inputs(tower, first_states(tower, lambda: [pixels]))
    smoothed = in_blocks(tower, smoothing(tower, largest, alpha), reparameterised)
    expected = tower(pixels)
    assert (smoothed(pixels) - expected).abs().max() < 1e-5 * expected.abs().max()
    changed = (smoothed.blocks[1].qkv.weight - tower.blocks[1].qkv.weight).abs().max()
    assert changed > 0.01 * tower.blocks[1].qkv.weight.abs().max()


@pytest.mark.parametrize("name", ["blocks.0.qkv", "blocks.2.fc1"])
def test_largest_inputs_are_those_of_all_calibration_images(tower: Any, pixels: Tensor, name: str) -> None:
    seen: list[Tensor] = []
    handle = tower.get_submodule(name).register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    tower(pixels)
    handle.remove()
    found = largest_inputs(tower, first_states(tower, lambda: pixels.split(3)))
    np.testing.assert_allclose(found[name], np.abs(seen[0].numpy()).max(axis=(0, 1)), rtol=1e-4)
    assert len(found) == 2 * len(tower.blocks)


def test_the_alpha_of_the_nearest_embedding_is_taken(tower: Any, pixels: Tensor) -> None:
    _with_outliers(tower)
    alphas = (0.0, 0.3, 0.5, 0.8, 1.0)
    errors = {
        alpha: _noise(_scheme(weight_bits=4, activation_bits=4, alphas=(alpha,)), tower, pixels) for alpha in alphas
    }
    assert max(errors.values()) > 1.5 * min(errors.values())
    state = _scheme(weight_bits=4, activation_bits=4, alphas=alphas).calibrate(tower, lambda: [pixels])
    for index in range(len(tower.blocks)):
        assert state[f"blocks.{index}.alpha"].item() == pytest.approx(min(errors, key=lambda alpha: errors[alpha]))


def test_one_channels_outliers_harm_less_than_without_smoothing(tower: Any, pixels: Tensor) -> None:
    _with_outliers(tower)
    weights, activations = {"bits": 6, "granularity": "channel"}, {"bits": 6}
    plain = Uniform.model_validate({"scheme": "uniform", "weights": weights, "activations": activations})
    smoothed = _scheme(weight_bits=6, activation_bits=6)
    assert _noise(smoothed, tower, pixels) < 0.5 * _noise(plain, tower, pixels)


def test_the_search_sees_the_first_images_only(pixels: Tensor) -> None:
    for images, sizes in ((2, [2]), (3, [3]), (5, [3, 2]), (99, [3, 3, 2])):
        found = first_images(lambda: pixels.split(3), images)
        assert list(map(len, found)) == sizes
        assert torch.equal(torch.cat(found), pixels[:images])


def test_no_calibration_image_at_all_is_refused(tower: Any) -> None:
    with pytest.raises(ValueError, match="nothing to calibrate on"):
        _scheme().calibrate(tower, lambda: [])


def test_attentions_products_stay_as_they_are(tower: Any, pixels: Tensor) -> None:
    scheme = _scheme()
    result = scheme.apply(tower, scheme.calibrate(tower, lambda: [pixels]))
    assert type(result.blocks[0].mix) is type(tower.blocks[0].mix)
    assert scheme.bits_of("products") is None
    assert scheme.bits_of("fc2") == (8, 8)


@pytest.mark.parametrize("alphas", [[], [1.1], [-0.1]])
def test_alphas_outside_0_to_1_are_refused(alphas: list[float]) -> None:
    with pytest.raises(ValueError, match="alphas"):
        _scheme(alphas=alphas)
