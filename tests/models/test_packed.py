"""FP32 products by oneDNN beside torch's own."""

from typing import Any

import pytest
import torch
from torch import nn

from lraee.models import packed as module
from lraee.models.packed import PackedLinear, cpu_vendor, onednn_is_faster, packed
from lraee.quantize.layers import QuantizedLinear
from lraee.quantize.schemes.dynamic_int8 import DynamicInt8

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this build of torch has no oneDNN")


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "onednn_is_faster", lambda: True)


@pytest.mark.parametrize("shape", [(1, 32), (5, 32), (3, 17, 32)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_linear_is_the_linear_to_1e_4(shape: tuple[int, ...], bias: bool) -> None:
    linear = nn.Linear(32, 48, bias=bias).requires_grad_(False)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(PackedLinear(linear)(x), linear(x), rtol=1e-4, atol=1e-5)


def test_a_packed_tower_is_the_tower_to_1e_4(tower: Any, pixels: torch.Tensor, faster: None) -> None:
    result = packed(tower)
    for one, two in zip(result.states(pixels), tower.states(pixels), strict=True):
        assert (one - two).abs().max() < 1e-4 * two.abs().max()
    assert sum(isinstance(part, PackedLinear) for part in result.modules()) == 16
    assert not any(isinstance(part, PackedLinear) for part in tower.modules()), "the tower itself is changed"


def test_what_a_quantizer_leaves_in_fp32_is_packed_and_the_rest_stays(
    tower: Any, pixels: torch.Tensor, faster: None
) -> None:
    scheme = DynamicInt8(scheme="dynamic-int8", reading="mlp_only")
    quantized = scheme.apply(tower, scheme.calibrate(tower, lambda: []))
    result = packed(quantized)
    block = result.blocks[0]
    assert isinstance(block.qkv, PackedLinear)
    assert isinstance(block.fc1, QuantizedLinear)
    noise = (quantized(pixels) - tower(pixels)).norm()
    assert (result(pixels) - quantized(pixels)).norm() < 0.3 * noise


def test_where_it_brings_nothing_the_tower_stays(tower: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "onednn_is_faster", lambda: False)
    assert packed(tower) is tower


@pytest.mark.parametrize(
    ("vendor", "capability", "expected"),
    [
        ("AuthenticAMD", "AVX512", True), ("AuthenticAMD", "AVX512_VNNI", True), ("AuthenticAMD", "AVX2", False),
        ("GenuineIntel", "AVX512", False), ("aarch64", "DEFAULT", False),
    ],
)  # fmt: skip
def test_it_follows_from_the_cpu(monkeypatch: pytest.MonkeyPatch, vendor: str, capability: str, expected: bool) -> None:
    monkeypatch.setattr(module, "cpu_vendor", lambda: vendor)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert onednn_is_faster() is expected


def test_the_cpus_vendor_is_known() -> None:
    assert cpu_vendor()
