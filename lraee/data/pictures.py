"""Pictures that a source draws, kept: drawing one takes half as long as a forward pass of the embedded CLIP.

They are kept as whole uncompressed files (PPM), so that they are opened like anybody's images.
"""

import io
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from lraee.data.images import Picture, decode
from lraee.data.sources import Source
from lraee.io import read_table, write_table


def write_pictures(path: str | Path, source: Source, rows: pd.DataFrame) -> None:
    """Draw the images of a manifest's rows and keep them: a table with the columns location, content (bytes)."""
    places = zip(rows["location"], rows["label"], strict=True)
    contents = [_encoded(source.open(location, label)) for location, label in places]
    write_table(path, pd.DataFrame({"location": rows["location"].to_numpy(), "content": contents}))


class KeptPictures:
    """Opens pictures that write_pictures kept; UnreadableFileError where a file is damaged."""

    def __init__(self, paths: Iterable[str | Path]) -> None:
        self._contents: dict[str, bytes] = {}
        for path in paths:
            table = read_table(path)
            self._contents.update(zip(table["location"], table["content"], strict=True))

    def open(self, location: str, label: int) -> Picture:
        """Return the picture of `location`, which has one label alone."""
        return decode(self._contents[location])


def _encoded(picture: Picture) -> bytes:
    buffer = io.BytesIO()
    picture.image.save(buffer, "PPM")
    return buffer.getvalue()
