"""OpenVINO's graphs against torch's modules, which are the benchmark's."""

from typing import Any

import numpy as np
import pytest
import torch

from lraee.models.timm_tower import tower_of
from lraee.models.tower import Tower
from lraee.quantize.activation_grids import StaticGrid
from lraee.quantize.layers import QuantizedLinear
from lraee.quantize.schemes import SCHEMES
from lraee.registry import parse
from lraee.runtime import EarlyExitCLIP, engines
from lraee.runtime.engines import ENGINES, choose, installed
from lraee.runtime.network import describe, rebuild
from tests.runtime.conftest import UNIFORM

DYNAMIC = UNIFORM | {"activations": {"bits": 8, "range": "dynamic"}}
FOUR_BITS = {"scheme": "uniform", "weights": {"bits": 4, "granularity": "tensor"}, "activations": {"bits": 4}}


def _run(engine: str, tower: Tower, pixels: torch.Tensor, stops: tuple[int, ...]) -> list[torch.Tensor]:
    made, x, found = ENGINES[engine](tower, stops, tuple(pixels.shape[2:])), pixels, []
    for segment in range(len(stops) + 1):
        x = made.run(segment, x)
        found.append(x)
    return found


def _quantized(tower: Tower, pixels: torch.Tensor, scheme: dict[str, Any]) -> Tower:
    own = parse(SCHEMES, "scheme", scheme)
    return rebuild(*describe(own.apply(tower, own.calibrate(tower, lambda: pixels.split(20)))))


@pytest.fixture
def classifier() -> Tower:
    """A classifier with LayerScale, without QuickGELU and without a projection."""
    from lraee.models import vision_ops  # noqa: F401  (before timm)

    import timm  # isort: skip

    options = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 4, "num_heads": 2, "init_values": 0.5}
    model = timm.create_model("vit_tiny_patch16_224", **options).eval().requires_grad_(False)
    for number, parameter in enumerate(model.parameters()):
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    return tower_of(model)


@pytest.mark.parametrize("stops", [(1, 2, 3), ()])
def test_an_unquantized_tower_is_the_same(tower: Tower, stops: tuple[int, ...]) -> None:
    pytest.importorskip("openvino")
    tower, pixels = rebuild(*describe(tower)), torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found, expected = (_run(engine, tower, pixels, stops) for engine in ("openvino", "torch"))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_classifier_is_the_same(classifier: Tower) -> None:
    pytest.importorskip("openvino")
    tower, pixels = rebuild(*describe(classifier)), torch.randn(5, 3, 32, 32)
    found, expected = (_run(engine, tower, pixels, (2,))[-1] for engine in ("openvino", "torch"))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scheme", [UNIFORM, DYNAMIC, FOUR_BITS], ids=["static", "dynamic", "four bits"])
def test_a_quantized_block_is_the_same_but_for_turned_roundings(tower: Tower, scheme: dict[str, Any]) -> None:
    """A block is little enough that hardly a rounding turns: almost all values agree to float32."""
    pytest.importorskip("openvino")
    pixels = torch.randn(60, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    quantized = _quantized(tower, pixels, scheme)
    found, expected = (_run(engine, quantized, pixels, (1, 2, 3))[0] for engine in ("openvino", "torch"))
    float_ = _run("torch", rebuild(*describe(tower)), pixels, (1, 2, 3))[0]
    assert torch.isclose(found, expected, rtol=1e-4, atol=1e-4).float().mean() > 0.99
    # Rounding itself is no small thing: without it the block would be another.
    assert torch.isclose(float_, expected, rtol=1e-4, atol=1e-4).float().mean() < 0.5


@pytest.mark.parametrize("bits", [4, 8])
def test_extreme_codes_do_not_saturate(bits: int) -> None:
    """Whether by bytes or not: 255 * 127 saturates where a CPU has no VNNI."""
    openvino = pytest.importorskip("openvino")
    from openvino import opset15 as ops

    from lraee.runtime.openvino_graph import _linear, compiled

    generator = torch.Generator().manual_seed(0)
    weights = torch.where(torch.rand(96, 768, generator=generator) < 0.5, -128, 127).to(torch.int8)
    weights[:2] = 127
    linear = QuantizedLinear(weights, torch.full((96,), 0.5), None, StaticGrid(bits, torch.ones(1), torch.ones(1)))
    given = ops.parameter([-1, 768], np.float32)
    x = torch.where(torch.rand(40, 768, generator=generator) < 0.2, -1.0, 2.0**bits - 2)
    found = compiled(openvino.Model([_linear(given, linear)], [given]), 1)([x.numpy()])[0]
    # Sums beyond 2^24 are rounded; a saturated product would be off by half.
    np.testing.assert_allclose(found, linear(x).numpy(), rtol=1e-5)


def test_answers_and_exits_are_the_evaluations(exported: Any) -> None:
    pytest.importorskip("openvino")
    torch_, fast = (
        EarlyExitCLIP.load(exported.folder, engine).route(exported.pixels) for engine in ("torch", "openvino")
    )
    assert (torch_.answer == fast.answer).mean() > 0.95
    assert (torch_.place == fast.place).mean() > 0.95
    assert len(np.unique(fast.place)) > 2


def test_embeddings_of_several_batches_are_kept(exported: Any) -> None:
    pytest.importorskip("openvino")
    model = EarlyExitCLIP.load(exported.folder, "openvino")
    together = model.encode_image(list(exported.pixels))
    first = model.encode_image(exported.pixels[:1])
    assert len(together) == 60
    torch.testing.assert_close(together[:1], first, rtol=1e-3, atol=1e-3)


def test_the_fastest_installed_engine_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda package: package if package == "torch" else None)
    assert installed() == ["torch"]
    assert choose(None) is ENGINES["torch"]
    with pytest.raises(ValueError, match=r"openvino needs a package.*pip install 'lraee\[openvino\]'"):
        choose("openvino")
    monkeypatch.setattr(engines, "find_spec", lambda package: package)
    assert installed()[0] == "openvino"
    assert choose(None) is ENGINES["openvino"]


@pytest.mark.parametrize("aggregation", ["ssa", "cls"])
def test_an_exit_tells_the_same(make_exported: Any, aggregation: str) -> None:
    pytest.importorskip("openvino")
    exported = make_exported(aggregation=aggregation)
    plain, fast = (EarlyExitCLIP.load(exported.folder, engine) for engine in ("torch", "openvino"))
    z = plain.engine.run(0, exported.pixels)
    one, other = plain.exits.ask[0](z), fast.exits.ask[0](z)
    torch.testing.assert_close(other.logits, one.logits, rtol=1e-4, atol=1e-4)
    assert np.array_equal(other.prediction, one.prediction)
    assert list(other.signals) == list(one.signals)
    for name, signal in one.signals.items():
        np.testing.assert_allclose(other.signals[name], signal, rtol=1e-4, atol=1e-5, err_msg=name)


def test_an_exit_reads_features_in_half_precision(exported: Any) -> None:
    """As heads were fitted; a thousandth more, which float16 does not see, changes nothing."""
    pytest.importorskip("openvino")
    ask = EarlyExitCLIP.load(exported.folder, "openvino").exits.ask[0]
    z = torch.full((1, 17, 32), 4.0)
    assert torch.equal(ask(z).logits, ask(z + 1e-3).logits)
    assert not torch.equal(
        ask(z).logits, ask(z + 0.1 * torch.randn(32, generator=torch.Generator().manual_seed(0))).logits
    )
