"""Quantization noise by layer: NSR, INR, SQNR and cosine (NSR, INR and the pruning rule are LRA-EE's).

With z_L the FP32 state after block L and e_L = (quantized state) - z_L, over images:
    NSR(L)  = E[ ||e_L|| / ||z_L - z_(L-1)|| ]         noise against the block's own update
    INR(L)  = || E[z_L] ||^2 / Var[e_L]                 Var is the trace of the covariance
    SQNR(L) = 10 log10( E||z_L||^2 / E||e_L||^2 ) dB
    cosine  = E[ cos(z_L, quantized z_L) ]
    MSE     = E||e_L||^2 / (number of elements)
    peak    = E[ max |z_L| ], the activation peak, also of the quantized state
each on [CLS], on the mean of the patch tokens, and on all tokens together.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm
from torch import Tensor

from lraee.models.tower import Tower

VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "cls": lambda z: z[:, 0],
    "patch-mean": lambda z: z[:, 1:].mean(dim=1),
    "all": lambda z: z.flatten(1),
}


@dataclass
class Moments:
    """Running sums over images for one view of one layer; vectors in float64."""

    n: int
    ratios: list[Tensor]
    cosines: float
    signal: float
    noise: float
    peak: float
    peak_quantized: float
    signal_sum: Tensor
    noise_sum: Tensor

    @classmethod
    def zero(cls, size: int) -> "Moments":
        """Start for vectors of `size`."""
        zeros = torch.zeros(size, dtype=torch.float64)
        return cls(0, [], 0.0, 0.0, 0.0, 0.0, 0.0, zeros, zeros.clone())

    def add(self, before: Tensor, clean: Tensor, noisy: Tensor) -> None:
        """Take in B images: z_(L-1), z_L and the quantized z_L, each (B, size)."""
        clean, noisy = clean.double(), noisy.double()
        error = noisy - clean
        self.n += len(clean)
        self.ratios.append(error.norm(dim=1) / (clean - before.double()).norm(dim=1))
        self.cosines += float(torch.nn.functional.cosine_similarity(clean, noisy, dim=1).sum())
        self.signal += float(clean.square().sum())
        self.noise += float(error.square().sum())
        self.peak += float(clean.abs().amax(dim=1).sum())
        self.peak_quantized += float(noisy.abs().amax(dim=1).sum())
        self.signal_sum += clean.sum(0)
        self.noise_sum += error.sum(0)

    def row(self) -> dict[str, float]:
        """Close the sums into the measures; intervals of NSR are 95 %, normal."""
        ratios = torch.cat(self.ratios).numpy()
        half = norm.ppf(0.975) * ratios.std(ddof=1) / np.sqrt(self.n) if self.n > 1 else float("nan")
        # Rounding can bring the variance of a constant error slightly below zero.
        variance = max(0.0, self.noise / self.n - float((self.noise_sum / self.n).square().sum()))
        with np.errstate(divide="ignore"):
            return {
                "n": self.n,
                "nsr": float(ratios.mean()),
                "nsr_low": float(ratios.mean() - half),
                "nsr_high": float(ratios.mean() + half),
                "inr": float(np.float64((self.signal_sum / self.n).square().sum()) / variance),
                "sqnr_db": float(10.0 * np.log10(np.float64(self.signal) / self.noise)),
                "cosine": self.cosines / self.n,
                "mse": self.noise / (self.n * len(self.noise_sum)),
                "peak": self.peak / self.n,
                "peak_quantized": self.peak_quantized / self.n,
            }


@torch.inference_mode()
def noise_profile(clean: Tower, noisy: Tower, batches: Iterable[Tensor]) -> pd.DataFrame:
    """Run both towers side by side over pixels: columns tokens, layer (1..depth) and the measures."""
    moments: dict[tuple[str, int], Moments] = {}
    for pixels in batches:
        before: Tensor | None = None
        for layer, (z, z_hat) in enumerate(zip(clean.states(pixels), noisy.states(pixels), strict=True)):
            if before is not None:
                for tokens, view in VIEWS.items():
                    # Sums are in float64, which not every device has.
                    seen = [view(state).cpu() for state in (before, z, z_hat)]
                    sums = moments.setdefault((tokens, layer), Moments.zero(seen[0].shape[1]))
                    sums.add(*seen)
            before = z
    rows = [{"tokens": tokens, "layer": layer, **sums.row()} for (tokens, layer), sums in moments.items()]
    return pd.DataFrame(rows).sort_values(["tokens", "layer"], ignore_index=True)
