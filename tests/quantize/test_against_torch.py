"""Our dynamic INT8 beside torch's own, at batch 1, where the range of an image is the range of the batch.

Three roundings differ: torch multiplies by 1 / scale where we divide, adds the zero point before it rounds (a half goes
to the even *code*, ours to the even multiple of the scale), and folds scales in another order. A value within a float's
rounding of a half may therefore get the neighbouring code. All others agree exactly, and sums of integer products are
exact on both sides.
"""

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from lraee.quantize.grids import weight_scale
from lraee.quantize.linears import quantized_linear
from lraee.quantize.schemes.dynamic_int8 import DynamicInt8

pytestmark = [
    pytest.mark.skipif(
        not {"x86", "fbgemm"} & set(torch.backends.quantized.supported_engines), reason="torch has no x86 INT8 kernels"
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


@pytest.fixture(autouse=True)
def _seven_bit_engine(monkeypatch: pytest.MonkeyPatch) -> Any:
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm" if "fbgemm" in torch.backends.quantized.supported_engines else "x86"
    yield
    torch.backends.quantized.engine = before


def _by_torch(module: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(copy.deepcopy(module), {nn.Linear}, dtype=torch.qint8)


def _reached(module: nn.Module) -> list[str]:
    dynamic = torch.ao.nn.quantized.dynamic.Linear
    return sorted(name for name, part in module.named_modules() if isinstance(part, dynamic))


def _scheme(reading: Any) -> DynamicInt8:
    return DynamicInt8(scheme="dynamic-int8", reading=reading)


@pytest.mark.parametrize(("inputs", "outputs"), [(32, 16), (200, 64), (768, 96), (3072, 48)])
@pytest.mark.parametrize("shift", [0.0, 0.7, 4.0])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_is_torchs_but_for_values_at_a_half(inputs: int, outputs: int, shift: float, bias: bool) -> None:
    generator = torch.Generator().manual_seed(inputs)
    linear = nn.Linear(inputs, outputs, bias=bias).requires_grad_(False)
    linear.weight.copy_(torch.randn(outputs, inputs, generator=generator))
    x = torch.randn(1, 20, inputs, generator=generator) + shift
    theirs = _by_torch(nn.Sequential(linear))[0]
    scale = weight_scale(linear.weight, 8, per_channel=False)
    ours = quantized_linear(linear, "fc1", _scheme("all_linears").recipe("fc1"), {"fc1.weight_scale": scale})

    assert theirs.weight().q_scale() == pytest.approx(scale.item(), rel=1e-6)
    assert theirs.weight().q_zero_point() == 0
    moved_weights = (theirs.weight().int_repr() - ours.weight_codes).abs()
    assert moved_weights.max() <= 1
    assert moved_weights.sum() <= max(2, 1e-4 * linear.weight.numel())

    # One product unit is the input's step times the weights' step. A moved input code moves its whole token's outputs
    # by at most 128 of them, a moved weight code its whole output column by at most 127.
    low, high = min(x.min().item(), 0.0), max(x.max().item(), 0.0)
    unit = (high - low) / 127 * scale.item()
    moved = (theirs(x) - ours(x)).abs() / unit
    expected = linear(x)
    assert moved.max() <= 2.01 * 128
    exact = moved < 0.05
    columns = moved_weights.sum(1) == 0
    tokens = exact[0][:, columns].float().mean(1) == 1.0
    assert tokens.float().mean() >= 0.8
    assert (ours(x) - expected).norm() > 20 * (theirs(x) - ours(x)).norm()


def _assert_alike(clean: torch.Tensor, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Compare how far the two quantized networks are apart with how far they are from FP32.

    Where no value lies at a half, only the last bits differ; one moved code costs some per cent of an image's noise.
    """
    noise, disagreement = (ours - clean).norm(dim=1), (ours - theirs).norm(dim=1)
    assert noise.min() > 1e-3 * clean.norm(dim=1).mean()
    assert disagreement.median() < 1e-3 * noise.median()
    assert disagreement.max() < 0.3 * noise.min()


def test_a_tower_with_all_linears_is_torchs(tower: Any, pixels: torch.Tensor) -> None:
    scheme = _scheme("all_linears")
    ours = scheme.apply(tower, scheme.calibrate(tower, lambda: []))
    theirs = _by_torch(tower)
    assert len(_reached(theirs)) == 16
    clean, one, two = (torch.cat([network(image[None]) for image in pixels]) for network in (tower, ours, theirs))
    _assert_alike(clean, one, two)


def test_mlp_only_is_what_torch_reaches_in_open_clips_own_model(clip: Any, tower: Any, pixels: torch.Tensor) -> None:
    scheme = _scheme("mlp_only")
    ours = scheme.apply(tower, scheme.calibrate(tower, lambda: []))
    theirs = _by_torch(clip.model.visual)
    assert _reached(theirs) == sorted(
        f"transformer.resblocks.{block}.mlp.{part}" for block in range(4) for part in ("c_fc", "c_proj")
    )
    clean, one, two = (torch.cat([network(image[None]) for image in pixels]) for network in (tower, ours, theirs))
    _assert_alike(clean, one, two)


def test_the_two_readings_differ(tower: Any, pixels: torch.Tensor) -> None:
    one, two = (
        _scheme(reading).apply(tower, _scheme(reading).calibrate(tower, lambda: []))(pixels)
        for reading in ("mlp_only", "all_linears")
    )
    assert (one - two).norm() > 0.1 * (one - tower(pixels)).norm()
