from collections.abc import Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lraee.models.tower import ROLES
from lraee.quantize import ptq4vit
from lraee.quantize.blocks import of_block
from lraee.quantize.layers import QuantizedLinear, QuantizedMix, SimulatedLinear
from lraee.quantize.ptq4vit import BlockSearch
from lraee.quantize.schemes import SCHEMES, ActivationSpec, QuantizerState, Role, WeightSpec
from lraee.quantize.schemes.ptq4vit import Ptq4Vit
from lraee.quantize.schemes.uniform import Uniform
from lraee.quantize.trace import trace
from lraee.quantize.twin_grids import GeluGrid, SoftmaxGrid
from lraee.registry import parse


def _scheme(bits: int = 4, **settings: Any) -> Ptq4Vit:
    return Ptq4Vit(scheme="ptq4vit", weight_bits=bits, activation_bits=bits, **settings)


@pytest.fixture(scope="module")
def found(clip: Any, pixels: Tensor) -> QuantizerState:
    """The 4-bit state of the tower, calibrated on all pictures."""
    from lraee.models.open_clip_tower import tower_of

    return _scheme().calibrate(tower_of(clip.model), lambda: [pixels])


def _noise(tower: Any, scheme: Any, state: QuantizerState, pixels: Tensor) -> float:
    return float((scheme.apply(tower, state)(pixels) - tower(pixels)).norm())


def test_blocks_are_searched_on_fp32_inputs_and_their_linears_on_quantized_ones(
    tower: Any, pixels: Tensor, found: QuantizerState, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[Tensor]] = {role: [] for role in ROLES}
    linear = BlockSearch._linear

    def spy(self: BlockSearch, role: Role, x: Tensor) -> Tensor:
        seen[role].append(x)
        return linear(self, role, x)

    monkeypatch.setattr(BlockSearch, "_linear", spy)
    again = _scheme().calibrate(tower, lambda: pixels.split(3))
    quantized = _scheme().apply(tower, again).blocks
    for index, (block, z) in enumerate(zip(quantized, tower.states(pixels), strict=False)):
        inputs, _ = trace(block, z, list(ROLES))
        for role in ROLES:
            torch.testing.assert_close(seen[role][index], inputs[role], rtol=1e-4, atol=1e-4)
    # And neither the batch size nor a second run changes what is found.
    assert again.keys() == found.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(again[name], tensor, rtol=1e-4, atol=1e-6)


def test_scales_have_the_shapes_that_the_paper_gives_them(tower: Any, found: QuantizerState) -> None:
    for index, block in enumerate(tower.blocks):
        own = of_block(found, index)
        assert {name.partition(".")[0] for name in own} == {*ROLES, "q", "k", "v", "softmax"}
        for role in ROLES:
            scale = own[f"{role}.weight_scale"]
            assert scale.shape == (getattr(block, role).out_features,)
            parts = scale.reshape(3 if role == "qkv" else 1, -1)
            assert (parts == parts[:, :1]).all()
            assert own[f"{role}.input_scale"].shape == ()
        assert len(own["qkv.weight_scale"].unique()) > 1
        for site in ("q", "k", "v"):
            assert own[f"{site}.input_scale"].shape == (block.heads, 1, 1)
        assert float(own["softmax.split"].log2()) in range(-19, 1)


def test_every_linear_and_every_factor_of_attention_is_rounded(tower: Any, found: QuantizerState) -> None:
    for block in _scheme().apply(tower, found).blocks:
        assert [type(getattr(block, role)) for role in ROLES] == [QuantizedLinear] * 3 + [SimulatedLinear]
        assert isinstance(block.fc2.grid, GeluGrid)
        assert isinstance(block.mix, QuantizedMix)
        assert isinstance(block.mix.softmax, SoftmaxGrid)
        assert len(block.fc2.weight.unique()) <= 16
        q = torch.randn(2, block.heads, 17, 16)
        codes = block.mix.q(q) / block.mix.q.scale
        torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-4)
        assert int(codes.round().min()) >= -8
        assert int(codes.round().max()) <= 7


