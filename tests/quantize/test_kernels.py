"""Products of codes beside numpy's integers, and oneDNN's beside the simulation in float32."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lraee.models.families.open_clip import OpenClipModel
from lraee.models.tower import ROLES, Tower
from lraee.quantize import kernels
from lraee.quantize.kernels import FloatProduct, OneDnnProduct, exact_parts, exact_product, onednn_is_exact
from lraee.quantize.layers import QuantizedLinear
from lraee.quantize.schemes import ActivationSpec, WeightSpec
from lraee.quantize.schemes.dynamic_int8 import DynamicInt8
from lraee.quantize.schemes.uniform import Uniform
from tests import examples

BITS = range(2, 9)


def _products(codes: np.ndarray, zero: np.ndarray, weights: np.ndarray, bits: int) -> dict[str, np.ndarray]:
    """The product by every kernel that is exact here, and by the one that is chosen."""
    weight_codes = torch.tensor(weights, dtype=torch.int8)
    found = {"float": FloatProduct(weight_codes, bits), "chosen": exact_product(weight_codes, bits)}
    if onednn_is_exact(bits, int(weights.min()), int(weights.max()), *weights.shape):
        found["onednn"] = OneDnnProduct(weight_codes, bits)
    zero_point = torch.tensor(zero).float()
    return {name: product(torch.tensor(codes).float(), zero_point).numpy() for name, product in found.items()}


def _assert_exact(codes: np.ndarray, zero: np.ndarray, weights: np.ndarray, bits: int) -> None:
    expected = ((codes.astype(np.int64) - zero) @ weights.astype(np.int64).T).astype(np.float32)
    for name, found in _products(codes, zero, weights, bits).items():
        np.testing.assert_array_equal(found, expected, err_msg=name)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("weight_bits", BITS)
@pytest.mark.parametrize("length", [1, 7, 515, 3072])
def test_products_equal_numpys_integers(bits: int, weight_bits: int, length: int) -> None:
    rng = np.random.default_rng(bits * 100 + weight_bits)
    half = 2 ** (weight_bits - 1)
    codes = rng.integers(0, 2**bits, size=(2, 3, length))
    weights = rng.integers(-half, half, size=(4, length))
    _assert_exact(codes, rng.integers(0, 2**bits, size=(2, 1, 1)), weights, bits)


@pytest.mark.parametrize("bits", [6, 7, 8])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("length", [3072, 20_001])
def test_products_of_large_codes_are_exact_over_long_rows(bits: int, sign: int, length: int) -> None:
    most, half = 2**bits - 1, 2 ** (bits - 1)
    rng = np.random.default_rng(length)
    codes = rng.integers(most // 2, most + 1, size=(1, 20, length))
    weights = sign * rng.integers(half // 2, half, size=(30, length))
    codes[0, 0], weights[0] = most, -half
    _assert_exact(codes, np.array(0), weights, bits)
    if bits == 8:
        plain = torch.tensor(codes).float() @ torch.tensor(weights).float().mT
        expected = (codes @ weights.T).astype(np.float32)
        assert not np.array_equal(plain.numpy(), expected), "float32 alone would do: the test is too weak"


@pytest.mark.parametrize("outputs", [1, 2])
def test_products_of_one_or_two_rows_are_exact(outputs: int) -> None:
    weights = np.array([[0, 27, 120, 58], [-120, 5, 0, -99]])[:outputs]
    _assert_exact(np.array([[[44, 208, 166, 233]]]), np.array([[[100]]]), weights, 8)


@settings(max_examples=examples(20))
@given(st.data())
def test_products_of_any_codes_equal_numpys_integers(data: st.DataObject) -> None:
    bits, weight_bits = data.draw(st.integers(2, 8)), data.draw(st.integers(2, 8))
    images, tokens = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 20))
    outputs, inputs = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 1500))
    half, edge = 2 ** (weight_bits - 1), data.draw(st.floats(0.0, 1.0))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    shape = (images, tokens, inputs)
    codes = np.where(rng.random(shape) < edge, 2**bits - 1, rng.integers(0, 2**bits, size=shape))
    weights = rng.integers(-half, half, size=(outputs, inputs))
    weights[rng.random((outputs, inputs)) < edge] = data.draw(st.sampled_from([-half, half - 1]))
    _assert_exact(codes, rng.integers(0, 2**bits, size=(images, 1, 1)), weights, bits)


@settings(max_examples=examples(20))
@given(st.integers(1, 255), st.integers(1, 4000), st.integers(0, 10**6))
def test_parts_are_the_weights_and_stay_below_2_24(largest: int, inputs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = torch.tensor(rng.integers(-128, 128, size=(3, inputs)), dtype=torch.int8)
    parts = exact_parts(weights, largest)
    assert torch.equal(torch.cat(parts, dim=1), weights)
    for part in parts:
        sides = [
            np.maximum(side, 0).sum(axis=1).max() for side in (part.numpy().astype(int), -part.numpy().astype(int))
        ]
        assert largest * max(sides) < 2**24


def test_ordinary_weights_are_not_split() -> None:
    # The longest row of ViT-B/32, eight bits: the bound by limits alone would split it into seven parts.
    weights = torch.randn(768, 3072, generator=torch.Generator().manual_seed(0))
    codes = (weights / weights.abs().amax() * 127).round().to(torch.int8)
    assert len(exact_parts(codes, 255)) == 1


def test_a_saturating_kernel_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def saturating(self: OneDnnProduct, codes: torch.Tensor, packed: torch.Tensor) -> torch.Tensor:
        # As x86 without VNNI does: pairs of products are added in 16 bits.
        pairs = (codes.int()[..., None, :] * self.weights.int()).unflatten(-1, (-1, 2)).sum(-1)
        return pairs.clamp(-(2**15), 2**15 - 1).sum(-1).float()

    def keep(self: OneDnnProduct, weight_codes: torch.Tensor) -> torch.Tensor:
        self.weights = weight_codes
        return weight_codes

    monkeypatch.setattr(OneDnnProduct, "multiply", saturating)
    monkeypatch.setattr(OneDnnProduct, "pack", keep)
    onednn_is_exact.cache_clear()
    exact = {bits: onednn_is_exact(bits, -128, 127, 8, 32) for bits in BITS}
    onednn_is_exact.cache_clear()
    assert exact == {bits: bits < 8 for bits in BITS}


def test_a_build_without_the_operators_multiplies_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: OneDnnProduct, weight_codes: torch.Tensor) -> torch.Tensor:
        raise AttributeError("'_OpNamespace' 'onednn' object has no attribute 'qlinear_prepack'")

    monkeypatch.setattr(OneDnnProduct, "pack", missing)
    onednn_is_exact.cache_clear()
    assert isinstance(exact_product(torch.ones(4, 6, dtype=torch.int8), 4), FloatProduct)
    onednn_is_exact.cache_clear()


SCHEMES = {
    "dynamic 8 bits": DynamicInt8(scheme="dynamic-int8", reading="all_linears"),
    "static 8 bits": Uniform(
        scheme="uniform", weights=WeightSpec(granularity="channel"), activations=ActivationSpec(observer="percentile")
    ),
    "W4A4": Uniform(
        scheme="uniform", weights=WeightSpec(bits=4), activations=ActivationSpec(bits=4, observer="mse")
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def embedded() -> Tower:
    family = OpenClipModel(family="open_clip", name="shapes-clip", pretrained="embedded", templates=["a photo of a {}"])
    return family.load().tower


def _integers_by_linear(tower: Any, pixels: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Run a quantized tower; of every Linear its product, and the simulation's on the same codes."""
    pairs = []

    def beside(product: kernels.Product, weight_codes: torch.Tensor) -> Any:
        simulation = FloatProduct(weight_codes, product.code_bits)

        def both(codes: torch.Tensor, zero_point: torch.Tensor) -> torch.Tensor:
            expected = simulation(codes.clone(), zero_point)
            found = product(codes, zero_point)
            pairs.append((found.clone(), expected))
            return found

        return both

    for block in tower.blocks:
        for role in ("qkv", "proj", "fc1", "fc2"):
            layer = getattr(block, role)
            layer.product = beside(layer.product, layer.weight_codes)
    tower(pixels)
    return pairs


