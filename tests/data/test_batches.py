import io
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lraee.data.batches import Batch, Loader
from lraee.data.images import Picture
from lraee.data.manifest import SPLITS, DataSettings
from lraee.data.remarks import Remark
from lraee.data.sources import Source
from tests.data.encoded import claiming
from tests.data.manifests import build_manifest


def _to_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()


def _loader(source: dict[str, Any], batch: int, images: int = 7) -> tuple[Loader, pd.DataFrame]:
    splits = {split: {"source": "here", "images": images if split == "test" else 1} for split in SPLITS}
    data = DataSettings.model_validate({"sources": {"here": source}, "splits": splits})
    manifest = build_manifest(data, 0)
    return Loader(data.sources, _to_tensor, batch), manifest[manifest["split"] == "test"]


def _folder(root: Path) -> dict[str, Any]:
    """Eleven pictures of one class; the red channel tells which is which."""
    (root / "a").mkdir(parents=True)
    for number in range(11):
        Image.new("RGB", (6, 6), (number, 0, 0)).save(root / "a" / f"{number:02d}.png")
    return {"source": "image-folder", "root": str(root)}


def _jpeg(mode: str = "RGB") -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, "JPEG")
    return buffer.getvalue()


def _joined(batches: list[Batch], name: str) -> list[Any]:
    return [value for batch in batches for value in getattr(batch, name)]


def test_batches_keep_the_order_of_the_manifest(tmp_path: Path) -> None:
    loader, rows = _loader(_folder(tmp_path), batch=3)
    batches = list(loader.batches(rows, "read"))
    assert [len(batch.samples) for batch in batches] == [3, 3, 1]
    assert _joined(batches, "samples") == rows["sample"].tolist()
    assert _joined(batches, "labels") == rows["label"].tolist()
    reds = torch.cat([batch.pixels for batch in batches])[:, 0, 0, 0]
    assert reds.tolist() == [int(Path(location).stem) for location in rows["location"]]


@pytest.mark.parametrize("batch", [1, 2, 7, 100])
def test_the_batch_size_does_not_change_the_pixels(batch: int) -> None:
    whole, rows = _loader({"source": "shapes"}, batch=7)
    parts, _ = _loader({"source": "shapes"}, batch=batch)
    one, two = (torch.cat([b.pixels for b in loader.batches(rows, "")]) for loader in (whole, parts))
    assert torch.equal(one, two)


def test_no_rows_give_no_batch(tmp_path: Path) -> None:
    loader, rows = _loader(_folder(tmp_path), batch=3)
    assert list(loader.batches(rows[:0], "read")) == []


