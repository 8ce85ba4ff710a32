"""Affine grids with a scale and a zero point for each channel, whose range need not hold zero."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lraee.quantize.grids import SMALLEST_SCALE, quantize_affine

_LARGEST_ZERO_POINT = 1e4
"""A channel whose values hardly differ lies this many steps from zero at most: float32 still tells its steps apart."""


def rounded(values: Tensor, scale: Tensor, zero_point: Tensor, bits: int) -> Tensor:
    """The nearest values of a grid; scale and zero point broadcast against `values`."""
    return quantize_affine(values, scale, zero_point, bits).sub_(zero_point).mul_(scale)


def range_parameters(low: Tensor, high: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Scale and zero point of a grid over [low, high], elementwise; the zero point is whole, and may be no code."""
    furthest = torch.maximum(low.abs(), high.abs())
    scale = ((high - low) / (2**bits - 1)).maximum(furthest / _LARGEST_ZERO_POINT).clamp_min(SMALLEST_SCALE)
    return scale, torch.round(-low / scale)


def best_percentile_grids(values: Tensor, bits: int, percentiles: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Of cuts at percentiles the one with the smallest squared error, for each column of (n, channels).

    A percentile is the share, in %, that is kept on either side, as `numpy.percentile` defines it. Returns scale and
    zero point, (channels,) each.
    """
    shares = 1.0 - torch.tensor(percentiles, dtype=torch.float64, device=values.device) / 100.0
    highs, lows = _upper_quantiles(values, shares), -_upper_quantiles(-values, shares)
    grids = [range_parameters(low, high, bits) for low, high in zip(lows, highs, strict=True)]
    errors = torch.stack([(rounded(values, *grid, bits) - values).square().mean(dim=0) for grid in grids])
    best = errors.argmin(dim=0, keepdim=True)
    scale, zero_point = (torch.stack(parameters).gather(0, best)[0] for parameters in zip(*grids, strict=True))
    return scale, zero_point


def _upper_quantiles(values: Tensor, shares: Tensor) -> Tensor:
    """What the shares (p,) of each column's values lie above, interpolated linearly: (p, channels).

    torch.quantile sorts everything, and takes no more than 2^24 numbers.
    """
    positions = shares * (len(values) - 1)
    lower = positions.floor().long()
    upper = (lower + 1).clamp_max(len(values) - 1)
    largest = values.mT.contiguous().topk(int(upper.max()) + 1, dim=1).values
    return torch.lerp(largest[:, lower], largest[:, upper], (positions - lower).to(values.dtype)).mT
