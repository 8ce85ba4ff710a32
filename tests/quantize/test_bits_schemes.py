"""What holds for every quantizer of the literature, whichever are registered."""

from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lraee.models.tower import ROLES
from lraee.quantize.block_scheme import BitsScheme
from lraee.quantize.blocks import of_block
from lraee.quantize.schemes import SCHEMES
from lraee.registry import parse

NAMES = [name for name in SCHEMES if issubclass(SCHEMES[name], BitsScheme)]


def _scheme(name: str, bits: int = 4) -> Any:
    return parse(SCHEMES, "scheme", {"scheme": name, "weight_bits": bits, "activation_bits": bits})


@pytest.mark.parametrize("name", NAMES)
def test_more_bits_leave_less_noise(tower: Any, pixels: Tensor, name: str) -> None:
    clean = tower(pixels)
    errors = []
    for bits in (2, 3, 4, 6, 8):
        scheme = _scheme(name, bits)
        noisy = scheme.apply(tower, scheme.calibrate(tower, lambda: [pixels]))(pixels)
        errors.append(float((noisy - clean).norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1 * errors[0]


@pytest.mark.parametrize("name", NAMES)
def test_calibration_changes_nothing_and_can_be_repeated(tower: Any, pixels: Tensor, name: str) -> None:
    before = tower(pixels)
    parameters = {key: tensor.clone() for key, tensor in tower.state_dict().items()}
    first, second = (_scheme(name).calibrate(tower, lambda: pixels.split(3)) for _ in range(2))
    assert torch.equal(tower(pixels), before)
    assert all(torch.equal(tensor, parameters[key]) for key, tensor in tower.state_dict().items())
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())


@pytest.mark.parametrize("name", NAMES)
def test_the_state_survives_its_file(tower: Any, pixels: Tensor, name: str, tmp_path: Any) -> None:
    scheme = _scheme(name)
    state = scheme.calibrate(tower, lambda: [pixels])
    save_file(state, tmp_path / "state.safetensors")
    again = scheme.apply(tower, load_file(tmp_path / "state.safetensors"))
    assert torch.equal(again(pixels), scheme.apply(tower, state)(pixels))


@pytest.mark.parametrize("name", NAMES)
def test_the_batch_size_of_calibration_does_not_matter(tower: Any, pixels: Tensor, name: str) -> None:
    scheme, clean = _scheme(name), tower(pixels)
    one, two = (
        scheme.apply(tower, scheme.calibrate(tower, lambda size=size: pixels.split(size)))(pixels) for size in (3, 8)
    )
    # Values on the border between two codes may fall on either side.
    assert (one - two).norm() < 0.25 * (one - clean).norm()


@pytest.mark.parametrize("name", NAMES)
def test_a_blocks_state_has_the_scale_of_each_linears_weights_and_they_count(
    tower: Any, pixels: Tensor, name: str
) -> None:
    scheme, block, z = _scheme(name), tower.blocks[1], tower.blocks[0](tower.stem(pixels))
    own = of_block(scheme.calibrate(tower, lambda: [pixels]), 1)
    before = scheme.block(block, own)(z)
    for role in ROLES:
        scale = own[f"{role}.weight_scale"]
        assert scale.shape in {(1,), (getattr(block, role).out_features,)}
        changed = scheme.block(block, own | {f"{role}.weight_scale": 1.2 * scale})(z)
        assert (changed - before).norm() > 1e-3 * before.norm()
    assert torch.equal(scheme.block(block, own)(z), before)


@pytest.mark.parametrize("name", NAMES)
def test_a_block_without_its_scales_is_refused(tower: Any, name: str) -> None:
    with pytest.raises(KeyError):
        _scheme(name).block(tower.blocks[0], {})


@pytest.mark.parametrize("name", NAMES)
def test_bits_can_be_changed_and_are_named(tower: Any, name: str) -> None:
    scheme = parse(SCHEMES, "scheme", {"scheme": name, "weight_bits": 3, "activation_bits": 5})
    assert scheme.description.startswith(("W3A5 ", "W3A5: "))
    assert scheme.bits_of("fc1") == (3, 5)
    assert scheme.at_bits(6) == _scheme(name, 6)
    assert parse(SCHEMES, "scheme", scheme.model_dump(mode="json")) == scheme
    found = scheme.coverage(tower, {})
    assert (found.weight_bits, found.activation_bits) == (3, 5)
