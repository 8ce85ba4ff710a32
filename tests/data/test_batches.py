import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lraee.data.batches import Batch, Loader
from lraee.data.manifest import SPLITS, DataSettings
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
    "cut.jpg": _jpeg()[:700],
    "empty.jpg": b"",
    "text.jpg": b"this is no picture",
    "cut.png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_image_is_listed_and_the_others_survive(tmp_path: Path, name: str) -> None:
    source = _folder(tmp_path)
    loader, rows = _loader(source, batch=4)
    victim = rows.iloc[2]
    rows = rows.assign(location=rows["location"].where(rows["sample"] != victim["sample"], f"a/{name}"))
    (tmp_path / "a" / name).write_bytes(BROKEN[name])
    batches = list(loader.batches(rows, "read"))
    skipped = _joined(batches, "skipped")
    assert [sample for sample, _ in skipped] == [victim["sample"]]
    assert name in skipped[0][1]
    kept = _joined(batches, "samples")
    assert kept == [sample for sample in rows["sample"] if sample != victim["sample"]]
    assert sum(len(batch.pixels) for batch in batches) == len(kept)


def test_a_picture_that_claims_too_many_pixels_is_listed_and_the_others_survive(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "BMP")
    header = bytearray(buffer.getvalue())
    header[18:26] = (60_000).to_bytes(4, "little") * 2
    loader, rows = _loader(_folder(tmp_path), batch=4)
    (tmp_path / "a" / "huge.bmp").write_bytes(header)
    rows = rows.assign(location=["a/huge.bmp", *rows["location"][1:]])
    batches = list(loader.batches(rows, "read"))
    assert [sample for batch in batches for sample, _ in batch.skipped] == [rows["sample"].iloc[0]]


def test_a_batch_of_broken_images_has_no_pixels(tmp_path: Path) -> None:
    loader, rows = _loader(_folder(tmp_path), batch=1)
    for path in (tmp_path / "a").iterdir():
        path.write_bytes(b"")
    batches = list(loader.batches(rows, "read"))
    assert [len(batch.pixels) for batch in batches] == [0] * 7
    assert sum(len(batch.skipped) for batch in batches) == 7


def test_a_grey_jpeg_has_three_equal_channels(tmp_path: Path) -> None:
    source = _folder(tmp_path)
    loader, rows = _loader(source, batch=7)
    (tmp_path / "a" / "grey.jpg").write_bytes(_jpeg("L"))
    grey = rows[:1].assign(location="a/grey.jpg")
    (batch,) = loader.batches(grey, "read")
    assert batch.skipped == []
    assert torch.equal(batch.pixels[:, 0], batch.pixels[:, 2])
    assert batch.pixels.std() > 10


def test_an_error_that_is_no_broken_image_is_raised(tmp_path: Path) -> None:
    loader, rows = _loader(_folder(tmp_path), batch=4)
    with pytest.raises(KeyError, match="elsewhere"):
        list(loader.batches(rows.assign(source="elsewhere"), "read"))
