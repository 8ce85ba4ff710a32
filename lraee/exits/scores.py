"""Score every exit: all that routing ever needs, computed once a precision and split."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from lraee.exits.development import Development
from lraee.exits.heads import Heads, head_inputs
from lraee.exits.score_table import COLUMNS, FINAL
from lraee.exits.signals import Probes, fit_probes, summarise
from lraee.exits.variants import Variant, deal_again
from lraee.features.store import Features, Shard, concatenate, iterate_features
from lraee.models.tower import ClassEmbeddings

_AT_ONCE = 512
"""Images that pass through all heads together, each as wide as the network."""


@torch.inference_mode()
def predictions(embeddings: Tensor, classes: ClassEmbeddings) -> NDArray[np.int64]:
    """Return the class that raw embeddings (.., n, e) answer: (.., n)."""
    return classes.logits(embeddings).argmax(-1).numpy()


@dataclass(frozen=True)
class Scorer:
    """Scores the exits of one variant; `heads` and `probes` are stacked alike.

    Features that it is given must hold the last layer beside those of the heads.
    """

    variant: Variant
    heads: Heads
    probes: Probes
    classes: ClassEmbeddings

    def score(self, features: Features) -> pd.DataFrame:
        """Score images at every head and at the model's own: part of a long score table.

        Certainty, SAV and energy of the model's own answer are NaN.
        """
        starts = range(0, len(features.samples), _AT_ONCE)
        chunks = (features.at(slice(start, start + _AT_ONCE)) for start in starts)
        # One frame of all: a frame a head and chunk would take longer to make than the scores.
        blocks = [block for chunk in chunks for block in self._score(chunk)]
        sizes = [len(block["sample"]) for block in blocks]
        columns: dict[str, Any] = {
            name: _repeated([block[name] for block in blocks], sizes) for name in ("aggregation", "supervision")
        }
        columns["variant"] = _repeated([self.variant.name] * len(blocks), sizes)
        columns["layer"] = np.repeat([block["layer"] for block in blocks], sizes)
        columns |= {name: np.concatenate([block[name] for block in blocks]) for name in COLUMNS if name not in columns}
        return pd.DataFrame({name: columns[name] for name in COLUMNS})

    @torch.inference_mode()
    def _score(self, features: Features) -> list[dict[str, Any]]:
        """Score images at every head and at the model's own: a block of columns each, names and layer not repeated."""
        inputs = head_inputs(features, self.heads.keys)
        embeddings, certainty = self.heads.embed(inputs), self.probes.certainty(inputs).numpy()
        who = {"sample": features.samples, "label": features.labels.astype(np.int32)}
        blocks = []
        for index, key in enumerate(self.heads.keys):
            place = features.layers.index(key.layer)
            signals = {
                "certainty": certainty[index],
                "sav": features.sav[:, place],
                "energy": np.square(features.mean[:, place].astype(np.float32)).sum(axis=1),
            }
            named = {"aggregation": key.aggregation, "supervision": key.supervision, "layer": key.layer}
            blocks.append(who | named | self._answers(embeddings[index]) | signals)
        own = {"aggregation": FINAL[0], "supervision": FINAL[1], "layer": max(features.layers)}
        missing = np.full(len(features.samples), np.nan, np.float32)
        answers = self._answers(torch.from_numpy(features.final))
        return [*blocks, who | own | answers | dict.fromkeys(("certainty", "sav", "energy"), missing)]

    def _answers(self, embeddings: Tensor) -> dict[str, NDArray[np.generic]]:
        return summarise(self.variant.temperature * self.classes.logits(embeddings))


def fit_scorer(
    variant: Variant, heads: Heads, gate: Features, fp32_answers: NDArray[np.int64], classes: ClassEmbeddings
) -> Scorer:
    """Fit the probes of a variant's heads on its `gate` images.

    `fp32_answers` (n,) are what counts as right for heads fitted without labels.
    """
    weights, biases = [], []
    for key in heads.keys:  # one at a time: together their inputs are many times the features
        inputs = head_inputs(gate, [key])
        truth = fp32_answers if key.supervision == "label-free" else gate.labels
        probe = fit_probes(inputs.numpy(), predictions(heads.only([key]).embed(inputs), classes) == truth)
        weights.append(probe.weights)
        biases.append(probe.bias)
    return Scorer(variant, heads, Probes(torch.cat(weights), torch.cat(biases)), classes)


def score_variant(
    variant: Variant, heads: Heads, pool: Development, test: Sequence[Shard], classes: ClassEmbeddings
) -> tuple[Scorer, dict[str, pd.DataFrame]]:
    """Fit a variant's probes on `gate` and score its heads on gate, select and test, part by part."""
    layers = sorted({key.layer for key in heads.keys})
    dealt = deal_again(pool.images, variant.seed)

    def of(split: str) -> Iterator[tuple[Features, NDArray[np.int64]]]:
        for part in pool.parts(layers):
            rows = np.flatnonzero(dealt[part.places] == split)
            if len(rows):
                yield part.features.at(rows), predictions(torch.from_numpy(part.targets[rows]), classes)

    gate, answers = zip(*of("gate"), strict=True)
    scorer = fit_scorer(variant, heads, concatenate(gate), np.concatenate(answers), classes)
    return scorer, {
        "gate": score_table([scorer.score(some) for some in gate]),
        "select": score_table([scorer.score(some) for some, _ in of("select")]),
        "test": score_table([scorer.score(some) for some in iterate_features(test, layers)]),
    }


def _repeated(values: Sequence[str], sizes: Sequence[int]) -> "pd.Categorical[str]":
    """Repeat each value as often as its size says."""
    categories = sorted(set(values))
    codes = np.array([categories.index(value) for value in values])
    return pd.Categorical.from_codes(codes.repeat(sizes), pd.Index(categories))


def score_table(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put parts of a long score table together; its names, repeated in every row, as categories."""
    return pd.concat(parts, ignore_index=True).astype(
        {"variant": "category", "aggregation": "category", "supervision": "category"}
    )