BROKEN = {
    "cut.jpg": (_jpeg()[:700], "truncated file"),
    "empty.jpg": (b"", "empty file"),
    "text.jpg": (b"this is no picture", "not recognised as an image"),
    "cut.png": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00", "truncated file"),
    "huge.bmp": (claiming(60_000, 60_000), "more than 89,478,485 pixels"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_image_is_listed_and_the_others_survive(tmp_path: Path, name: str) -> None:
    source = _folder(tmp_path)
    loader, rows = _loader(source, batch=4)
    victim = rows.iloc[2]
    rows = rows.assign(location=rows["location"].where(rows["sample"] != victim["sample"], f"a/{name}"))
    (tmp_path / "a" / name).write_bytes(BROKEN[name][0])
    batches = list(loader.batches(rows, "read"))
    assert _joined(batches, "remarks") == [Remark(victim["sample"], f"a/{name}", "skipped", BROKEN[name][1])]
    kept = _joined(batches, "samples")
    assert kept == [sample for sample in rows["sample"] if sample != victim["sample"]]
    assert sum(len(batch.pixels) for batch in batches) == len(kept)


def test_a_batch_of_broken_images_has_no_pixels(tmp_path: Path) -> None:
    loader, rows = _loader(_folder(tmp_path), batch=1)
    for path in (tmp_path / "a").iterdir():
        path.write_bytes(b"")
    batches = list(loader.batches(rows, "read"))
    assert [len(batch.pixels) for batch in batches] == [0] * 7
    assert sum(len(batch.remarks) for batch in batches) == 7


def test_a_grey_jpeg_has_three_equal_channels(tmp_path: Path) -> None:
    source = _folder(tmp_path)
    loader, rows = _loader(source, batch=7)
    (tmp_path / "a" / "grey.jpg").write_bytes(_jpeg("L"))
    grey = rows[:1].assign(location="a/grey.jpg")
    (batch,) = loader.batches(grey, "read")
    assert batch.remarks == []
    assert torch.equal(batch.pixels[:, 0], batch.pixels[:, 2])
    assert batch.pixels.std() > 10


def test_an_error_that_is_no_broken_image_is_raised(tmp_path: Path) -> None:
    loader, rows = _loader(_folder(tmp_path), batch=4)
    with pytest.raises(KeyError, match="elsewhere"):
        list(loader.batches(rows.assign(source="elsewhere"), "read"))


def test_a_conversion_is_remarked_and_the_picture_kept(tmp_path: Path) -> None:
    loader, rows = _loader(_folder(tmp_path), batch=4)
    (tmp_path / "a" / "ink.jpg").write_bytes(_jpeg("CMYK"))
    Image.new("L", (6, 6)).save(tmp_path / "a" / "p.gif", save_all=True, append_images=[Image.new("L", (6, 6), 255)])
    rows = rows[:2].assign(location=["a/ink.jpg", "a/p.gif"])
    loader = Loader(loader.sources, lambda image: torch.zeros(3, 1, 1), 4)
    (batch,) = loader.batches(rows, "read")
    assert batch.samples == rows["sample"].tolist()
    assert batch.remarks == [
        Remark(batch.samples[0], "a/ink.jpg", "converted", "CMYK, converted to RGB"),
        Remark(batch.samples[1], "a/p.gif", "converted", "several frames, first one taken: 2 frames"),
        Remark(batch.samples[1], "a/p.gif", "converted", "palette, converted to RGB"),
    ]


def test_the_log_counts_the_remarks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loader, rows = _loader(_folder(tmp_path), batch=2)
    for name in rows["location"][:3]:
        (tmp_path / name).write_bytes(b"")
    list(loader.batches(rows, "read"))
    assert "read: 7 images; skipped: 3 × empty file; converted: nothing" in capsys.readouterr().err


def test_a_warning_of_pillow_is_no_noise(tmp_path: Path) -> None:
    loader, rows = _loader(_folder(tmp_path), batch=2)
    (tmp_path / "a" / "large.bmp").write_bytes(claiming(10_000, 10_000))
    Image.new("P", (6, 6)).save(tmp_path / "a" / "p.png", transparency=bytes([0, 128]))
    rows = rows[:2].assign(location=["a/large.bmp", "a/p.png"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(loader.batches(rows, "read"))
    assert [str(warning.message) for warning in caught] == []


class _Watched(Source):
    """Gives grey pictures and counts them; number 13 cannot be had."""

    opened: list[str]

    @property
    def origin(self) -> str:
        return "nowhere"

    def class_names(self) -> list[str]:
        return ["a"]

    def allot(self, sizes: Mapping[str, int], seed: int) -> pd.DataFrame:
        raise NotImplementedError

    def open(self, location: str, label: int) -> Picture:
        self.opened.append(location)
        if location == "13":
            raise PermissionError("number 13 is locked")
        return Picture(Image.new("RGB", (2, 2), (int(location) % 256,) * 3))


def _watched(images: int, batch: int, workers: int = 3, first: int = 100) -> tuple[_Watched, Loader, pd.DataFrame]:
    source = _Watched(opened=[])
    locations = [str(first + i) for i in range(images)]
    rows = pd.DataFrame({"sample": range(images), "source": "here", "location": locations, "label": 0})
    return source, Loader({"here": source}, _to_tensor, batch, workers), rows


def _decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("batch", [1, 4, 50])
def test_any_number_of_threads_keeps_the_order(workers: int, batch: int) -> None:
    _, loader, rows = _watched(41, batch, workers)
    batches = list(loader.batches(rows, "read"))
    assert _joined(batches, "samples") == list(range(41))
    assert torch.cat([b.pixels for b in batches])[:, 0, 0, 0].tolist() == [100 + i for i in range(41)]
    assert _decoders() == []


def test_no_more_than_two_batches_are_decoded_ahead() -> None:
    source, loader, rows = _watched(100, batch=4)
    batches = loader.batches(rows, "read")
    for used in range(1, 26):
        next(batches)
        assert 4 * used <= len(source.opened) <= 4 * (used + 2)


def test_a_consumer_that_stops_leaves_no_thread() -> None:
    source, loader, rows = _watched(1000, batch=5)
    batches = loader.batches(rows, "read")
    next(batches)
    assert _decoders() != []
    batches.close()  # type: ignore[attr-defined]
    assert _decoders() == []
    assert len(source.opened) <= 15


def test_an_error_in_a_thread_is_raised_where_its_batch_would_be_and_leaves_no_thread() -> None:
    _, loader, rows = _watched(30, batch=5, first=5)
    batches = loader.batches(rows, "read")
    next(batches)
    with pytest.raises(PermissionError, match="number 13 is locked"):
        next(batches)
    assert _decoders() == []


def test_the_transform_runs_in_the_threads() -> None:
    _, loader, rows = _watched(3, batch=3)
    names = []

    def transform(image: Image.Image) -> torch.Tensor:
        names.append(threading.current_thread().name)
        return _to_tensor(image)

    list(Loader(loader.sources, transform, 3).batches(rows, "read"))
    assert all(name.startswith("decode") for name in names)


def test_a_file_that_vanished_is_named_with_the_mend(tmp_path: Path) -> None:
    loader, rows = _loader(_folder(tmp_path), batch=4)
    (tmp_path / rows["location"].iloc[1]).unlink()
    with pytest.raises(FileNotFoundError, match=r"\.png is in the manifest but no longer there: restore it"):
        list(loader.batches(rows, "read"))
