from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import block_diag, hadamard
from torch import Tensor, nn

from lraee.models.tower import ROLES
from lraee.quantize.hadamard import Rotation, rotated_weight
from lraee.quantize.layers import QuantizedLinear
from lraee.quantize.schemes.bitskip_hadamard import BitSkipHadamard
from lraee.quantize.schemes.uniform import Uniform


def _scheme(bits: int = 8) -> BitSkipHadamard:
    return BitSkipHadamard(scheme="bitskip-hadamard", weight_bits=bits, activation_bits=bits)


def _dynamic(bits: int) -> Uniform:
    weights, activations = {"bits": bits, "granularity": "channel"}, {"bits": bits, "range": "dynamic"}
    return Uniform.model_validate({"scheme": "uniform", "weights": weights, "activations": activations})


@pytest.mark.parametrize(("width", "size"), [(1, 1), (7, 1), (2, 2), (12, 4), (32, 32), (192, 64), (768, 256)])
def test_the_rotation_is_scipys_hadamard_matrix_block_by_block(width: int, size: int) -> None:
    expected = block_diag(*[hadamard(size) / np.sqrt(size)] * (width // size))
    np.testing.assert_allclose(Rotation(width)(torch.eye(width)).numpy(), expected, atol=1e-6)


@given(width=st.integers(1, 200), seed=st.integers(0, 100))
def test_the_rotation_keeps_lengths_and_undoes_itself(width: int, seed: int) -> None:
    x = torch.randn(2, 3, width, generator=torch.Generator().manual_seed(seed))
    rotation = Rotation(width)
    torch.testing.assert_close(rotation(x).norm(dim=-1), x.norm(dim=-1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rotation(rotation(x)), x, rtol=1e-5, atol=1e-5)


def test_an_outlier_is_shared_among_all_channels() -> None:
    x = torch.zeros(16)
    x[3] = 8.0
    assert Rotation(16)(x).abs().tolist() == [2.0] * 16


def test_the_embedding_is_unchanged_before_rounding(tower: Any, pixels: Tensor) -> None:
    expected = tower(pixels)
    for block in tower.blocks:
        for role in ROLES:
            linear = getattr(block, role)
            rotated = nn.Linear(linear.in_features, linear.out_features)
            rotated.weight.data, rotated.bias.data = rotated_weight(linear), linear.bias.data
            block.set_submodule(role, nn.Sequential(Rotation(linear.in_features), rotated))
    assert (tower(pixels) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert not torch.equal(tower(pixels), expected)


def test_a_rotated_layer_by_hand(tower: Any) -> None:
    # H = [[1, 1], [1, -1]] / sqrt 2. W H^T = (2, 1); at scale 0.75 codes (3, 1).
    block = tower.blocks[0]
    linear = nn.Linear(2, 1)
    linear.weight.data = torch.tensor([[3.0, 1.0]]) / 2**0.5
    linear.bias.data = torch.tensor([0.25])
    block.qkv = linear.requires_grad_(False)
    state = {f"{role}.weight_scale": torch.ones(1) for role in ROLES} | {"qkv.weight_scale": torch.tensor([0.75])}
    scheme = BitSkipHadamard(scheme="bitskip-hadamard", weight_bits=3, activation_bits=2)
    x = torch.tensor([[[1.0, 3.0], [2.0, 0.6]]]) / 2**0.5
    # Rotated: (2, -1) and (1.3, 0.7). In 2 bits the range [-1, 2] has scale 1: rounded to (2, -1) and (1, 1).
    expected = [(2 * 3 - 1 * 1) * 0.75 + 0.25, (1 * 3 + 1 * 1) * 0.75 + 0.25]
    assert scheme.block(block, state).qkv(x).flatten().tolist() == pytest.approx(expected)


def test_one_channels_outliers_harm_less_than_without_the_rotation(tower: Any, pixels: Tensor) -> None:
    with torch.no_grad():
        for block in tower.blocks:
            block.norm1.weight[5] *= 40
            block.qkv.weight[:, 5] /= 40
    clean = tower(pixels)
    plain, rotated = (
        (scheme.apply(tower, scheme.calibrate(tower, lambda: []))(pixels) - clean).norm()
        for scheme in (_dynamic(6), _scheme(6))
    )
    assert rotated < 0.5 * plain


def test_a_result_does_not_depend_on_the_rest_of_the_batch(tower: Any, pixels: Tensor) -> None:
    scheme = _scheme()
    quantized = scheme.apply(tower, scheme.calibrate(tower, lambda: []))
    together = quantized(torch.cat([pixels, 50 * pixels[:1]]))[:8]
    alone = torch.cat([quantized(image[None]) for image in pixels])
    assert (together - alone).norm() < 0.1 * (together - tower(pixels)).norm()


def test_every_linear_and_no_product_is_quantized_in_integers(tower: Any) -> None:
    scheme = _scheme()
    result = scheme.apply(tower, scheme.calibrate(tower, lambda: []))
    for original, block in zip(tower.blocks, result.blocks, strict=True):
        assert all(isinstance(getattr(block, role)[1], QuantizedLinear) for role in ROLES)
        assert type(block.mix) is type(original.mix)
    assert scheme.bits_of("products") is None


def test_only_linears_can_be_rotated(tower: Any) -> None:
    scheme = _scheme()
    state = scheme.calibrate(tower, lambda: [])
    with pytest.raises(TypeError, match="Sequential cannot be rotated"):
        scheme.apply(scheme.apply(tower, state), state)
