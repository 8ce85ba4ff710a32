import copy
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from lraee.metrics.noise import Moments, noise_profile
from lraee.quantize.schemes.dynamic_int8 import DynamicInt8


@pytest.fixture
def noisy(tower: Any) -> Any:
    scheme = DynamicInt8(scheme="dynamic-int8", reading="all_linears")
    return scheme.apply(tower, scheme.calibrate(tower, lambda: []))


def _all_states(tower: Any, pixels: torch.Tensor) -> np.ndarray:
    return np.stack([z.numpy() for z in tower.states(pixels)]).astype(np.float64)


def _view(states: np.ndarray, tokens: str) -> np.ndarray:
    """(layers, images, tokens, width) to (layers, images, vector)."""
    return {
        "cls": states[:, :, 0],
        "patch-mean": states[:, :, 1:].mean(axis=2),
        "all": states.reshape(*states.shape[:2], -1),
    }[tokens]


@pytest.mark.parametrize("tokens", ["cls", "patch-mean", "all"])
def test_measures_are_their_formulas_over_all_images_at_once(
    tower: Any, noisy: Any, pixels: torch.Tensor, tokens: str
) -> None:
    profile = noise_profile(tower, noisy, [pixels])
    rows = profile[profile["tokens"] == tokens].set_index("layer")
    assert list(rows.index) == [1, 2, 3, 4]
    clean, dirty = (_view(_all_states(network, pixels), tokens) for network in (tower, noisy))
    for layer in range(1, 5):
        z, before, error = clean[layer], clean[layer - 1], dirty[layer] - clean[layer]
        ratios = np.linalg.norm(error, axis=1) / np.linalg.norm(z - before, axis=1)
        interval = stats.norm.interval(0.95, loc=ratios.mean(), scale=stats.sem(ratios))
        dots = (z * dirty[layer]).sum(axis=1)
        cosines = dots / np.linalg.norm(z, axis=1) / np.linalg.norm(dirty[layer], axis=1)
        expected = {
            "n": 8,
            "nsr": ratios.mean(),
            "nsr_low": interval[0],
            "nsr_high": interval[1],
            "inr": np.sum(z.mean(axis=0) ** 2) / error.var(axis=0).sum(),
            "sqnr_db": 10 * np.log10((z**2).sum(axis=1).mean() / (error**2).sum(axis=1).mean()),
            "cosine": cosines.mean(),
            "mse": (error**2).mean(),
            "peak": np.abs(z).max(axis=1).mean(),
            "peak_quantized": np.abs(dirty[layer]).max(axis=1).mean(),
        }
        for name, value in expected.items():
            assert rows.loc[layer, name] == pytest.approx(value, rel=1e-4), (layer, name)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_batching_does_not_change_the_profile(tower: Any, noisy: Any, pixels: torch.Tensor, size: int) -> None:
    # At one precision for both batchings the states agree to rounding; a code may flip, hence the loose bound.
    whole = noise_profile(tower, noisy, [pixels])
    parts = noise_profile(tower, noisy, pixels.split(size))
    pd.testing.assert_frame_equal(parts, whole, rtol=0.05)


def test_batching_does_not_change_the_profile_of_a_smooth_disturbance_at_all(tower: Any, pixels: torch.Tensor) -> None:
    moved = copy.deepcopy(tower)
    moved.blocks[1].fc2.weight.data.mul_(1.01)
    pd.testing.assert_frame_equal(
        noise_profile(tower, moved, pixels.split(3))[lambda p: p["layer"] > 1].reset_index(drop=True),
        noise_profile(tower, moved, [pixels])[lambda p: p["layer"] > 1].reset_index(drop=True),
        rtol=1e-3,
    )


