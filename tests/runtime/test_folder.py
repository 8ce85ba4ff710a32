"""Nothing but what was exported is ever loaded, and nothing but what was evaluated is exported."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from lraee.io import file_sha256
from lraee.runtime import EarlyExitCLIP, ExportError
from lraee.runtime.export import check_evaluated, export, measured
from lraee.runtime.folder import MANIFEST, TENSORS
from lraee.tensors import read_tensors, write_tensors


@pytest.fixture
def copy(exported: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported.folder, tmp_path / "copy"))


def _change(folder: Path, **changes: Any) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(content | changes))


def test_a_folder_is_two_files_and_holds_no_code(exported: Any) -> None:
    assert sorted(path.name for path in exported.folder.iterdir()) == [MANIFEST, TENSORS]
    tensors, _ = read_tensors(exported.folder / TENSORS)
    assert tensors["network.blocks.0.qkv.weight_codes"].dtype == torch.int8
    assert "network.blocks.0.qkv.weight" not in tensors


def test_a_copy_works_elsewhere(copy: Path, exported: Any) -> None:
    assert EarlyExitCLIP.load(copy).predict(exported.pixels) == EarlyExitCLIP.load(exported.folder).predict(
        exported.pixels
    )


@pytest.mark.parametrize("place", ["", "nowhere"])
def test_a_foreign_folder_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(ExportError, match=r"holds no manifest\.json"):
        EarlyExitCLIP.load(tmp_path / place)


def test_another_format_is_refused(copy: Path) -> None:
    _change(copy, format=2)
    with pytest.raises(ExportError, match="is an export of format 2, this version reads 1"):
        EarlyExitCLIP.load(copy)


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"'])
def test_a_broken_manifest_is_refused(copy: Path, text: str) -> None:
    (copy / MANIFEST).write_text(text)
    with pytest.raises(ExportError, match=r"export (the folder|it) again"):
        EarlyExitCLIP.load(copy)


@pytest.mark.parametrize("changes", [{"logit_scale": 5.0}, {"class_names": ["a"] * 5}, {"extra": 1}, {"sha256": "0"}])
def test_a_changed_manifest_is_refused(copy: Path, changes: dict[str, Any]) -> None:
    _change(copy, **changes)
    with pytest.raises(ExportError, match="was changed after it was exported"):
        EarlyExitCLIP.load(copy)


def test_changed_tensors_are_refused(copy: Path) -> None:
    tensors, metadata = read_tensors(copy / TENSORS)
    tensors["classes.rows"] += 0.1
    write_tensors(copy / TENSORS, tensors, metadata)
    with pytest.raises(ExportError, match="is not the file that was exported"):
        EarlyExitCLIP.load(copy)


def test_missing_and_truncated_tensors_are_refused(copy: Path) -> None:
    content = (copy / TENSORS).read_bytes()
    (copy / TENSORS).write_bytes(content[: len(content) // 2])
    with pytest.raises(ExportError, match="is not the file that was exported"):
        EarlyExitCLIP.load(copy)
    (copy / TENSORS).unlink()
    with pytest.raises(ExportError, match="is missing"):
        EarlyExitCLIP.load(copy)


def test_an_interrupted_export_is_not_taken_for_whole(
    exported: Any, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lraee.runtime.folder.file_sha256", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(copy, exported.source)
    with pytest.raises(ExportError, match=r"holds no manifest\.json"):
        EarlyExitCLIP.load(copy)


@pytest.mark.parametrize(
    ("scheme", "what"),
    [
        ({"scheme": "repq-vit"}, "quantized products of attention"),
        ({"scheme": "bitskip-hadamard"}, "cannot be exported"),
        ({"scheme": "bfloat16"}, "in bfloat16"),
    ],
)
def test_what_no_folder_can_hold_is_refused(make_exported: Any, scheme: dict[str, Any], what: str) -> None:
    with pytest.raises(ExportError, match=f"w8a8 cannot be exported: .*{what}"):
        make_exported(scheme)


def test_a_headline_with_another_last_head_is_refused(exported: Any, tmp_path: Path) -> None:
    import dataclasses

    headline = exported.source.headline
    c = headline.configuration.model_copy(update={"final": ("ssa", "distilled")})
    changed = dataclasses.replace(exported.source, headline=headline.model_copy(update={"configuration": c}))
    with pytest.raises(ExportError, match="by a head of its own"):
        export(tmp_path, changed)


def test_only_what_was_evaluated_is_exported(tmp_path: Path) -> None:
    for name in ("state", "heads"):
        (tmp_path / name).write_text(name)
    files = {name: tmp_path / name for name in ("state", "heads")}
    evaluated = {name: file_sha256(path) for name, path in files.items()}
    check_evaluated(evaluated, files)
    with pytest.raises(ExportError, match=r"\(state\)"):
        check_evaluated({}, files)
    (tmp_path / "heads").write_text("others")
    with pytest.raises(ExportError, match=r"heads is not the file that was evaluated \(heads\)"):
        check_evaluated(evaluated, files)


def test_an_export_needs_its_evaluation() -> None:
    points = pd.DataFrame({
        "precision": ["w8a8", "w8a8", "fp32"], "headline": [False, True, True],
        "study": ["full-depth", "frontier", "frontier"], "n": 10, "top1": [0.5, 0.4, 0.6], "top1_low": 0.3,
        "top1_high": 0.7, "saved": [0.0, 0.25, 0.3],
    })  # fmt: skip
    found = measured(points, "w8a8")
    assert (found.images, found.top1, found.full_depth_top1, found.macs_saved) == (10, 0.4, 0.5, 0.25)
    with pytest.raises(ExportError, match="does not hold the headline of w4a4"):
        measured(points, "w4a4")
