"""Score every exit: all that routing ever needs, computed once a precision and split."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from lraee.exits.heads import Heads, head_inputs
from lraee.exits.score_table import COLUMNS, FINAL
from lraee.exits.variants import Variant
from lraee.features.store import Features
from lraee.models.tower import ClassEmbeddings

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


def _summarise(logits: Tensor) -> dict[str, NDArray[np.generic]]:
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


@torch.inference_mode()
def predictions(embeddings: Tensor, classes: ClassEmbeddings) -> NDArray[np.int64]:
    """Return the class that raw embeddings (.., n, e) answer: (.., n)."""
    return classes.logits(embeddings).argmax(-1).numpy()


@dataclass(frozen=True)
class Scorer:
    """Scores the exits of one variant; `heads` and `probes` are stacked alike."""

    variant: Variant
    heads: Heads
    probes: Probes
    classes: ClassEmbeddings

    @torch.inference_mode()
    def score(self, features: Features, rows: NDArray[np.int64] | slice) -> pd.DataFrame:
        """Score some rows at every head and at the model's own: part of a long score table.

        `features` hold every layer 1..depth. Certainty, SAV and energy of the model's own answer are NaN.
        """
        depth = features.cls.shape[1]
        inputs = head_inputs(features, self.heads.keys, range(1, depth + 1), rows)
        embeddings, certainty = self.heads.embed(inputs), self.probes.certainty(inputs).numpy()
        parts = []
        for index, key in enumerate(self.heads.keys):
            signals = {
                "certainty": certainty[index],
                "sav": features.sav[rows, key.layer - 1],
                "energy": np.square(features.mean[rows, key.layer - 1]).sum(axis=1),
            }
            named = {"aggregation": key.aggregation, "supervision": key.supervision, "layer": key.layer}
            parts.append(named | self._answers(embeddings[index]) | signals)
        own = {"aggregation": FINAL[0], "supervision": FINAL[1], "layer": depth}
        missing = dict.fromkeys(("certainty", "sav", "energy"), np.float32("nan"))
        parts.append(own | self._answers(torch.from_numpy(features.final[rows])) | missing)
        labels = features.labels[rows].astype(np.int32)
        who = {"variant": self.variant.name, "sample": features.samples[rows], "label": labels}
        return pd.concat([pd.DataFrame(who | part) for part in parts], ignore_index=True)[list(COLUMNS)]

    def _answers(self, embeddings: Tensor) -> dict[str, NDArray[np.generic]]:
        return _summarise(self.variant.temperature * self.classes.logits(embeddings))


def fit_scorer(
    variant: Variant,
    heads: Heads,
    features: Features,
    gate_rows: NDArray[np.int64],
    fp32_answers: NDArray[np.int64],
    classes: ClassEmbeddings,
) -> Scorer:
    """Fit the probes of a variant's heads on its `gate` images.

    `fp32_answers` (n,) of all development images are what counts as right for heads fitted without labels.
    """
    inputs = head_inputs(features, heads.keys, range(1, features.cls.shape[1] + 1), gate_rows)
    given = predictions(heads.embed(inputs), classes)
    truth = {True: fp32_answers[gate_rows], False: features.labels[gate_rows]}
    right = np.stack([given[i] == truth[key.supervision == "label-free"] for i, key in enumerate(heads.keys)])
    return Scorer(variant, heads, fit_probes(inputs.numpy(), right), classes)


def score_table(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put parts of a long score table together; its names, repeated in every row, as categories."""
    return pd.concat(parts, ignore_index=True).astype(
        {"variant": "category", "aggregation": "category", "supervision": "category"}
    )
