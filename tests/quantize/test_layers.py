import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lraee.models.tower import ROLES, linear_from
from lraee.quantize.layers import QuantizedLinear
from lraee.quantize.linears import quantized_linear
from lraee.quantize.schemes import SCHEMES, ActivationSpec, LinearRecipe, WeightSpec
from lraee.quantize.schemes.dynamic_int8 import DynamicInt8
from lraee.quantize.schemes.uniform import Uniform
from lraee.registry import parse

ALL = DynamicInt8(scheme="dynamic-int8", reading="all_linears")
MLP = DynamicInt8(scheme="dynamic-int8", reading="mlp_only")


def _uniform(bits: int, granularity: Any = "tensor", **activations: Any) -> Uniform:
    return Uniform(
        scheme="uniform",
        weights=WeightSpec(bits=bits, granularity=granularity),
        activations=ActivationSpec(bits=bits, **activations),
    )


def _layer(weight: torch.Tensor, bias: torch.Tensor, recipe: LinearRecipe, **state: torch.Tensor) -> QuantizedLinear:
    linear = linear_from(weight, bias).requires_grad_(False)
    return quantized_linear(linear, "fc1", recipe, {f"fc1.{name}": tensor for name, tensor in state.items()})


def test_a_static_layer_by_hand() -> None:
    # Inputs: scale 1, zero point 1, codes 0..3. Weights: scale 0.5, codes -4..3.
    recipe = LinearRecipe(weights=WeightSpec(bits=3), activations=ActivationSpec(bits=2))
    layer = _layer(
        torch.tensor([[1.6, -0.9]]), torch.tensor([0.25]), recipe,
        weight_scale=torch.tensor([0.5]), input_scale=torch.tensor(1.0), input_zero_point=torch.tensor(1.0),
    )  # fmt: skip
    # Codes (3, -2); x -> (-1, 1.2) -> (-1, 1), and (9, -9) is cut to (2, -1).
    out = layer(torch.tensor([[[-1.0, 1.2]], [[9.0, -9.0]]]))
    assert out.flatten().tolist() == [(-3 - 2) * 0.5 + 0.25, (6 + 2) * 0.5 + 0.25]


