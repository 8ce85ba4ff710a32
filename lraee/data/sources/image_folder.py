"""A folder per class, as torchvision's ImageFolder and most downloads lay images out."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lraee.data.images import SUFFIXES, Picture, read_file
from lraee.data.sources import SOURCES, Source, deal, read_names

if TYPE_CHECKING:
    import pandas as pd

# What archives, notebooks and version control leave beside the classes.
_FOREIGN_FOLDERS = {"__MACOSX"}


@SOURCES.register("image-folder")
class ImageFolder(Source):
    """Images in `root/<class>/*`; the sorted folder names are the classes unless `classes` names a file of them.

    `classes` is a text file with one folder name a line, in the order of the labels. Hidden files and folders are
    passed over; so is what lies deeper, or has no image's name.
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
        if self.classes is None:
            return self._folders()
        names = read_names(self.classes)
        twice = [name for name, lines in Counter(names).items() if lines > 1]
        if twice:
            raise ValueError(f"class list {self.classes} names {twice[0]!r} more than once; remove one of the lines")
        return names

    def allot(self, sizes: Mapping[str, int], seed: int) -> "pd.DataFrame":
        import pandas as pd

        listing = pd.DataFrame(self._listing(), columns=["location", "label"])
        return deal(listing, sizes, seed, f"data folder {self.root}")

    def unused(self) -> list[str]:
        used = {location for location, _ in self._listing()}
        present = [path.name for path in self.root.iterdir() if not path.is_dir()]
        for name in self._folders():
            # Links are followed to class folders alone: deeper ones may lead in a circle.
            for folder, _, files in os.walk(self.root / name):
                place = Path(folder).relative_to(self.root)
                present += [(place / file).as_posix() for file in files]
        return sorted(path for path in present if path not in used and not any(map(_is_hidden, path.split("/"))))

    def open(self, location: str, label: int) -> Picture:
        return read_file(self.root / location)

    def _folders(self) -> list[str]:
        """Sorted names of the class folders."""
        if not self.root.exists():
            raise FileNotFoundError(f"data folder {self.root} does not exist; it must hold one folder per class")
        if not self.root.is_dir():
            raise NotADirectoryError(
                f"data folder {self.root} is a file; name the folder that holds one folder per class"
            )
        found = sorted(path.name for path in self.root.iterdir() if path.is_dir() and not _is_hidden(path.name))
        if not found:
            raise FileNotFoundError(
                f"data folder {self.root} holds no folder; it must hold one per class, with the images in them"
            )
        return found

    def _listing(self) -> list[tuple[str, int]]:
        """Location and label of every image."""
        folders, names = set(self._folders()), self.class_names()
        missing = [name for name in names if name not in folders]
        if missing:
            raise FileNotFoundError(
                f"data folder {self.root} lacks {len(missing)} of the {len(names)} class folders that {self.classes} "
                f"lists, for example {missing[0]!r}; restore them, or remove those lines"
            )
        return [(f"{name}/{file}", label) for label, name in enumerate(names) for file in self._images(name)]

    def _images(self, name: str) -> list[str]:
        """Sorted file names of a class; ValueError where there is none, or one that cannot be written down."""
        with os.scandir(self.root / name) as entries:
            found = sorted(entry.name for entry in entries if _is_image(entry.name) and entry.is_file())
        if not found:
            raise ValueError(
                f"class folder {self.root / name} holds no image ({', '.join(sorted(SUFFIXES))}); "
                "put its images there, or remove the folder"
            )
        unwritable = [file for file in (name, *found) if not _is_utf8(file)]
        if unwritable:
            raise ValueError(f"folder {str(self.root / name)!r}: the name {unwritable[0]!r} is not UTF-8; rename it")
        return found


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _FOREIGN_FOLDERS


def _is_image(file: str) -> bool:
    return not _is_hidden(file) and Path(file).suffix.lower() in SUFFIXES


def _is_utf8(name: str) -> bool:
    """Whether the bytes of a name were text; Python stands in surrogates for those that were not."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)
