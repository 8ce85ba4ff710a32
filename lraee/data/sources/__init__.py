"""Data sources by name; one file each.

A source lists labelled images and opens them. `lraee.data.manifest` allots them to splits.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lraee.data.images import Picture
from lraee.registry import Registry
from lraee.settings import Settings

if TYPE_CHECKING:
    import pandas as pd


class Source(Settings, ABC):
    """Base of every source's settings. A subclass adds `source: Literal["<its name>"]`."""

    drawn: ClassVar[bool] = False
    """Whether `open` makes its picture: the workflow then makes every picture once, and not once a precision."""

    @property
    @abstractmethod
    def origin(self) -> str:
        """What the images come from: two sources of one origin would share images."""

    @abstractmethod
    def class_names(self) -> list[str]:
        """Return the class names (or WordNet ids), in the order of the labels 0..K-1."""

    def relevant(self, sizes: Mapping[str, int], split: str) -> dict[str, int]:
        """Return the sizes that decide which images `split` gets: a finite source deals them out in order."""
        names = list(sizes)
        return {name: sizes[name] for name in names[: names.index(split) + 1]}

    def files(self) -> list[Path]:
        """Return the single files that the source reads besides its images, for the workflow to watch."""
        return []

    @abstractmethod
    def allot(self, sizes: Mapping[str, int], seed: int) -> "pd.DataFrame":
        """Return disjoint samples for splits of the given sizes: columns split, location (str), label (int).

        Raises ValueError where the source holds too few images.
        """

    def unused(self) -> list[str]:
        """Return the files that lie among the images and are none of the source's, for the log."""
        return []

    @abstractmethod
    def open(self, location: str, label: int) -> Picture:
        """Read one image; raises UnreadableImageError where its content gives none."""


def deal(listing: "pd.DataFrame", sizes: Mapping[str, int], seed: int, what: str) -> "pd.DataFrame":
    """Deal a finite listing (columns location, label) out to splits: seeded, disjoint, every class in proportion.

    The order depends on each location's digest, not on its place in the listing. A split's images depend on its own
    size and on those of the splits dealt before it. Raises ValueError where more are asked for than there are.
    """
    wanted = sum(sizes.values())
    if wanted > len(listing):
        raise ValueError(f"{what} holds {len(listing):,} images, but its splits ask for {wanted:,}: {dict(sizes)}")
    digests = [hashlib.sha256(f"{seed}:{location}".encode()).hexdigest() for location in listing["location"]]
    shuffled = listing.assign(digest=digests).sort_values("digest")
    # Where an image stands among those of its class, 0..1: any slice of this order holds every class in proportion.
    within = shuffled.groupby("label")["location"]
    turn = (within.cumcount() + 0.5) / within.transform("size")
    dealt = shuffled.assign(turn=turn).sort_values(["turn", "digest"])[:wanted]
    splits = np.repeat(list(sizes), list(sizes.values()))
    return dealt.drop(columns=["digest", "turn"]).assign(split=splits).reset_index(drop=True)


def read_names(path: Path) -> list[str]:
    """Read a text file with one name a line; FileNotFoundError says what it should hold."""
    if not path.is_file():
        raise FileNotFoundError(f"class list {path} does not exist; it must hold one class a line")
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


SOURCES: Registry[type[Source]] = Registry("data source", __name__)
