"""The development images: the splits `fit`, `gate` and `select` of one precision, read as one pool, part by part.

Nothing holds the whole pool, so that memory does not grow with the number of images.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lraee.exits.variants import DEVELOPMENT, Images
from lraee.features.store import (
    Features,
    Shard,
    concatenate,
    read_final,
    read_labels,
    read_row_group,
    read_width,
    row_groups,
)

PART_BYTES = 200_000_000
"""About how much of [CLS] and patch means is held at a time."""


class Unit(NamedTuple):
    """A row group: the files of this precision and of FP32, its number in them, its size, its first place."""

    own: Shard
    fp32: Shard
    group: int
    images: int
    first: int


@dataclass(frozen=True)
class Part:
    """Some images of the pool: their places in it (n,), their features, and the FP32 final embeddings (n, e)."""

    places: NDArray[np.int64]
    features: Features
    targets: NDArray[np.float32]


@dataclass(frozen=True)
class Development:
    """The pool. `units` lie in the order of the splits; `images` says where each place comes from; features are `width`
    wide.
    """

    units: tuple[Unit, ...]
    images: Images
    width: int

    def parts(self, layers: Sequence[int], order: np.random.Generator | None = None) -> Iterator[Part]:
        """Yield the pool in parts of about PART_BYTES: in its order, or row groups in a random one.

        Raises ValueError where the precision and FP32 hold different images, and as read_row_group.
        """
        units = list(self.units)
        if order is not None:
            units = [units[index] for index in order.permutation(len(units))]
        most = PART_BYTES // (len(layers) * self.width * 2 * np.dtype(np.float16).itemsize)
        # A pool that fits into one part is read once and stays: every pass asks for the same units in the same order.
        runs = list(_cut(units, most))
        for some in runs:
            if len(runs) > 1:
                _read.cache_clear()  # the part of before goes before the next one comes
            yield _read(tuple(sorted(some, key=lambda unit: unit.first)), tuple(layers))


def _cut(units: Sequence[Unit], most: int) -> Iterator[list[Unit]]:
    """Cut the units into runs of at most `most` images, or of one unit."""
    run: list[Unit] = []
    for unit in units:
        if run and sum(u.images for u in run) + unit.images > most:
            yield run
            run = []
        run.append(unit)
    yield run


@lru_cache(maxsize=1)
def _read(units: tuple[Unit, ...], layers: tuple[int, ...]) -> Part:
    features, targets = [], []
    for unit in units:
        features.append(read_row_group(unit.own, unit.group, layers))
        samples, final = read_final(unit.fp32, unit.group)
        if not np.array_equal(features[-1].samples, samples):
            raise ValueError(f"{unit.own.path} and {unit.fp32.path} hold different images; delete both and run again")
        targets.append(final)
    places = np.concatenate([unit.first + np.arange(unit.images) for unit in units])
    return Part(places, concatenate(features), np.concatenate(targets))


def open_development(
    own: Mapping[str, Sequence[Shard]], fp32: Mapping[str, Sequence[Shard]], sources: Mapping[str, str]
) -> Development:
    """Open the pool; all arguments are by split: the shards of this precision and of FP32, and the split's source.

    Raises ValueError where a split has other row groups in FP32, and as read_row_group.
    """
    units: list[Unit] = []
    labels: list[NDArray[np.int64]] = []
    splits: list[str] = []
    for split in DEVELOPMENT:
        for mine, theirs in zip(own[split], fp32[split], strict=True):
            sizes = row_groups(mine)
            if sizes != row_groups(theirs):
                raise ValueError(f"{mine.path} and {theirs.path} hold different images; delete both and run again")
            for group, images in enumerate(sizes):
                units.append(Unit(mine, theirs, group, images, sum(unit.images for unit in units)))
            labels.append(read_labels(mine))
            splits += [split] * sum(sizes)
    source = np.array([sources[split] for split in splits])
    pooled = Images(source, np.array(splits), np.concatenate(labels))
    return Development(tuple(units), pooled, read_width(units[0].own))
