from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lraee.data.images import Picture
from lraee.data.manifest import split_manifest
from lraee.data.pictures import KeptPictures, write_pictures
from lraee.data.shapes import compositions, render
from lraee.data.sources import SOURCES, Source
from lraee.data.sources.shapes import ShapesSource
from lraee.io import UnreadableFileError
from tests import examples


class _Sized(Source):
    """Makes noise of the size that a location names."""

    @property
    def origin(self) -> str:
        return "noise"

    def class_names(self) -> list[str]:
        return ["noise"]

    def allot(self, sizes: Mapping[str, int], seed: int) -> pd.DataFrame:
        raise NotImplementedError

    def open(self, location: str, label: int) -> Picture:
        return Picture(Image.fromarray(_noise(location, label)))


def _noise(location: str, label: int) -> np.ndarray:
    width, height = map(int, location.split("x"))
    return np.random.default_rng((width, height, label)).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _manifest(images: int) -> pd.DataFrame:
    return split_manifest(ShapesSource(source="shapes"), "shapes", {"test": images}, "test", 0)


def test_kept_shapes_are_the_bytes_that_render_draws(tmp_path: Path) -> None:
    rows = _manifest(150)
    files = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    for file, part in zip(files, (rows[:100], rows[100:]), strict=True):
        write_pictures(file, ShapesSource(source="shapes"), part)
    kept = KeptPictures(files)
    for location, label in zip(rows["location"], rows["label"], strict=True):
        picture = kept.open(location, label)
        assert picture.image.mode == "RGB"
        assert picture.conversions == ()
        assert np.asarray(picture.image).tobytes() == render(0, int(location), compositions()[1][label]).tobytes()


@settings(max_examples=examples(10))
@given(sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=4, unique=True))
def test_pictures_of_any_size_come_back_to_the_byte(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("kept") / "0.parquet"
    locations = [f"{width}x{height}" for width, height in sizes]
    rows = pd.DataFrame({"location": locations, "label": range(len(locations))})
    write_pictures(path, _Sized(), rows)
    kept = KeptPictures([path])
    for label, location in reversed(list(enumerate(locations))):
        np.testing.assert_array_equal(np.asarray(kept.open(location, label).image), _noise(location, label))


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1000], lambda content: content[:5000] + b"?" * 50 + content[5050:]]
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "000.parquet"
    write_pictures(path, ShapesSource(source="shapes"), _manifest(20))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UnreadableFileError, match=r"000\.parquet is truncated or damaged"):
        KeptPictures([path])


def test_sources_that_read_files_are_not_kept() -> None:
    assert {name for name in SOURCES if SOURCES[name].drawn} == {"shapes"}
