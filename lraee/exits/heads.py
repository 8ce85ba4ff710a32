"""Exit heads, all of a precision's trained at once.

An exit at layer L reads one vector of z_L: the mean of the patch tokens (SSA, spatial semantic aggregation) or [CLS],
then LayerNorm, a two-layer MLP d -> d -> e with GELU, and is compared with the class embeddings as the model's own
embedding is (LRA-EE, section on SSA heads). Every head of a precision has the same shape, so all are trained together
as one batched product: they share no parameter and Adam works element by element, so that each comes out as if alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from lraee.exits.head_plan import HeadKey
from lraee.exits.settings import HeadSettings, Supervision
from lraee.features.store import Features
from lraee.models.tower import ClassEmbeddings

OBJECTIVES: dict[Supervision, tuple[float, float]] = {
    "distilled": (1.0, 1.0),
    "hard": (1.0, 0.0),
    "label-free": (0.0, 1.0),
}
"""Weights of (cross-entropy on the labels, distance to the FP32 model's final embedding)."""


@dataclass(frozen=True)
class Heads:
    """H stacked heads: norm (2, H, 1, d); w1 (H, d, d), b1 (H, 1, d); w2 (H, d, e), b2 (H, 1, e)."""

    keys: list[HeadKey]
    parameters: dict[str, Tensor]

    def embed(self, inputs: Tensor) -> Tensor:
        """Map inputs (H, B, d) to raw embeddings (H, B, e)."""
        p = self.parameters
        x = functional.layer_norm(inputs, inputs.shape[-1:]) * p["norm"][0] + p["norm"][1]
        hidden = functional.gelu(torch.baddbmm(p["b1"], x, p["w1"]))
        return torch.baddbmm(p["b2"], hidden, p["w2"])

    def only(self, keys: Sequence[HeadKey]) -> "Heads":
        """Pick some of the heads; ValueError where one is missing."""
        places = torch.tensor([self.keys.index(key) for key in keys])
        picked = {name: p.index_select(1 if name == "norm" else 0, places) for name, p in self.parameters.items()}
        return Heads(list(keys), picked)


def stacked(parts: Sequence[Heads]) -> Heads:
    """Put several stacks of heads into one."""
    names = parts[0].parameters
    together = {
        name: torch.cat([part.parameters[name] for part in parts], dim=1 if name == "norm" else 0) for name in names
    }
    return Heads([key for part in parts for key in part.keys], together)


def initial_heads(keys: list[HeadKey], width: int, embedding: int, seed: int) -> Heads:
    """Start all heads from the same random weights (PyTorch's default for a Linear): they differ in data alone."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        bound = width**-0.5
        return (torch.rand(shape, generator=generator) * 2 - 1).mul(bound).expand(len(keys), *shape).clone()

    norm = torch.stack([torch.ones(len(keys), 1, width), torch.zeros(len(keys), 1, width)])
    weights = {"w1": uniform(width, width), "b1": uniform(1, width)}
    weights |= {"w2": uniform(width, embedding), "b2": uniform(1, embedding)}
    return Heads(keys, {"norm": norm, **weights})


def head_inputs(
    features: Features, keys: Sequence[HeadKey], layers: Sequence[int], rows: NDArray[np.int64] | slice
) -> Tensor:
    """Pick each head's input vectors of some rows: (H, rows, d). `layers` are the layers that `features` hold."""
    sources = {"ssa": features.mean, "cls": features.cls}
    picked = [sources[key.aggregation][rows, list(layers).index(key.layer)] for key in keys]
    return torch.from_numpy(np.stack(picked))


def fit_heads(
    features: Features,
    targets: NDArray[np.float32],
    rows: NDArray[np.int64],
    keys: list[HeadKey],
    classes: ClassEmbeddings,
    settings: HeadSettings,
    seed: int,
) -> Heads:
    """Train heads on some rows of the development images.

    `features` are the precision's own, of every layer 1..depth; `targets` (n, e) the FP32 model's final embeddings of
    the same images.
    """
    heads = initial_heads(keys, features.cls.shape[-1], targets.shape[1], seed)
    for parameter in heads.parameters.values():
        parameter.requires_grad_(True)
    optimiser = torch.optim.Adam(heads.parameters.values(), lr=settings.learning_rate, fused=True)
    weights = torch.tensor([OBJECTIVES[key.supervision] for key in keys])  # type: ignore[index]
    goal, labels = torch.from_numpy(targets), torch.from_numpy(features.labels)
    layers = range(1, features.cls.shape[1] + 1)
    for epoch in tqdm(range(settings.epochs), desc=f"{len(keys)} heads of {keys[0].variant}", unit="epoch"):
        order = rows[np.random.default_rng((seed, epoch)).permutation(len(rows))]
        for start in range(0, len(order), settings.batch):
            batch = order[start : start + settings.batch]
            inputs = head_inputs(features, keys, layers, batch)
            losses = _losses(heads, inputs, labels[batch], goal[batch], classes)
            (losses * weights).sum().backward()
            optimiser.step()
            optimiser.zero_grad()
    return Heads(keys, {name: parameter.detach() for name, parameter in heads.parameters.items()})


def _losses(heads: Heads, inputs: Tensor, labels: Tensor, goal: Tensor, classes: ClassEmbeddings) -> Tensor:
    """Each head's mean cross-entropy and mean distance to the goal: (H, 2)."""
    embeddings = heads.embed(inputs)
    logits = classes.logits(embeddings)
    count = len(heads.keys)
    entropy = functional.cross_entropy(logits.flatten(0, 1), labels.repeat(count), reduction="none")
    distance = classes.distance(embeddings, goal.expand_as(embeddings))
    return torch.stack([entropy.view(count, -1).mean(1), distance.mean(1)], dim=1)