@pytest.mark.parametrize("name", SCHEMES)
def test_every_linear_of_the_embedded_model_has_the_simulations_integers(embedded: Tower, name: str) -> None:
    pixels = torch.randn(6, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    scheme = SCHEMES[name]
    tower = scheme.apply(embedded, scheme.calibrate(embedded, lambda: [pixels]))
    if name != "static 8 bits" and onednn_is_exact(7, -128, 127, 8, 32):
        chosen = {type(getattr(block, role).product) for block in tower.blocks for role in ("qkv", "fc2")}
        assert chosen == {OneDnnProduct}
    pairs = _integers_by_linear(tower, pixels)
    assert len(pairs) == len(embedded.blocks) * len(ROLES) == 48
    for found, expected in pairs:
        assert torch.equal(found, expected)
        assert torch.equal(found, found.round())


@pytest.mark.parametrize("name", SCHEMES)
def test_features_do_not_depend_on_the_kernel(embedded: Tower, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.randn(6, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    scheme = SCHEMES[name]
    state = scheme.calibrate(embedded, lambda: [pixels])
    chosen = scheme.apply(embedded, state)
    monkeypatch.setattr(kernels, "onednn_is_exact", lambda *shape: False)
    simulated = scheme.apply(embedded, state)
    assert isinstance(simulated.get_submodule("blocks.0.fc1"), QuantizedLinear)
    for one, two in zip(chosen.states(pixels), simulated.states(pixels), strict=True):
        assert torch.equal(one, two)
