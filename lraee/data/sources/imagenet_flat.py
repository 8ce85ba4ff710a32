"""ImageNet's validation images as they are distributed: one flat folder, with the labels in the development kit."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lraee.data.images import Picture, read_file
from lraee.data.sources import SOURCES, Source, deal

if TYPE_CHECKING:
    import pandas as pd

_NAME = "ILSVRC2012_val_{:08d}.JPEG"
_LEAVES = 1_000
"""Greater ids are inner nodes of WordNet's tree, which no image has as its label."""


@SOURCES.register("imagenet-flat")
class ImageNetFlat(Source):
    """`root` holds ILSVRC2012_val_00000001.JPEG and so on; `devkit` is the unpacked ILSVRC2012_devkit_t12.

    Classes are the sorted WordNet ids, the order of open_clip's class names and of timm's classifiers; the kit counts
    them in another order.
    """

    source: Literal["imagenet-flat"]
    root: Path
    devkit: Path

    @property
    def origin(self) -> str:
        return str(self.root.resolve())

    def files(self) -> list[Path]:
        return [self._meta, self._ground_truth]

    def class_names(self) -> list[str]:
        return sorted(_wordnet_ids(self._meta).values())

    def allot(self, sizes: Mapping[str, int], seed: int) -> "pd.DataFrame":
        import pandas as pd

        listing = pd.DataFrame({"location": self._images(), "label": self._labels()})
        return deal(listing, sizes, seed, f"image folder {self.root}")

    def unused(self) -> list[str]:
        return sorted({path.name for path in self.root.iterdir() if path.is_file()} - set(self._images()))

    def open(self, location: str, label: int) -> Picture:
        return read_file(self.root / location)

    @property
    def _meta(self) -> Path:
        return self.devkit / "data" / "meta.mat"

    @property
    def _ground_truth(self) -> Path:
        return self.devkit / "data" / "ILSVRC2012_validation_ground_truth.txt"

    def _labels(self) -> list[int]:
        """The label of every image, in the order of their numbers."""
        wordnet_ids = _wordnet_ids(self._meta)
        label_of = {name: label for label, name in enumerate(sorted(wordnet_ids.values()))}
        labels = []
        for number, line in enumerate(_read(self._ground_truth).split(), start=1):
            if not line.isdecimal() or int(line) not in wordnet_ids:
                raise ValueError(
                    f"{self._ground_truth}: line {number} is {line!r}, but must be an ILSVRC2012_ID of {self._meta}, "
                    f"{min(wordnet_ids)} to {max(wordnet_ids)}; unpack the development kit again"
                )
            labels.append(label_of[wordnet_ids[int(line)]])
        return labels

    def _images(self) -> list[str]:
        """The file of every line of the ground truth; ValueError where one is missing or there are more."""
        if not self.root.is_dir():
            raise NotADirectoryError(f"image folder {self.root} is no folder; it must hold {_NAME.format(1)} and so on")
        found = {path.name for path in self.root.glob("ILSVRC2012_val_*.JPEG")}
        lines = len(_read(self._ground_truth).split())
        names = [_NAME.format(number) for number in range(1, lines + 1)]
        missing = [name for name in names if name not in found]
        if missing or len(found) != lines:
            example = f"{missing[0]} is missing" if missing else f"{max(found)} has no line"
            raise ValueError(
                f"image folder {self.root} holds {len(found):,} validation images, but {self._ground_truth} has "
                f"{lines:,} lines ({example}); unpack ILSVRC2012_img_val.tar there in full"
            )
        return names


def _wordnet_ids(meta: Path) -> dict[int, str]:
    """Return the WordNet id of every class by its ILSVRC2012_ID, from the development kit's meta.mat."""
    from scipy.io import loadmat

    if not meta.is_file():
        raise FileNotFoundError(f"{meta} does not exist; `devkit` must name the unpacked ILSVRC2012_devkit_t12")
    try:
        synsets = loadmat(meta, squeeze_me=True, variable_names=["synsets"])["synsets"]
        pairs = [
            (int(number), str(name)) for number, name in zip(synsets["ILSVRC2012_ID"], synsets["WNID"], strict=True)
        ]
    except Exception as error:  # SciPy has no common class for what a damaged file makes it raise
        raise ValueError(
            f"{meta} is not readable as the development kit's list of classes ({type(error).__name__}: {error}); "
            "unpack the development kit again"
        ) from error
    return {number: name for number, name in pairs if number <= _LEAVES}


def _read(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; `devkit` must name the unpacked ILSVRC2012_devkit_t12")
    return path.read_text(encoding="utf-8")
