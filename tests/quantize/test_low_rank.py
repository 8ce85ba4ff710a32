import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import Ridge
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lraee.metrics.compute import block_bops
from lraee.models.tower import ROLES
from lraee.quantize.blocks import of_block
from lraee.quantize.layers import QuantizedLinear, QuantizedMix
from lraee.quantize.low_rank import INTERVALS, CompensatedLinear, best_of_rank, error_moments, interval_errors
from lraee.quantize.schemes.aiqvit import AiqVit
from tests import examples


def _scheme(**settings: Any) -> AiqVit:
    return AiqVit.model_validate({"scheme": "aiqvit", "weight_bits": 4, "activation_bits": 4} | settings)


def _problem(seed: int, tokens: int = 60, inputs: int = 6, outputs: int = 5) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    x = rng.normal(0.3, 1, (1, tokens, inputs)) @ rng.normal(size=(inputs, inputs))
    error = x @ rng.normal(size=(inputs, outputs)) + rng.normal(size=(1, tokens, outputs))
    return torch.tensor(x), torch.tensor(error)


def _objective(product: np.ndarray, x: Tensor, error: Tensor) -> float:
    """What compensation minimises: the error left, and the damping's share of the size of the product (out, in)."""
    damping = 0.01 * np.mean(np.sum(x[0].numpy() ** 2, axis=0))
    return float(((error[0].numpy() - x[0].numpy() @ product.T) ** 2).sum() + damping * (product**2).sum())


def test_compensation_of_full_rank_is_scikit_learns_ridge_regression() -> None:
    x, error = _problem(0)
    down, up = best_of_rank(*error_moments(x, error), rank=5)
    ridge = Ridge(alpha=0.01 * float(x[0].square().sum(0).mean()), fit_intercept=False).fit(x[0], error[0])
    np.testing.assert_allclose((up @ down).numpy(), ridge.coef_, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rank", [1, 2])
def test_no_product_of_its_rank_that_scipy_finds_leaves_less_error(rank: int) -> None:
    x, error = _problem(1)
    down, up = best_of_rank(*error_moments(x, error), rank)
    assert (down.shape, up.shape) == ((rank, 6), (5, rank))
    ours = _objective((up @ down).numpy(), x, error)

    def loss(flat: np.ndarray) -> float:
        return _objective(flat[: 5 * rank].reshape(5, rank) @ flat[5 * rank :].reshape(rank, 6), x, error)

    starts = np.random.default_rng(2).normal(size=(5, 11 * rank))
    found = min(minimize(loss, start, method="L-BFGS-B").fun for start in starts)
    assert ours == pytest.approx(found, rel=1e-4)


@settings(max_examples=examples(10))
@given(seed=st.integers(0, 1000))
def test_every_rank_more_leaves_less_error(seed: int) -> None:
    x, error = _problem(seed)
    moments = error_moments(x, error)
    left = [_objective(np.zeros((5, 6)), x, error)]
    for rank in range(1, 6):
        down, up = best_of_rank(*moments, rank)
        left.append(_objective((up @ down).numpy(), x, error))
    assert all(after <= before * (1 + 1e-6) for before, after in itertools.pairwise(left))


def test_channels_that_are_always_zero_get_no_compensation() -> None:
    x, error = _problem(3)
    x[..., 2] = 0
    down, up = best_of_rank(*error_moments(x, error), rank=3)
    assert (up @ down).isfinite().all()
    assert (up @ down)[:, 2].abs().max() < 1e-6


def test_the_interval_of_least_error_is_found_for_each_head() -> None:
    # Every weight of the first head is 0.25, the end of one interval; the second's are 0 and 1.
    softmax = torch.zeros(1, 2, 4, 4)
    softmax[0, 0], softmax[0, 1] = 0.25, torch.eye(4)
    errors = interval_errors(softmax, bits=2)
    assert errors.shape == (len(INTERVALS), 2)
    assert INTERVALS[errors.argmin(0)].tolist() == pytest.approx([0.25, 1.0])
    by_hand = [((np.clip(np.rint(0.25 / (c / 3)), 0, 3) * c / 3 - 0.25) ** 2) * 16 for c in INTERVALS.numpy()]
    np.testing.assert_allclose(errors[:, 0].numpy(), by_hand, atol=1e-5)


def test_compensation_is_added_to_the_quantized_product(tower: Any, pixels: Tensor) -> None:
    scheme = _scheme(rank=3)
    state = scheme.calibrate(tower, lambda: [pixels])
    block, own = scheme.apply(tower, state).blocks[1], of_block(state, 1)
    for role in ROLES:
        layer = getattr(block, role)
        assert isinstance(layer, CompensatedLinear)
        assert isinstance(layer.quantized, QuantizedLinear)
        x = torch.randn(2, 5, getattr(tower.blocks[1], role).in_features, generator=torch.Generator().manual_seed(0))
        expected = layer.quantized(x) + torch.einsum("or,ri,bti->bto", own[f"{role}.up"], own[f"{role}.down"], x)
        torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)
    assert isinstance(block.mix, QuantizedMix)
    assert own["softmax.input_scale"].shape == (tower.blocks[1].heads, 1, 1)


