"""OpenVINO's graphs against torch's modules, which are the benchmark's."""

from typing import Any

import numpy as np
import pytest
import torch

from lraee.models.assembly import ACTIVATIONS, Activation
from lraee.models.timm_tower import tower_of
from lraee.models.tower import Tower
from lraee.quantize.activation_grids import StaticGrid
from lraee.quantize.layers import QuantizedLinear
from lraee.runtime import EarlyExitCLIP, engines
from lraee.runtime.engines import ENGINES, Engine, choose, installed
from lraee.runtime.network import describe, rebuild
from tests.runtime.conftest import UNIFORM

DYNAMIC = UNIFORM | {"activations": {"bits": 8, "range": "dynamic"}}
FOUR_BITS = {"scheme": "uniform", "weights": {"bits": 4, "granularity": "tensor"}, "activations": {"bits": 4}}


def _engine(name: str, exported: Any, tower: Tower | None = None) -> Engine:
    """The engine as `load` makes it, or one that runs another tower with the same exits."""
    model = EarlyExitCLIP.load(exported.folder, name)
    return model.engine if tower is None else ENGINES[name](tower, (32, 32), model.heads)


def _states(engine: Engine, pixels: torch.Tensor) -> list[torch.Tensor]:
    """Every state from exit to exit, and the embeddings."""
    x, found = pixels, []
    for index in range(3):
        x, _ = engine.visit(index, x)
        found.append(x)
    return [*found, engine.finish(x)]


def _encoded(engine: str, tower: Tower, pixels: torch.Tensor) -> torch.Tensor:
    height, width = pixels.shape[2:]
    return ENGINES[engine](tower, (height, width)).encode(pixels)


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


@pytest.mark.parametrize("batch", [1, 5])
def test_an_unquantized_tower_is_the_same(tower: Tower, batch: int) -> None:
    pytest.importorskip("openvino")
    tower, pixels = rebuild(*describe(tower)), torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found, expected = (_encoded(engine, tower, pixels) for engine in ("openvino", "torch"))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_classifier_is_the_same(classifier: Tower) -> None:
    pytest.importorskip("openvino")
    tower, pixels = rebuild(*describe(classifier)), torch.randn(5, 3, 32, 32)
    found, expected = (_encoded(engine, tower, pixels) for engine in ("openvino", "torch"))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_every_activation_is_the_same(classifier: Tower, activation: Activation) -> None:
    pytest.importorskip("openvino")
    network, tensors = describe(classifier)
    tower = rebuild(network.model_copy(update={"activation": activation}), tensors)
    pixels = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found, expected = (_encoded(engine, tower, pixels) for engine in ("openvino", "torch"))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scheme", [UNIFORM, DYNAMIC, FOUR_BITS], ids=["static", "dynamic", "four bits"])
def test_a_quantized_block_is_the_same_but_for_turned_roundings(
    make_exported: Any, tower: Tower, scheme: dict[str, Any]
) -> None:
    """A block is little enough that hardly a rounding turns: almost all values agree to float32."""
    pytest.importorskip("openvino")
    exported = make_exported(scheme)
    found, expected = (_engine(name, exported).visit(0, exported.pixels)[0] for name in ("openvino", "torch"))
    float_, _ = _engine("torch", exported, rebuild(*describe(tower))).visit(0, exported.pixels)
    assert torch.isclose(found, expected, rtol=1e-4, atol=1e-4).float().mean() > 0.99
    # Rounding itself is no small thing: without it the block would be another.
    assert torch.isclose(float_, expected, rtol=1e-4, atol=1e-4).float().mean() < 0.5


@pytest.mark.parametrize("engine", list(ENGINES))
def test_exit_by_exit_is_as_far_as_at_once(make_exported: Any, engine: str) -> None:
    if engine not in installed():
        pytest.skip(f"{engine} is not installed")
    exported = make_exported(FOUR_BITS)
    own = _engine(engine, exported)
    *states, finished = _states(own, exported.pixels)
    assert [tuple(state.shape) for state in states] == [(60, 17, 32)] * 3
    # Where sums are in another order, some roundings turn.
    assert torch.nn.functional.cosine_similarity(finished, own.encode(exported.pixels)).min() > 0.99
    assert not torch.allclose(states[1], states[2], atol=0.1)


@pytest.mark.parametrize("engine", list(ENGINES))
def test_single_images_are_as_those_of_a_batch(exported: Any, tower: Tower, engine: str) -> None:
    if engine not in installed():
        pytest.skip(f"{engine} is not installed")
    own = _engine(engine, exported, rebuild(*describe(tower)))
    _, together = own.visit(0, exported.pixels)
    alone = torch.cat([own.visit(0, pixels)[1].logits for pixels in exported.pixels.split(1)])
    torch.testing.assert_close(alone, together.logits, rtol=1e-4, atol=1e-4)


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
    with pytest.raises(ValueError, match=r"openvino needs a package.*pip install openvino"):
        choose("openvino")
    monkeypatch.setattr(engines, "find_spec", lambda package: package)
    assert installed()[0] == "openvino"
    assert choose(None) is ENGINES["openvino"]


@pytest.mark.parametrize("aggregation", ["ssa", "cls"])
def test_an_exit_tells_the_same(make_exported: Any, tower: Tower, aggregation: str) -> None:
    pytest.importorskip("openvino")
    exported, float_ = make_exported(aggregation=aggregation), rebuild(*describe(tower))
    plain, fast = (_engine(name, exported, float_) for name in ("torch", "openvino"))
    z, _ = plain.visit(0, exported.pixels)
    (_, one), (_, other) = plain.visit(1, z), fast.visit(1, z)
    torch.testing.assert_close(other.logits, one.logits, rtol=1e-4, atol=1e-4)
    assert np.array_equal(other.prediction, one.prediction)
    assert list(other.signals) == list(one.signals)
    for name, signal in one.signals.items():
        np.testing.assert_allclose(other.signals[name], signal, rtol=1e-4, atol=1e-5, err_msg=name)


def test_an_exit_reads_features_in_half_precision(exported: Any) -> None:
    """As heads were fitted; a thousandth more, which float16 does not see, changes nothing."""
    openvino = pytest.importorskip("openvino")
    from openvino import opset15 as ops

    from lraee.runtime.openvino_graph import Graph, _exit

    head, given = EarlyExitCLIP.load(exported.folder, "torch").heads[0], ops.parameter([-1, 17, 32], np.float32)
    model = openvino.Model(_exit(given, head, exported.tower.shape), [given])
    ask, z = Graph(model.clone, 1), torch.full((1, 17, 32), 4.0)
    noise = 0.1 * torch.randn(32, generator=torch.Generator().manual_seed(0))
    same, moved, expected = ask(z + 1e-3)[0], ask(z + noise)[0], ask(z)[0]
    assert np.array_equal(same, expected)
    assert not np.array_equal(moved, expected)
