"""Variants of the exit heads: other seeds, fewer fit images, other temperatures. Free of torch.

`base` has every head. The others repeat what the headline needs, to tell how far a result depends on chance or on a
setting. A seed decides the heads' start and order of training, and deals the development images (`fit`, `gate` and
`select`) to their splits anew; the test images stay the same, so that seeds and test images are told apart.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lraee.settings import Settings

BASE = "base"
DEVELOPMENT = ("fit", "gate", "select")


class Variant(Settings):
    """One way to fit and score heads: `seed` 0 keeps the dealt splits, `images` limits the fit images (None: all).

    `temperature` multiplies the logit scale when scoring (1: the model's own).
    """

    name: str = BASE
    seed: int = 0
    images: int | None = None
    temperature: float = 1.0

    @property
    def fitted(self) -> bool:
        """Whether the variant has heads of its own; another temperature reads those of `base`."""
        return self.temperature == 1.0


def variants(seeds: int, images: Sequence[int], temperatures: Sequence[float], fit_images: int) -> list[Variant]:
    """Every variant of a run, `base` first; settings that equal the base's own are the base."""
    return [
        Variant(),
        *(Variant(name=seed_variant(seed), seed=seed) for seed in range(1, seeds)),
        *(Variant(name=images_variant(n, fit_images), images=n) for n in images if n < fit_images),
        *(Variant(name=temperature_variant(t), temperature=t) for t in temperatures if t != 1.0),
    ]


def seed_variant(seed: int) -> str:
    """Name of the variant of a seed (0, 1, ..)."""
    return f"seed-{seed}" if seed else BASE


def images_variant(images: int, fit_images: int) -> str:
    """Name of the variant whose heads see `images` of the `fit_images`."""
    return f"images-{images}" if images < fit_images else BASE


def temperature_variant(temperature: float) -> str:
    """Name of the variant scored at a multiple of the logit scale."""
    return f"temperature-{temperature:g}" if temperature != 1.0 else BASE


class Images(NamedTuple):
    """The development images of a run, row by row: the source and split they were dealt from, and their label."""

    source: NDArray[np.str_]
    split: NDArray[np.str_]
    label: NDArray[np.int64]


def deal_again(images: Images, seed: int) -> NDArray[np.str_]:
    """Return each image's split under a seed: splits of one source exchange images of one class; seed 0 keeps them.

    Every split keeps its size, its source and its number of images of each class.
    """
    dealt = images.split.copy()
    if seed == 0:
        return dealt
    rng = np.random.default_rng((seed, 0xDEA1))
    keys = np.stack([np.unique(part, return_inverse=True)[1] for part in (images.source, images.label)])
    _, group = np.unique(keys, axis=1, return_inverse=True)
    # Sorting by (group, chance) permutes the rows within each group.
    shuffled = np.lexsort((rng.random(len(dealt)), group))
    dealt[np.argsort(group, kind="stable")] = images.split[shuffled]
    return dealt
