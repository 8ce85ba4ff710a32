"""Second moments of a Linear's inputs, clean and rounded, and the ridge regressions that need no more than these."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

_PENALTY = 2000.0
"""Penalty of every ridge regression: it weighs as much as so many rows of inputs with their mean variance."""


@dataclass(frozen=True)
class Moments:
    """Means and covariances of inputs x and what is really multiplied, x^: (in,) and (in, in), float64.

    `covariance` is that of x^; `cross` that of x^ (rows) with x - x^ (columns).
    """

    rows: int
    mean: Tensor
    rounded_mean: Tensor
    covariance: Tensor
    cross: Tensor

    @property
    def penalty(self) -> float:
        """What ridge regressions add to the diagonal of the covariance."""
        return max(_PENALTY / self.rows * float(self.covariance.diagonal().mean()), torch.finfo(torch.float32).tiny)


def moments_of(pairs: Iterable[tuple[Tensor, Tensor]]) -> Moments:
    """Gather the moments of batches of x and x^, (..., in) each; products in float32, sums of them in float64."""
    rows = 0
    first, rounded_first, second, cross = (torch.zeros((), dtype=torch.float64) for _ in range(4))
    for x, rounded in pairs:
        x, rounded = x.flatten(0, -2), rounded.flatten(0, -2)
        rows += len(x)
        first = first + x.sum(dim=0, dtype=torch.float64)
        rounded_first = rounded_first + rounded.sum(dim=0, dtype=torch.float64)
        second = second + (rounded.mT @ rounded).double()
        cross = cross + (rounded.mT @ (x - rounded)).double()
    mean, rounded_mean = first / rows, rounded_first / rows
    return Moments(
        rows, mean, rounded_mean,
        second / rows - rounded_mean[:, None] * rounded_mean,
        cross / rows - rounded_mean[:, None] * (mean - rounded_mean),
    )  # fmt: skip


def ridge(covariance: Tensor, targets: Tensor, penalty: float) -> Tensor:
    """Solve (covariance + penalty I) B = targets for B: (in, in) and (in, out) give (in, out)."""
    penalised = covariance + penalty * torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    return torch.cholesky_solve(targets, torch.linalg.cholesky(penalised))