def test_a_linears_output_is_nearer_with_compensation(tower: Any, pixels: Tensor) -> None:
    block, z = tower.blocks[0], tower.stem(pixels)
    x, scheme = block.norm1(z), _scheme(rank=8)
    layer = scheme.apply(tower, scheme.calibrate(tower, lambda: [pixels])).blocks[0].qkv
    with_it, without = (layer(x) - block.qkv(x)).norm(), (layer.quantized(x) - block.qkv(x)).norm()
    assert with_it < 0.9 * without


def test_a_higher_rank_brings_the_embedding_nearer(tower: Any, pixels: Tensor) -> None:
    clean = tower(pixels)
    noise = [
        float((scheme.apply(tower, scheme.calibrate(tower, lambda: [pixels]))(pixels) - clean).norm())
        for scheme in (_scheme(rank=1, activation_bits=8), _scheme(rank=24, activation_bits=8))
    ]
    assert noise[1] < 0.7 * noise[0]


def test_compensation_sees_the_first_images_only(tower: Any, pixels: Tensor) -> None:
    changed = torch.cat([pixels[:4], pixels[4:].flip(0)])
    few, many = (
        [_scheme(images=images).calibrate(tower, lambda p=p: p.split(3))["blocks.2.fc1.up"] for p in (pixels, changed)]
        for images in (4, 7)
    )
    torch.testing.assert_close(few[0], few[1], rtol=1e-3, atol=1e-4)
    assert (many[0] - many[1]).abs().max() > 1e-3


def test_bops_hold_what_the_compensation_costs(tower: Any, pixels: Tensor) -> None:
    block, shape, rank = tower.blocks[0], tower.shape, 3
    counted = 0
    for role in ROLES:
        linear = getattr(block, role)
        thin = nn.Sequential(nn.Linear(linear.in_features, rank), nn.Linear(rank, linear.out_features))
        with FlopCounterMode(display=False) as counter:
            thin(torch.zeros(1, shape.tokens, linear.in_features))
        counted += counter.get_total_flops() // 2
    assert _scheme(rank=rank).added_macs(shape) == counted
    parts: tuple[Any, ...] = (*ROLES, "products")
    expected = block_bops(shape, dict.fromkeys(parts, (4, 4))) + 32 * 32 * counted
    assert _scheme(rank=rank).coverage(tower, {}).block_bops == (expected,) * shape.depth


def test_no_calibration_image_at_all_is_refused(tower: Any) -> None:
    with pytest.raises(ValueError, match="nothing to calibrate on"):
        _scheme().calibrate(tower, lambda: [])
