"""A folder per class, as torchvision's ImageFolder and most downloads lay images out."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd
from PIL import Image as PillowImage

from lraee.data.sources import SOURCES, Source, deal, read_names

if TYPE_CHECKING:
    from PIL.Image import Image

_SUFFIXES = {".jpeg", ".jpg", ".png", ".webp", ".bmp"}


@SOURCES.register("image-folder")
class ImageFolder(Source):
    """Images in `root/<class>/*`; the sorted folder names are the classes unless `classes` names a file of them.

    `classes` is a text file with one folder name a line, in the order of the labels.
    """

    source: Literal["image-folder"]
    root: Path
    classes: Path | None = None

    @property
    def origin(self) -> str:
        return str(self.root.resolve())

    def files(self) -> list[Path]:
        return [self.classes] if self.classes else []

    def class_names(self) -> list[str]:
        if self.classes is not None:
            return read_names(self.classes)
        if not self.root.is_dir():
            raise FileNotFoundError(f"data folder {self.root} does not exist; it must hold one folder per class")
        return sorted(path.name for path in self.root.iterdir() if path.is_dir())

    def allot(self, sizes: Mapping[str, int], seed: int) -> pd.DataFrame:
        rows = [
            (f"{name}/{path.name}", label)
            for label, name in enumerate(self.class_names())
            for path in sorted((self.root / name).glob("*"))
            if path.suffix.lower() in _SUFFIXES
        ]
        return deal(pd.DataFrame(rows, columns=["location", "label"]), sizes, seed, f"data folder {self.root}")

    def open(self, location: str, label: int) -> "Image":
        with PillowImage.open(self.root / location) as image:
            return image.convert("RGB")
