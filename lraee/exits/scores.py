"""Score every exit: all that routing ever needs, computed once a precision and split."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from lraee.exits.heads import HeadKey, Heads, head_inputs
from lraee.exits.score_table import COLUMNS, FINAL
from lraee.features.store import Features
from lraee.models.tower import ClassEmbeddings


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
def score_exits(
    features: Features, layers: Sequence[int], heads: Heads, classes: ClassEmbeddings, depth: int
) -> pd.DataFrame:
    """Score every head and the model's own: the long table described above. SAV of the final row is NaN."""
    who = {"sample": features.samples, "label": features.labels.astype(np.int32)}

    def part(key: HeadKey, embeddings: Tensor, sav: NDArray[np.float32]) -> pd.DataFrame:
        named = {"aggregation": key.aggregation, "supervision": key.supervision, "layer": key.layer}
        return pd.DataFrame({**who, **named, **_summarise(classes.logits(embeddings)), "sav": sav})

    embeddings = heads.embed(head_inputs(features, heads.keys, layers, slice(None)))
    parts = [
        part(key, embeddings[index], features.sav[:, list(layers).index(key.layer)])
        for index, key in enumerate(heads.keys)
    ]
    missing = np.full(len(features.samples), np.nan, dtype=np.float32)
    parts.append(part(HeadKey(depth, *FINAL), torch.from_numpy(features.final), missing))
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]
