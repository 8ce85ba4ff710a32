"""The embedded Shapes pictures: drawn by code, in any number."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from PIL import Image as PillowImage
from pydantic import Field

from lraee.data.images import Picture
from lraee.data.shapes import HELD_OUT, compositions, render
from lraee.data.sources import SOURCES, Source

if TYPE_CHECKING:
    import pandas as pd

# Every split draws from its own block of indices: no split size can move or overlap another split.
_BLOCK = 100_000_000
_BLOCKS = ("quant", "fit", "gate", "select", "test")


@SOURCES.register("shapes")
class ShapesSource(Source):
    """The 144 held-out compositions, classes in turn. `picture_seed` names the collection of pictures."""

    drawn: ClassVar[bool] = True
    source: Literal["shapes"]
    picture_seed: int = Field(default=0, ge=0)

    @property
    def origin(self) -> str:
        return f"Shapes pictures of seed {self.picture_seed}"

    def class_names(self) -> list[str]:
        return [composition.name for composition in compositions()[1]]

    def relevant(self, sizes: Mapping[str, int], split: str) -> dict[str, int]:
        return {split: sizes[split]}

    def allot(self, sizes: Mapping[str, int], seed: int) -> "pd.DataFrame":
        import pandas as pd

        parts = []
        for split, size in sizes.items():
            indices = _BLOCKS.index(split) * _BLOCK + np.arange(size)
            parts.append(pd.DataFrame({"split": split, "location": indices.astype(str), "label": indices % HELD_OUT}))
        return pd.concat(parts, ignore_index=True)

    def open(self, location: str, label: int) -> Picture:
        return Picture(PillowImage.fromarray(render(self.picture_seed, int(location), compositions()[1][label])))
