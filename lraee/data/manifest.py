"""The manifest: which image belongs to which split, decided once before anything is computed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, cast, get_args

from pydantic import Field, model_validator

from lraee.data.sources import SOURCES, Source
from lraee.registry import ChosenFrom
from lraee.settings import Name, PositiveInt, Settings

if TYPE_CHECKING:
    import pandas as pd

Split = Literal["quant", "fit", "gate", "select", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
"""Calibrates quantizers; fits heads; fits gates; chooses thresholds; is opened once."""


class SplitSettings(Settings):
    """How many images a split takes from which source."""

    source: str
    images: PositiveInt


class DataSettings(Settings):
    """Named sources, and the five splits drawn from them. All sources share one list of classes."""

    sources: Annotated[dict[Name, Annotated[Source, ChosenFrom(SOURCES, "source")]], Field(min_length=1)]
    splits: dict[Split, SplitSettings]

    @model_validator(mode="after")
    def _check(self) -> "DataSettings":
        missing = [split for split in SPLITS if split not in self.splits]
        if missing:
            raise ValueError(f"splits lacks {missing[0]!r}; all of {', '.join(SPLITS)} are needed")
        for split, settings in self.splits.items():
            if settings.source not in self.sources:
                raise ValueError(f"splits.{split}.source is {settings.source!r}; sources are {', '.join(self.sources)}")
        readers: dict[str, str] = {}
        for name, source in self.sources.items():
            other = readers.setdefault(source.origin, name)
            if other != name:
                raise ValueError(
                    f"sources {other!r} and {name!r} both read {source.origin}, so that their splits would overlap"
                )
        return self

    def sizes(self, split: str) -> dict[str, int]:
        """Return the sizes that decide which images a split gets: its own, and those of splits dealt before it."""
        source = self.splits[cast("Split", split)].source
        taken: dict[str, int] = {s: self.splits[s].images for s in SPLITS if self.splits[s].source == source}
        return self.sources[source].relevant(taken, split)


def split_manifest(source: Source, name: str, sizes: Mapping[str, int], split: str, seed: int) -> "pd.DataFrame":
    """Allot one split: columns sample (0..n-1), split, source (its name), location, label; classes in turn.

    `sizes` are those of the splits of this source that decide about this one (see Source.relevant), this one included.
    Raises ValueError where the source holds too few images.
    """
    allotted = source.allot(sizes, seed)
    rows = allotted[allotted["split"] == split].sort_values(["label", "location"], kind="stable")
    # Classes in turn, so that the first n images are a balanced subset.
    rows = rows.assign(turn=rows.groupby("label").cumcount()).sort_values(["turn", "label"], kind="stable")
    rows = rows.assign(source=name, sample=range(len(rows)))
    return rows[["sample", "split", "source", "location", "label"]].reset_index(drop=True)


def class_names(sources: Mapping[str, Source]) -> list[str]:
    """Return the class names that all sources share; ValueError where two sources disagree."""
    listed = {name: source.class_names() for name, source in sources.items()}
    (first, names), *others = listed.items()
    for other, other_names in others:
        if other_names != names:
            raise ValueError(f"data sources {first!r} and {other!r} list different classes")
    return names