def test_a_dynamic_layer_by_hand() -> None:
    # Range [-1, 2] of 2 bits: scale 1, zero point 1. A second image of range [0, 6]: scale 2, zero point 0.
    recipe = LinearRecipe(weights=WeightSpec(bits=3), activations=ActivationSpec(bits=2, range="dynamic"))
    layer = _layer(torch.tensor([[1.6, -0.9]]), torch.tensor([0.0]), recipe, weight_scale=torch.tensor([0.5]))
    out = layer(torch.tensor([[[-1.0, 2.0], [0.4, 0.6]], [[6.0, 0.0], [0.9, 3.1]]]))
    assert out.squeeze(2).tolist() == [[(-3 - 4) * 0.5, (0 - 2) * 0.5], [9 * 1.0, (0 - 4) * 1.0]]


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_layer_is_the_integer_product_of_its_dequantized_parts(bits: int, granularity: Any) -> None:
    rng = np.random.default_rng(bits)
    weight, x = rng.normal(size=(6, 700)).astype(np.float32), rng.normal(0.5, 1, (3, 5, 700)).astype(np.float32)
    bias = rng.normal(size=6).astype(np.float32)
    largest = np.abs(weight).max(axis=1) if granularity == "channel" else np.full(6, np.abs(weight).max())
    step = (largest / ((2**bits - 1) / 2)).astype(np.float32)
    codes = np.clip(np.rint(weight / step[:, None]), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    expected = np.empty((3, 5, 6))
    for image in range(3):
        low, high = min(x[image].min(), 0), max(x[image].max(), 0)
        scale = np.float32((high - low) / np.float32(2**bits - 1))
        zero = np.rint(-low / scale)
        inputs = np.clip(np.rint(x[image] / scale) + zero, 0, 2**bits - 1) - zero
        expected[image] = (inputs @ codes.T) * scale * step + bias
    recipe = LinearRecipe(
        weights=WeightSpec(bits=bits, granularity=granularity), activations=ActivationSpec(bits=bits, range="dynamic")
    )
    state = torch.tensor(step if granularity == "channel" else step[:1])
    layer = _layer(torch.tensor(weight), torch.tensor(bias), recipe, weight_scale=state)
    np.testing.assert_allclose(layer(torch.tensor(x)).numpy(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("length", [32, 3072])
def test_a_dynamic_result_does_not_depend_on_the_rest_of_the_batch(length: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(16, length, generator=generator)
    recipe = ALL.recipe("fc1")
    assert recipe is not None
    layer = _layer(weight, torch.zeros(16), recipe, weight_scale=weight.abs().max().reshape(1) / 127.5)
    x = torch.randn(5, 9, length, generator=generator)
    outlier = torch.cat([x, 1000 * x[:1]])
    together = layer(outlier)[:5]
    for image in range(5):
        assert torch.equal(layer(x[image : image + 1])[0], together[image])


def test_the_towers_dynamic_embedding_does_not_depend_on_the_batch(tower: Any, pixels: torch.Tensor) -> None:
    quantized_tower = ALL.apply(tower, ALL.calibrate(tower, lambda: []))
    together = quantized_tower(torch.cat([pixels, 50 * pixels[:1]]))[:8]
    alone = torch.cat([quantized_tower(image[None]) for image in pixels])
    # A per-batch range would move everything; a last bit before a rounding may move a single code.
    noise = (together - tower(pixels)).norm()
    assert (together - alone).norm() < 0.1 * noise


def test_quantizing_copies_the_tower(tower: Any, pixels: torch.Tensor) -> None:
    before = tower(pixels)
    ALL.apply(tower, ALL.calibrate(tower, lambda: []))
    assert torch.equal(tower(pixels), before)


@pytest.mark.parametrize(("scheme", "roles"), [(ALL, ("qkv", "proj", "fc1", "fc2")), (MLP, ("fc1", "fc2"))])
def test_exactly_the_named_linears_are_quantized(tower: Any, scheme: DynamicInt8, roles: tuple[str, ...]) -> None:
    result = scheme.apply(tower, scheme.calibrate(tower, lambda: []))
    for block in result.blocks:
        found = {role for role in ("qkv", "proj", "fc1", "fc2") if isinstance(getattr(block, role), QuantizedLinear)}
        assert found == set(roles)


def test_all_linears_change_the_attention_weights_and_mlp_only_does_not(tower: Any, pixels: torch.Tensor) -> None:
    x = tower.blocks[1].norm1(tower.stem(pixels))
    clean = tower.blocks[1].attention(x)
    attention = {
        scheme.reading: scheme.apply(tower, scheme.calibrate(tower, lambda: [])).blocks[1].attention(x)
        for scheme in (ALL, MLP)
    }
    assert torch.equal(attention["mlp_only"], clean)
    assert (attention["all_linears"] - clean).abs().max() > 1e-3


def test_qkv_codes_are_the_rounded_weights_of_open_clip(clip: Any, tower: Any) -> None:
    result = ALL.apply(tower, ALL.calibrate(tower, lambda: []))
    weight = clip.model.visual.transformer.resblocks[0].attn.in_proj_weight
    layer = result.blocks[0].qkv
    assert (layer.weight_codes * layer.weight_scale - weight).abs().max() <= 0.501 * weight.abs().max() / 127.5


def test_a_quantized_tower_is_not_quantized_again(tower: Any) -> None:
    result = MLP.apply(tower, MLP.calibrate(tower, lambda: []))
    with pytest.raises(TypeError, match="fc1 is a QuantizedLinear"):
        MLP.apply(result, MLP.calibrate(tower, lambda: []))


def test_a_missing_scale_is_named(tower: Any) -> None:
    with pytest.raises(KeyError, match=r"qkv\.weight_scale"):
        ALL.apply(tower, MLP.calibrate(tower, lambda: []))


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
@pytest.mark.parametrize("observer", ["min-max", "mse"])
def test_more_bits_leave_less_noise(tower: Any, pixels: torch.Tensor, granularity: Any, observer: Any) -> None:
    clean = tower(pixels)
    errors = []
    for bits in range(3, 9):
        scheme = _uniform(bits, granularity, observer=observer)
        noisy = scheme.apply(tower, scheme.calibrate(tower, lambda: [pixels]))(pixels)
        errors.append(float((noisy - clean).norm(dim=1).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.2 * errors[0]


def test_channels_with_their_own_scales_leave_less_noise(tower: Any, pixels: torch.Tensor) -> None:
    with torch.no_grad():
        for linear in (block.get_submodule(role) for block in tower.blocks for role in ROLES):
            linear.weight.mul_(torch.logspace(-1, 0, len(linear.weight))[:, None])
    clean = tower(pixels)
    noise = {}
    for granularity in ("tensor", "channel"):
        scheme = _uniform(5, granularity, range="dynamic")
        noise[granularity] = (scheme.apply(tower, scheme.calibrate(tower, lambda: []))(pixels) - clean).norm()
    assert noise["channel"] < noise["tensor"]


def _counted(module: nn.Module, pixels: torch.Tensor) -> int:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(pixels)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("scheme", [ALL, MLP], ids=lambda scheme: scheme.reading)
def test_coverage_is_what_open_clips_own_model_says(
    clip: Any, tower: Any, pixels: torch.Tensor, scheme: DynamicInt8
) -> None:
    parameters = macs = 0
    for block in clip.model.visual.transformer.resblocks:
        weights = [block.mlp.c_fc.weight, block.mlp.c_proj.weight]
        if scheme is ALL:
            weights += [block.attn.in_proj_weight, block.attn.out_proj.weight]
        parameters += sum(weight.numel() for weight in weights)
        macs += sum(17 * weight.numel() for weight in weights)
    found = scheme.coverage(tower, {})
    assert found.parameters == pytest.approx(parameters / sum(p.numel() for p in clip.model.visual.parameters()))
    assert found.macs == pytest.approx(macs / _counted(copy.deepcopy(tower), pixels[:1]))
    assert (found.weight_bits, found.activation_bits) == (8, 7)


def test_coverage_refuses_a_scheme_that_reaches_nothing(tower: Any) -> None:
    class Nothing(DynamicInt8):
        def recipe(self, role: Any) -> None:
            return None

    with pytest.raises(ValueError, match="quantizes no Linear"):
        Nothing(scheme="dynamic-int8", reading="mlp_only").coverage(tower, {})


@pytest.mark.parametrize("scheme", [ALL, MLP, _uniform(4, "channel", observer="mse")])
def test_schemes_survive_their_plain_form(scheme: Any) -> None:
    assert parse(SCHEMES, "scheme", scheme.model_dump(mode="json")) == scheme


@pytest.mark.parametrize("bits", [1, 9])
def test_bits_outside_2_to_8_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="bits"):
        WeightSpec(bits=bits)


def test_the_dynamic_scheme_is_pytorchs() -> None:
    recipe = ALL.recipe("qkv")
    assert recipe is not None
    assert (recipe.weights.bits, recipe.weights.granularity) == (8, "tensor")
    assert (recipe.activations.bits, recipe.activations.range) == (7, "dynamic")