def test_identical_towers_have_no_noise_and_give_no_warning(tower: Any, pixels: torch.Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        profile = noise_profile(tower, tower, [pixels])
    assert (profile[["nsr", "nsr_low", "nsr_high"]] == 0.0).all(axis=None)
    assert np.isposinf(profile[["inr", "sqnr_db"]]).all(axis=None)
    np.testing.assert_allclose(profile["cosine"], 1.0)
    assert (profile["mse"] == 0.0).all()
    assert (profile["peak"] == profile["peak_quantized"]).all()


def test_one_image_gives_no_interval(tower: Any, noisy: Any, pixels: torch.Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        profile = noise_profile(tower, noisy, [pixels[:1]])
    assert profile["nsr_low"].isna().all()
    assert (profile["nsr"] > 0).all()


def test_one_image_has_no_variance_of_the_noise(tower: Any, noisy: Any, pixels: torch.Tensor) -> None:
    for image in pixels:
        assert (noise_profile(tower, noisy, [image[None]])["inr"] > 1e12).all()


def test_a_constant_error_never_gives_a_negative_inr() -> None:
    for seed in range(50):
        error = torch.randn(1, 4, generator=torch.Generator().manual_seed(seed)).double().expand(7, 4)
        moments = Moments.zero(4)
        moments.add(torch.zeros(7, 4), torch.ones(7, 4), 1.0 + error)
        assert moments.row()["inr"] > 0


def test_a_constant_shift_has_no_variance(tower: Any, pixels: torch.Tensor) -> None:
    # The error of block 4's own bias is the same for every image: SQNR sees it, INR (a variance) does not.
    moved = copy.deepcopy(tower)
    moved.blocks[3].fc2.bias.data.add_(0.5)
    rows = noise_profile(tower, moved, [pixels]).set_index(["tokens", "layer"])
    assert np.isposinf(rows.loc[("cls", 3), "sqnr_db"])
    assert 0 < rows.loc[("cls", 4), "sqnr_db"] < 40
    assert rows.loc[("cls", 4), "inr"] > 1e9


def test_nsr_is_the_noise_over_the_blocks_own_update_by_hand() -> None:
    class Walk:
        def __init__(self, *states: list[list[float]]) -> None:
            self._states = [torch.tensor(state).reshape(-1, 1, 2) for state in states]

        def states(self, pixels: torch.Tensor) -> Any:
            # [CLS] and one patch alike.
            return (torch.cat([z, z], dim=1) for z in self._states)

    # Two images; updates of length 5 and 2, errors of length 1 and 3.
    clean = Walk([[0.0, 0.0], [1.0, 1.0]], [[3.0, 4.0], [1.0, 3.0]])
    dirty = Walk([[9.0, 9.0], [9.0, 9.0]], [[3.0, 5.0], [4.0, 3.0]])
    rows = noise_profile(clean, dirty, [torch.zeros(2)]).set_index(["tokens", "layer"])  # type: ignore[arg-type]
    row = rows.loc[("cls", 1)]
    assert row["nsr"] == pytest.approx((1 / 5 + 3 / 2) / 2)
    # Mean state (2, 3.5); errors (0, 1) and (3, 0): variances 2.25 and 0.25.
    assert row["inr"] == pytest.approx((4 + 12.25) / 2.5)
    assert row["sqnr_db"] == pytest.approx(10 * np.log10((25 + 10) / (1 + 9)))
    assert row["cosine"] == pytest.approx(((9 + 20) / 5 / 34**0.5 + (4 + 9) / 10**0.5 / 5) / 2)
    # Squared errors 1 and 9 over two images of two elements; the largest elements are 4 and 3, then 5 and 4.
    assert row["mse"] == pytest.approx((1 + 9) / 4)
    assert (row["peak"], row["peak_quantized"]) == pytest.approx((3.5, 4.5))
    assert rows.loc[("all", 1), "mse"] == pytest.approx(row["mse"])
    assert rows.loc[("patch-mean", 1), "nsr"] == pytest.approx(row["nsr"])
    assert rows.loc[("all", 1), "inr"] == pytest.approx(row["inr"])


def test_peaks_and_mean_squared_errors_add_up_over_batches_by_hand() -> None:
    moments = Moments.zero(2)
    moments.add(torch.full((1, 2), 9.0), torch.tensor([[-7.0, 1.0]]), torch.tensor([[-5.0, 1.0]]))
    clean, noisy = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 2.0], [0.0, -6.0]])
    moments.add(torch.full((2, 2), 9.0), clean, noisy)
    row = moments.row()
    assert row["mse"] == pytest.approx((4 + 36) / 6)
    assert row["peak"] == pytest.approx((7 + 2 + 0) / 3)
    assert row["peak_quantized"] == pytest.approx((5 + 2 + 6) / 3)
