"""What an exit tells of an image: its answer, and how sure it is. Free of pandas: an exported network asks no more."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PENALTIES = tuple(np.logspace(-1, 5, 7))
"""Ridge penalties to choose from, for standardised inputs."""


@dataclass(frozen=True)
class Probes:
    """One linear estimate a head, from the vector it reads, that its answer is right: weights (H, d), bias (H, 1).

    This is BERxiT's "learning to exit" module (a linear layer fitted to correctness by squared error), here one a head
    and fitted to frozen features.
    """

    weights: Tensor
    bias: Tensor

    def certainty(self, inputs: Tensor) -> Tensor:
        """Estimate from inputs (H, B, d): (H, B)."""
        return torch.einsum("hbd,hd->hb", inputs, self.weights) + self.bias


def fit_probes(inputs: NDArray[np.float32], right: NDArray[np.bool_]) -> Probes:
    """Fit one probe a head to inputs (H, n, d) and outcomes (H, n); the penalty by leave-one-out error."""
    # Imported here: the scores of a precision need scikit-learn for this alone.
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import StandardScaler

    weights, biases = [], []
    for x, y in zip(inputs, right, strict=True):
        scaler = StandardScaler().fit(x)
        ridge = RidgeCV(PENALTIES).fit(scaler.transform(x), y.astype(np.float64))
        scaled = ridge.coef_ / scaler.scale_
        weights.append(scaled)
        biases.append([ridge.intercept_ - scaled @ scaler.mean_])
    return Probes(torch.tensor(np.array(weights)).float(), torch.tensor(np.array(biases)).float())


def summarise(logits: Tensor) -> dict[str, NDArray[np.generic]]:
    """Prediction, confidence (top-1 probability), top-2 margin (of probabilities) and entropy / log K of (n, K)."""
    log_probabilities = torch.log_softmax(logits.double(), dim=-1)
    probabilities = log_probabilities.exp()
    best = probabilities.topk(min(2, logits.shape[-1]), dim=-1)
    runner_up = best.values[:, 1] if logits.shape[-1] > 1 else torch.zeros(len(logits))
    entropy = -(probabilities * log_probabilities).sum(-1) / np.log(max(2, logits.shape[-1]))
    return {
        "prediction": best.indices[:, 0].numpy().astype(np.int32),
        "confidence": best.values[:, 0].float().numpy(),
        "margin": (best.values[:, 0] - runner_up).float().numpy(),
        "entropy": entropy.float().numpy(),
    }