def test_calibration_leaves_the_tower_alone(tower: Any, pixels: Tensor) -> None:
    before = tower(pixels)
    _scheme().calibrate(tower, lambda: [pixels[:2]])
    assert torch.equal(tower(pixels), before)
    assert not any(parameter.requires_grad for parameter in tower.parameters())


def test_only_so_many_images_are_used(tower: Any, pixels: Tensor) -> None:
    def batches() -> Iterator[Tensor]:
        yield pixels[:3]
        yield pixels[3:]

    some, fewer = (_scheme(images=3).calibrate(tower, b) for b in (batches, lambda: [pixels[:3]]))
    assert all(torch.equal(some[name], fewer[name]) for name in fewer)


def test_the_state_survives_its_file(tower: Any, pixels: Tensor, found: QuantizerState, tmp_path: Any) -> None:
    save_file(found, tmp_path / "state.safetensors")
    expected = _scheme().apply(tower, found)(pixels)
    assert torch.equal(_scheme().apply(tower, load_file(tmp_path / "state.safetensors"))(pixels), expected)


def test_more_bits_leave_less_noise(tower: Any, pixels: Tensor, found: QuantizerState) -> None:
    noise = {4: _noise(tower, _scheme(), found, pixels)}
    for bits in (3, 8):
        state = _scheme(bits).calibrate(tower, lambda: [pixels])
        noise[bits] = _noise(tower, _scheme(bits), state, pixels)
    assert noise[3] > noise[4] > noise[8] > 0
    assert noise[8] < 0.2 * noise[4]


def test_searched_scales_leave_less_noise_than_covering_ranges(
    tower: Any, pixels: Tensor, found: QuantizerState
) -> None:
    plain = Uniform(scheme="uniform", weights=WeightSpec(bits=4), activations=ActivationSpec(bits=4))
    assert _noise(tower, _scheme(), found, pixels) < _noise(
        tower, plain, plain.calibrate(tower, lambda: [pixels]), pixels
    )


def test_a_changed_weight_scale_changes_the_block(tower: Any, pixels: Tensor, found: QuantizerState) -> None:
    own, z = of_block(found, 1), tower.stem(pixels)
    before = _scheme().block(tower.blocks[1], own)(z)
    for role in ROLES:
        changed = own | {f"{role}.weight_scale": 1.3 * own[f"{role}.weight_scale"]}
        assert not torch.equal(_scheme().block(tower.blocks[1], changed)(z), before)


def test_a_missing_scale_is_named(tower: Any, found: QuantizerState) -> None:
    own = of_block(found, 0)
    del own["softmax.split"]
    with pytest.raises(KeyError, match=r"softmax\.split"):
        _scheme().block(tower.blocks[0], own)


def test_no_image_is_refused(tower: Any) -> None:
    with pytest.raises(ValueError, match="nothing to calibrate on"):
        _scheme().calibrate(tower, lambda: [])


def test_attentions_products_have_the_bits_of_activations(tower: Any) -> None:
    scheme = Ptq4Vit(scheme="ptq4vit", weight_bits=4, activation_bits=8)
    assert scheme.bits_of("products") == (8, 8)
    assert scheme.bits_of("fc1") == (4, 8)
    coverage = scheme.coverage(tower, {})
    assert (coverage.weight_bits, coverage.activation_bits) == (4, 8)


def test_settings_survive_their_plain_form() -> None:
    scheme = _scheme(3, images=7)
    assert parse(SCHEMES, "scheme", scheme.model_dump(mode="json")) == scheme
    assert scheme.description.startswith("W3A3")
    assert ptq4vit.FRACTIONS[0] == pytest.approx(0.01)
    assert (len(ptq4vit.FRACTIONS), float(ptq4vit.FRACTIONS[-1])) == (100, pytest.approx(1.2))
