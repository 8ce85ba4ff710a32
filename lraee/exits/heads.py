"""Exit heads, all of a precision's trained at once.

An exit at layer L reads one vector of z_L: the mean of the patch tokens (SSA, spatial semantic aggregation) or [CLS],
then LayerNorm, a two-layer MLP d -> d -> e with GELU, and is compared with the class embeddings as the model's own
embedding is (LRA-EE, section on SSA heads). Every head of a precision has the same shape, so all are trained together
as one batched product: they share no parameter and Adam works element by element, so that each comes out as if alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from lraee.exits.checkpoint import Checkpoint
from lraee.exits.head_plan import HeadKey
from lraee.exits.settings import HeadSettings, Supervision
from lraee.exits.variants import Variant, deal_again
from lraee.models.tower import ClassEmbeddings
from lraee.tensors import read_tensors, write_tensors

if TYPE_CHECKING:
    from lraee.exits.development import Development, Part
    from lraee.features.store import Features

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


def write_heads(path: str | Path, heads: Heads) -> None:
    """Write heads with their keys."""
    write_tensors(path, heads.parameters, {"keys": heads.keys})


def read_heads(path: str | Path) -> Heads:
    """Read what write_heads wrote; UnreadableFileError where the file is damaged."""
    parameters, metadata = read_tensors(path)
    return Heads([HeadKey(*key) for key in metadata["keys"]], parameters)


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


def head_inputs(features: "Features", keys: Sequence[HeadKey]) -> Tensor:
    """Pick each head's input vectors: (H, n, d) float32."""
    sources = {"ssa": features.mean, "cls": features.cls}
    picked = [sources[key.aggregation][:, features.layers.index(key.layer)] for key in keys]
    return torch.from_numpy(np.stack(picked)).float()


def fit_variant(
    variant: Variant,
    keys: list[HeadKey],
    pool: "Development",
    classes: ClassEmbeddings,
    settings: HeadSettings,
    seed: int,
    checkpoint: Checkpoint,
) -> Heads:
    """Train a variant's heads on the images that it deals to `fit`; `seed` is the run's."""
    seed += variant.seed
    rows = np.flatnonzero(deal_again(pool.images, variant.seed) == "fit")[: variant.images]
    chosen = np.isin(np.arange(len(pool.images.label)), rows)
    layers = sorted({key.layer for key in keys})

    def parts(epoch: int) -> "Iterator[Part]":
        return pool.parts(layers, np.random.default_rng((seed, epoch, 1)))

    return fit_heads(parts, chosen, keys, pool.width, classes, settings, seed, checkpoint)


def fit_heads(
    parts: "Callable[[int], Iterable[Part]]",
    chosen: NDArray[np.bool_],
    keys: list[HeadKey],
    width: int,
    classes: ClassEmbeddings,
    settings: HeadSettings,
    seed: int,
    checkpoint: Checkpoint | None = None,
) -> Heads:
    """Train heads on the images of the pool that are `chosen` (one entry a place).

    `parts` yields the pool's parts, of features `width` wide, for an epoch; images are shuffled within a part. Targets
    are the FP32 model's final embeddings.
    """
    heads = initial_heads(keys, width, classes.rows.shape[1], seed)
    for parameter in heads.parameters.values():
        parameter.requires_grad_(True)
    optimiser = torch.optim.Adam(heads.parameters.values(), lr=settings.learning_rate, fused=True)
    weights = torch.tensor([OBJECTIVES[key.supervision] for key in keys])  # type: ignore[index]
    done = checkpoint.restore(heads.parameters, optimiser) if checkpoint else 0
    seen, total = 0, settings.epochs * int(chosen.sum())  # images, every one counted anew in each epoch
    for step, (part, rows) in enumerate(
        _batches(parts, chosen, settings, seed, f"{len(keys)} heads of {keys[0].variant}")
    ):
        seen += len(rows)
        if step < done:
            continue
        optimiser.param_groups[0]["lr"] = _rate(settings, (seen - len(rows)) / total)
        inputs, labels = head_inputs(part.features.at(rows), keys), torch.from_numpy(part.features.labels[rows])
        losses = _losses(heads, inputs, labels, torch.from_numpy(part.targets[rows]), classes)
        (losses * weights).sum().backward()
        optimiser.step()
        optimiser.zero_grad()
        if checkpoint:
            checkpoint.keep(heads.parameters, optimiser, step + 1)
    return Heads(keys, {name: parameter.detach() for name, parameter in heads.parameters.items()})


def _rate(settings: HeadSettings, progress: float) -> float:
    """Learning rate of a step, by the share of the training (0..1) that is behind it."""
    return settings.learning_rate * (1.0 - progress if settings.schedule == "linear" else 1.0)


def _batches(
    parts: "Callable[[int], Iterable[Part]]",
    chosen: NDArray[np.bool_],
    settings: HeadSettings,
    seed: int,
    description: str,
) -> "Iterator[tuple[Part, NDArray[np.int64]]]":
    """Yield parts with the rows of a batch in them, for all epochs."""
    with tqdm(total=settings.epochs * int(chosen.sum()), desc=description, unit="img", mininterval=5) as bar:
        for epoch in range(settings.epochs):
            rng = np.random.default_rng((seed, epoch))
            for part in parts(epoch):
                order = rng.permutation(np.flatnonzero(chosen[part.places]))
                for start in range(0, len(order), settings.batch):
                    rows = order[start : start + settings.batch]
                    yield part, rows
                    bar.update(len(rows))


def _losses(heads: Heads, inputs: Tensor, labels: Tensor, goal: Tensor, classes: ClassEmbeddings) -> Tensor:
    """Each head's mean cross-entropy and mean distance to the goal: (H, 2)."""
    placed = classes.place(heads.embed(inputs))
    logits = classes.score(placed)
    count = len(heads.keys)
    entropy = functional.cross_entropy(logits.flatten(0, 1), labels.repeat(count), reduction="none")
    distance = classes.distance(placed, goal)
    return torch.stack([entropy.view(count, -1).mean(1), distance.mean(1)], dim=1)
