from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lraee.features.extract import extract
from lraee.metrics.compute import tower_macs
from lraee.metrics.noise import noise_profile
from lraee.quantize import bfloat16
from lraee.quantize.schemes.bfloat16 import Bfloat16
from lraee.tensors import read_tensors, write_tensors

SCHEME = Bfloat16(scheme="bfloat16")


@pytest.fixture(params=[True, False], ids=["native", "in float32"])
def half(request: pytest.FixtureRequest, tower: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tower in bfloat16, by either kind of product."""
    monkeypatch.setattr(bfloat16, "multiplies_bfloat16", lambda device: request.param)
    return SCHEME.apply(tower, SCHEME.calibrate(tower, lambda: []))


def test_outside_it_is_float32(half: Any, pixels: torch.Tensor) -> None:
    assert all(z.dtype == torch.float32 for z in half.states(pixels))
    assert half(pixels).dtype == torch.float32
    assert extract(half, pixels).final.dtype == torch.float32


def test_inside_it_is_bfloat16(half: Any, pixels: torch.Tensor) -> None:
    for z in half.states(pixels):
        assert torch.equal(z, z.bfloat16().float())
    for module in half.modules():
        for parameter in module.parameters(recurse=False):
            assert torch.equal(parameter.float(), parameter.bfloat16().float())


def test_it_is_as_far_from_fp32_as_torchs_autocast(half: Any, tower: Any, pixels: torch.Tensor) -> None:
    clean = tower(pixels)
    with torch.autocast("cpu", torch.bfloat16):
        theirs = tower(pixels).float()
    ours = half(pixels)
    cosine = nn.functional.cosine_similarity(ours, clean)
    assert cosine.min() > 0.999
    assert 0 < (ours - clean).norm() < 4 * (theirs - clean).norm()


def test_products_in_float32_are_the_native_ones_but_for_the_order_of_summation(
    tower: Any, pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for native in (True, False):
        monkeypatch.setattr(bfloat16, "multiplies_bfloat16", lambda device, native=native: native)
        block = bfloat16.in_bfloat16(tower).blocks[0]
        found[native] = block.fc1(torch.linspace(-3, 3, 96).view(1, 3, 32).bfloat16())
        assert found[native].dtype == torch.bfloat16
    torch.testing.assert_close(found[True], found[False], rtol=2**-7, atol=1e-6)


def test_features_and_noise_are_taken_as_from_any_tower(half: Any, tower: Any, pixels: torch.Tensor) -> None:
    clean, noisy = extract(tower, pixels), extract(half, pixels)
    assert 0 < (noisy.mean.float() - clean.mean.float()).norm() < 0.02 * clean.mean.float().norm()
    profile = noise_profile(tower, half, [pixels])
    assert isinstance(profile, pd.DataFrame)
    assert profile["nsr"].between(1e-5, 0.1).all()


def test_the_tower_stays_as_it_is(tower: Any, pixels: torch.Tensor) -> None:
    before = tower(pixels)
    SCHEME.apply(tower, {})
    assert torch.equal(tower(pixels), before)


def test_it_reaches_the_whole_tower_with_16_bits(tower: Any) -> None:
    covers = SCHEME.coverage(tower, {})
    assert (covers.parameters, covers.macs, covers.weight_bits, covers.activation_bits) == (1.0, 1.0, 16, 16)
    bops = covers.stem_bops + sum(covers.block_bops) + covers.head_bops
    assert (bops, len(covers.block_bops)) == (256 * tower_macs(tower.shape), 4)


def test_its_empty_state_survives_a_file(tmp_path: Any) -> None:
    write_tensors(tmp_path / "state.safetensors", SCHEME.calibrate(None, lambda: []), {"description": "none"})  # type: ignore[arg-type]
    assert read_tensors(tmp_path / "state.safetensors") == ({}, {"description": "none"})


def test_values_are_rounded_to_even(half: Any) -> None:
    stem = half.stem[0]
    assert stem(torch.tensor([1.0 + 2.0**-8, 1.0 + 3 * 2.0**-8])).float().tolist() == pytest.approx(
        np.array([1.0, 1.015625])
    )
