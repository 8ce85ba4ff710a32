import json
import os
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lraee.io import UnreadableFileError, read_header, read_json, read_table, replacing, write_json, write_table
from lraee.tensors import read_tensors, write_tensors
from tests import examples

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_neither_the_file_nor_its_part(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), replacing(tmp_path / "a.txt") as partial:  # noqa: PT012
        partial.write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_error_keeps_what_was_there_before(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(RuntimeError), replacing(tmp_path / "a.txt") as partial:  # noqa: PT012
        partial.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_final_name_appears_only_at_the_end_and_folders_are_made(tmp_path: Path) -> None:
    final = tmp_path / "new" / "folder" / "a.txt"
    with replacing(final) as partial:
        partial.write_text("whole")
        assert not final.exists()
    assert final.read_text() == "whole"
    assert [path.name for path in final.parent.iterdir()] == ["a.txt"]


@settings(max_examples=examples(10))
@given(json_values)
def test_json_is_read_as_written(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    write_json(path, content)
    assert read_json(path) == content


def test_json_is_the_same_bytes_for_any_order_of_keys(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": 2})
    write_json(tmp_path / "b.json", {"a": 2, "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\x00"])
def test_damaged_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.json").write_bytes(content)
    with pytest.raises(UnreadableFileError, match=r"broken\.json is not readable as JSON"):
        read_json(tmp_path / "broken.json")


def test_tables_are_read_as_written(tmp_path: Path) -> None:
    frame = pd.DataFrame({"name": ["x", "y"], "top1": [0.5, float("nan")], "n": [1, 2]}, index=[7, 3])
    write_table(tmp_path / "t.parquet", frame)
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.parquet"), frame.reset_index(drop=True))


@pytest.mark.parametrize("keep", [0, 4, 100, -4])
def test_a_truncated_table_is_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, pd.DataFrame({"a": range(1000)}))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UnreadableFileError, match=r"t\.parquet is truncated or damaged"):
        read_table(path)


def test_a_missing_table_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "absent.parquet")


def test_tensors_and_their_metadata_are_read_as_written(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b.c": torch.tensor([1, 2]), "turned": torch.ones(2, 3).mT}
    write_tensors(tmp_path / "t.safetensors", tensors, {"bits": 8, "name": "é"})
    found, metadata = read_tensors(tmp_path / "t.safetensors")
    assert metadata == read_header(tmp_path / "t.safetensors") == {"bits": 8, "name": "é"}
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize("keep", [0, 4, 60, -4])
def test_truncated_tensors_are_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "t.safetensors"
    write_tensors(path, {"a": torch.ones(100)}, {})
    path.write_bytes(path.read_bytes()[:keep])
    for read in (read_tensors, read_header):
        with pytest.raises(UnreadableFileError, match=r"t\.safetensors is truncated or damaged"):
            read(path)


def test_metadata_are_json_inside_the_header(tmp_path: Path) -> None:
    write_tensors(tmp_path / "t.safetensors", {"a": torch.ones(1)}, {"z": 1, "a": [1, 2]})
    raw = (tmp_path / "t.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert json.loads(header["__metadata__"]["lraee"]) == {"a": [1, 2], "z": 1}


def test_what_a_killed_process_left_is_removed_and_what_a_running_one_writes_is_kept(tmp_path):
    with replacing(tmp_path / "[a].txt") as partial:
        mine = partial.name
        partial.write_text("whole")
        ended = subprocess.Popen(["true"])
        ended.wait()
        for process in (ended.pid, os.getppid()):
            (tmp_path / mine.replace(str(os.getpid()), str(process))).write_text("half")
        (tmp_path / mine.replace("[a]", "[b]")).write_text("another file's")
    kept = {mine.replace(str(os.getpid()), str(os.getppid())), mine.replace("[a]", "[b]"), "[a].txt"}
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_two_processes_that_write_the_same_file_do_not_disturb_each_other(tmp_path, monkeypatch):
    with replacing(tmp_path / "a.txt") as mine:
        mine.write_text("mine")
        with monkeypatch.context() as patch:
            patch.setattr("os.getpid", os.getppid)
            with replacing(tmp_path / "a.txt") as theirs:
                theirs.write_text("theirs")
        assert (tmp_path / "a.txt").read_text() == "theirs"
    assert (tmp_path / "a.txt").read_text() == "mine"
