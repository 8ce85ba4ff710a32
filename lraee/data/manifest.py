"""The manifest: which image belongs to which split, decided once before anything is computed."""

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

import pandas as pd
from pydantic import Field, model_validator

from lraee.data.sources import SOURCES, Source
from lraee.registry import ChosenFrom
from lraee.settings import Name, PositiveInt, Settings

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

    def sizes(self, source: str) -> dict[str, int]:
        """Return how many images each split takes from a source, in the order of SPLITS."""
        return {split: self.splits[split].images for split in SPLITS if self.splits[split].source == source}


def build_manifest(settings: DataSettings, seed: int) -> pd.DataFrame:
    """Allot every split: columns sample (0..n-1 inside its split), split, source, location, label.

    Raises ValueError where a source holds too few images, where sources disagree about the classes, or where two
    splits would share an image.
    """
    class_names(settings)
    parts = []
    for name, source in settings.sources.items():
        if sizes := settings.sizes(name):
            parts.append(source.allot(sizes, seed).assign(source=name))
    manifest = pd.concat(parts, ignore_index=True)
    shared = manifest.duplicated(["source", "location"], keep=False)
    if shared.any():
        row = manifest[shared].iloc[0]
        raise ValueError(f"image {row['location']} of source {row['source']!r} would be in two splits")
    order = pd.Categorical(manifest["split"], SPLITS, ordered=True)
    manifest = manifest.assign(split=order).sort_values(["split", "label", "location"], kind="stable")
    # Classes in turn inside a split, so that the first n images of any split are a balanced subset.
    manifest["turn"] = manifest.groupby(["split", "label"], observed=True).cumcount()
    manifest = manifest.sort_values(["split", "turn", "label"], kind="stable").drop(columns="turn")
    manifest["split"] = manifest["split"].astype(str)
    manifest["sample"] = manifest.groupby("split").cumcount()
    return manifest[["sample", "split", "source", "location", "label"]].reset_index(drop=True)


def class_names(settings: DataSettings) -> list[str]:
    """Return the class names that all sources share; ValueError where two sources disagree."""
    listed: Mapping[str, list[str]] = {name: source.class_names() for name, source in settings.sources.items()}
    (first, names), *others = listed.items()
    for other, other_names in others:
        if other_names != names:
            raise ValueError(f"data sources {first!r} and {other!r} list different classes")
    return names
