"""Observers: the range of a static activation quantizer, read off a histogram of its calibration values.

Two passes over the calibration set: exact minima and maxima, then histograms between them. Memory does not grow with
the number of images.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lraee.quantize.grids import affine_parameters, quantize_affine
from lraee.quantize.schemes import ActivationSpec

BINS = 4096
PERCENTILES = (99.9, 99.99, 99.999)
"""What `best_percentile` chooses among."""

_SHRINKS = torch.linspace(0.2, 1.0, 81)


@dataclass(frozen=True)
class Histogram:
    """Counts of values in equal bins over [low, high]."""

    low: float
    high: float
    counts: Tensor

    @property
    def centres(self) -> Tensor:
        width = (self.high - self.low) / len(self.counts)
        return self.low + width * (torch.arange(len(self.counts), dtype=torch.float64) + 0.5)


def min_max(histogram: Histogram, spec: ActivationSpec) -> tuple[float, float]:
    """The smallest and the largest calibration value."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram, spec: ActivationSpec) -> tuple[float, float]:
    """Cut (100 - percentile) % of the values off either side, to the width of a bin."""
    cumulative = torch.cumsum(histogram.counts.double(), 0) / histogram.counts.double().sum()
    tail = 1.0 - spec.percentile / 100.0
    width = (histogram.high - histogram.low) / len(histogram.counts)
    first = int(torch.searchsorted(cumulative, torch.tensor(tail, dtype=torch.float64), right=True))
    last = int(torch.searchsorted(cumulative, torch.tensor(1.0 - tail, dtype=torch.float64)))
    last = min(last, len(cumulative) - 1)
    return histogram.low + first * width, histogram.low + (last + 1) * width


def mse(histogram: Histogram, spec: ActivationSpec) -> tuple[float, float]:
    """The joint shrinking of both ends that leaves the smallest mean squared quantization error (OMSE)."""
    low, high = torch.tensor(histogram.low), torch.tensor(histogram.high)
    errors = [_squared_error(histogram, low * shrink, high * shrink, spec.bits) for shrink in _SHRINKS]
    best = float(_SHRINKS[int(torch.stack(errors).argmin())])
    return histogram.low * best, histogram.high * best


def best_percentile(histogram: Histogram, spec: ActivationSpec) -> tuple[float, float]:
    """Of the cuts at `PERCENTILES` the one that leaves the smallest mean squared quantization error (RepQ-ViT)."""
    ranges = [percentile(histogram, spec.model_copy(update={"percentile": share})) for share in PERCENTILES]
    errors = [_squared_error(histogram, torch.tensor(low), torch.tensor(high), spec.bits) for low, high in ranges]
    return ranges[int(torch.stack(errors).argmin())]


def _squared_error(histogram: Histogram, low: Tensor, high: Tensor, bits: int) -> Tensor:
    """Sum of the squared errors of a histogram's values on the affine grid over [low, high]."""
    values, (scale, zero_point) = histogram.centres, affine_parameters(low, high, bits)
    codes = quantize_affine(values.float(), scale, zero_point, bits)
    return ((((codes - zero_point) * scale).double() - values).square() * histogram.counts.double()).sum()


OBSERVERS: dict[str, Callable[[Histogram, ActivationSpec], tuple[float, float]]] = {
    "min-max": min_max,
    "percentile": percentile,
    "mse": mse,
    "best-percentile": best_percentile,
}
