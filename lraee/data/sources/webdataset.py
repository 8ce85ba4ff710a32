"""WebDataset shards: tar files of NNNNNN.jpg (or another image's suffix) beside NNNNNN.cls.

Reading needs random access by sample, which the streaming library does not offer; a tar member's offset gives it, with
the standard library alone.
"""

import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lraee.data.images import SUFFIXES, Picture, decode
from lraee.data.sources import SOURCES, Source, deal, read_names

if TYPE_CHECKING:
    import pandas as pd


@SOURCES.register("webdataset")
class WebDataset(Source):
    """Every `*.tar` in the folder `shards`; `.cls` members index into the file `classes` (one class a line)."""

    source: Literal["webdataset"]
    shards: Path
    classes: Path

    @property
    def origin(self) -> str:
        return str(self.shards.resolve())

    def files(self) -> list[Path]:
        return [self.classes]

    def class_names(self) -> list[str]:
        return read_names(self.classes)

    def allot(self, sizes: Mapping[str, int], seed: int) -> "pd.DataFrame":
        import pandas as pd

        paths = sorted(self.shards.glob("*.tar"))
        if not paths:
            raise FileNotFoundError(f"folder {self.shards} holds no *.tar shard")
        known = len(self.class_names())
        listing = pd.concat([_list_shard(path, known) for path in paths], ignore_index=True)
        return deal(listing, sizes, seed, f"shard folder {self.shards}")

    def open(self, location: str, label: int) -> Picture:
        shard, offset, size = location.rsplit(":", 2)
        with (self.shards / shard).open("rb") as file:
            file.seek(int(offset))
            content = file.read(int(size))
        return decode(content)


def _list_shard(path: Path, classes: int) -> "pd.DataFrame":
    """List one shard: location "shard.tar:offset:size" and label; ValueError names a damaged or inconsistent shard."""
    import pandas as pd

    try:
        images, labels = _members(path)
    except tarfile.TarError as error:
        raise ValueError(
            f"shard {path} is not a whole, uncompressed tar file ({error}); write or download it again"
        ) from error
    if images.keys() != labels.keys():
        odd = sorted(images.keys() ^ labels.keys())[0]
        raise ValueError(f"shard {path}: sample {odd} lacks its image or its .cls label")
    for sample, label in labels.items():
        if not 0 <= label < classes:
            raise ValueError(
                f"shard {path}: sample {sample} has label {label}, but there are classes 0 to {classes - 1}"
            )
    return pd.DataFrame({"location": list(images.values()), "label": [labels[stem] for stem in images]})


def _members(path: Path) -> tuple[dict[str, str], dict[str, int]]:
    """Locations of images and labels by sample; tarfile.TarError where the file is not a whole tar file."""
    images: dict[str, str] = {}
    labels: dict[str, int] = {}
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            name = Path(member.name)
            stem, suffix = str(name.with_suffix("")), name.suffix.lower()
            if suffix in SUFFIXES and member.isfile():
                if stem in images:
                    raise ValueError(f"shard {path}: sample {stem} has more than one image")
                images[stem] = f"{path.name}:{member.offset_data}:{member.size}"
            elif suffix == ".cls" and (content := tar.extractfile(member)) is not None:
                labels[stem] = _label(content.read(), f"shard {path}: {member.name}")
        end = tar.offset
    with path.open("rb") as file:
        file.seek(end)
        # tarfile takes the end of a file, or rubbish, for the end of the archive as well.
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"cut off or damaged after byte {end:,}")
    return images, labels


def _label(content: bytes, where: str) -> int:
    try:
        return int(content)
    except ValueError:
        raise ValueError(f"{where} is {content[:20]!r}, but must be the number of a class") from None
