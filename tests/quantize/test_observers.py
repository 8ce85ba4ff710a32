import numpy as np
import pytest
import torch

from lraee.quantize.grids import affine_parameters, quantize_affine
from lraee.quantize.observers import OBSERVERS, PERCENTILES, Histogram, best_percentile, min_max, mse, percentile
from lraee.quantize.schemes import ActivationSpec

SAMPLES = {
    "normal": lambda rng: rng.normal(0.3, 1.0, 20_000),
    "heavy-tailed": lambda rng: rng.standard_t(3, 20_000),
    "after-gelu": lambda rng: np.maximum(rng.normal(0.0, 1.0, 20_000), -0.17),
    "positive": lambda rng: rng.exponential(1.0, 20_000) + 0.5,
}


def _histogram(values: np.ndarray, bins: int = 4096) -> Histogram:
    counts, _ = np.histogram(values, bins=bins, range=(values.min(), values.max()))
    return Histogram(float(values.min()), float(values.max()), torch.tensor(counts, dtype=torch.float32))


def _error(values: np.ndarray, low: float, high: float, bits: int, weights: np.ndarray | None = None) -> float:
    scale, zero_point = affine_parameters(torch.tensor(low), torch.tensor(high), bits)
    x = torch.tensor(values, dtype=torch.float32)
    rounded = (quantize_affine(x, scale, zero_point, bits) - zero_point) * scale
    return float(np.average((rounded - x).square().double().numpy(), weights=weights))


@pytest.fixture(params=SAMPLES)
def values(request: pytest.FixtureRequest) -> np.ndarray:
    return SAMPLES[request.param](np.random.default_rng(0))


def test_min_max_is_exact(values: np.ndarray) -> None:
    assert min_max(_histogram(values), ActivationSpec()) == (values.min(), values.max())


@pytest.mark.parametrize("share", [90.0, 99.0, 99.9, 99.99])
def test_percentile_is_numpys_to_the_width_of_a_bin(values: np.ndarray, share: float) -> None:
    histogram = _histogram(values)
    low, high = percentile(histogram, ActivationSpec(observer="percentile", percentile=share))
    width = (histogram.high - histogram.low) / 4096
    # Beside the bin's width, numpy interpolates between neighbours, which may be far apart in a tail.
    for found, at in ((low, 100.0 - share), (high, share)):
        nearest = [float(np.percentile(values, at, method=method)) for method in ("lower", "higher")]
        assert nearest[0] - 1.01 * width <= found <= nearest[1] + 1.01 * width


@pytest.mark.parametrize("share", [75.0, 99.0])
def test_percentile_cuts_the_stated_share_off_either_side(values: np.ndarray, share: float) -> None:
    histogram, tail = _histogram(values), 1.0 - share / 100.0
    low, high = percentile(histogram, ActivationSpec(observer="percentile", percentile=share))
    width = (histogram.high - histogram.low) / 4096
    # Many values may share the bin of the cut: it holds the rest of the tail.
    assert (values < low).mean() <= tail + 1e-3
    assert (values <= low + 1.01 * width).mean() >= tail - 1e-3
    assert (values > high).mean() <= tail + 1e-3
    assert (values >= high - 1.01 * width).mean() >= tail - 1e-3


def test_percentile_100_is_min_max(values: np.ndarray) -> None:
    found = percentile(_histogram(values), ActivationSpec(observer="percentile", percentile=100.0))
    assert found == pytest.approx((values.min(), values.max()), rel=1e-9)


def test_percentile_100_is_min_max_of_very_many_values() -> None:
    counts = torch.zeros(4096)
    counts[0], counts[-1] = 2.0**24, 1.0
    found = percentile(Histogram(0.0, 4096.0, counts), ActivationSpec(observer="percentile", percentile=100.0))
    assert found == (0.0, 4096.0)


def test_percentile_by_hand() -> None:
    # Ten bins of width 1, ten values each: 15 % on either side end inside the second bin.
    histogram = Histogram(-5.0, 5.0, torch.full((10,), 10.0))
    assert percentile(histogram, ActivationSpec(observer="percentile", percentile=85.0)) == pytest.approx((-4.0, 4.0))


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_mse_is_never_worse_than_min_max_on_its_histogram(values: np.ndarray, bits: int) -> None:
    histogram = _histogram(values)
    centres, counts = histogram.centres.numpy(), histogram.counts.numpy()
    low, high = mse(histogram, ActivationSpec(bits=bits, observer="mse"))
    best = _error(centres, low, high, bits, counts)
    assert best <= _error(centres, histogram.low, histogram.high, bits, counts) * (1 + 1e-9)


@pytest.mark.parametrize("bits", [3, 4, 6])
def test_mse_is_close_to_brute_force_on_the_values(values: np.ndarray, bits: int) -> None:
    low, high = mse(_histogram(values), ActivationSpec(bits=bits, observer="mse"))
    found = _error(values, low, high, bits)
    tried = [_error(values, values.min() * s, values.max() * s, bits) for s in np.linspace(0.2, 1.0, 300)]
    assert found <= 1.02 * min(tried)


def test_mse_cuts_an_outlier_off_at_few_bits() -> None:
    values = np.append(np.random.default_rng(0).normal(0, 1, 50_000), [40.0, -40.0])
    low, high = mse(_histogram(values), ActivationSpec(bits=4, observer="mse"))
    assert high < 20.0
    assert low > -20.0


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_the_best_percentile_is_the_one_with_the_smallest_error_on_the_values(values: np.ndarray, bits: int) -> None:
    histogram = _histogram(values)
    found = best_percentile(histogram, ActivationSpec(bits=bits, observer="best-percentile"))
    ranges = [percentile(histogram, ActivationSpec(percentile=share)) for share in PERCENTILES]
    assert found in ranges
    assert _error(values, *found, bits) <= 1.02 * min(_error(values, low, high, bits) for low, high in ranges)


def test_observers_survive_a_constant_input() -> None:
    histogram = Histogram(2.0, 2.0, torch.cat([torch.zeros(4095), torch.tensor([9.0])]))
    for name, observe in OBSERVERS.items():
        low, high = observe(histogram, ActivationSpec(observer=name))
        assert 0.0 < low <= high <= 2.0


def test_centres_are_numpys() -> None:
    edges = np.histogram_bin_edges([-1.0, 3.0], bins=8)
    histogram = Histogram(-1.0, 3.0, torch.ones(8))
    np.testing.assert_allclose(histogram.centres.numpy(), (edges[:-1] + edges[1:]) / 2)


def test_every_observer_of_the_settings_exists() -> None:
    assert set(OBSERVERS) == set(ActivationSpec.model_fields["observer"].annotation.__args__)
