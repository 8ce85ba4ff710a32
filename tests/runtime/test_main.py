"""The command that classifies a folder of images."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lraee.runtime import EarlyExitCLIP
from lraee.runtime.__main__ import main


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    for name in ("b.png", "below/a.jpg", "=c.png"):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    (folder / "folder.png").mkdir()
    return folder


def _table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_every_image_gets_a_row(exported: Any, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(exported.folder), str(images), "--top", "2"]) == 0
    rows = _table(capsys.readouterr().out)
    assert [row["file"] for row in rows] == ["=c.png", "b.png", "below/a.jpg"]
    model = EarlyExitCLIP.load(exported.folder)
    for row in rows:
        expected = model.predict(images / row["file"], top=2)[0]
        assert (row["class_1"], row["class_2"], int(row["layer"])) == (*expected.labels, expected.layer)
        assert float(row["probability_1"]) == pytest.approx(expected.confidence, abs=1e-4)
        assert row["unread"] == ""


def test_what_cannot_be_read_is_listed(exported: Any, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (images / "broken.jpg").write_bytes(b"")
    assert main([str(exported.folder), str(images)]) == 1
    told = capsys.readouterr()
    assert {row["file"]: row["unread"] for row in _table(told.out)}["broken.jpg"] == "empty file"
    assert "1 of 4 images could not be read" in told.err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exported": "."}, "holds no manifest.json"),
        ({"images": "nowhere"}, "holds no image"),
        ({"more": ["--top", "9"]}, "there are 5 classes"),
        ({"more": ["--engine", "abacus"]}, "invalid choice"),
    ],
)
def test_nothing_is_written_where_nothing_can_be_done(
    exported: Any, images: Path, changes: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"exported": exported.folder, "images": images, "more": []} | changes
    with pytest.raises(SystemExit) as ended:
        main([str(given["exported"]), str(given["images"]), *given["more"]])
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert message in told.err
    assert told.out == ""
