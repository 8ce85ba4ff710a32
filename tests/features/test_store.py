import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lraee.data.remarks import Remark
from lraee.features.extract import LayerFeatures, extract
from lraee.features.store import (
    ROW_GROUP,
    Features,
    Row,
    Shard,
    concatenate,
    iterate_features,
    read_final,
    read_labels,
    read_remarks,
    read_row_group,
    row_groups,
    write_features,
)
from lraee.io import UnreadableFileError

LAYERS = [1, 2, 3]


def _read(path: Path, identity: str, layers: list[int]) -> Features:
    return concatenate(list(iterate_features([Shard(path, identity)], layers)))


def _row(first: int, images: int) -> Row:
    rng = np.random.default_rng(first)
    features = LayerFeatures(
        cls=torch.tensor(rng.normal(size=(images, 3, 4))).half(),
        mean=torch.tensor(rng.normal(size=(images, 3, 4))).half(),
        sav=torch.tensor(rng.normal(size=(images, 3))).float(),
        final=torch.tensor(rng.normal(size=(images, 5))).float(),
    )
    return Row(list(range(first, first + images)), [sample % 7 for sample in range(first, first + images)], features)


def _joined(rows: list[Row], name: str) -> np.ndarray:
    return torch.cat([getattr(row.features, name) for row in rows]).float().numpy()


@pytest.mark.parametrize("sizes", [[1], [3, 2], [900, 900, 900, 100], [5000]])
def test_what_was_written_is_read(tmp_path: Path, sizes: list[int]) -> None:
    starts = np.cumsum([0, *sizes[:-1]])
    rows = [_row(int(start), size) for start, size in zip(starts, sizes, strict=True)]
    assert write_features(tmp_path / "f.parquet", iter(rows), "me", []) == sum(sizes)
    found = _read(tmp_path / "f.parquet", "me", LAYERS)
    assert found.samples.tolist() == list(range(sum(sizes)))
    assert found.labels.tolist() == [sample % 7 for sample in range(sum(sizes))]
    for name, kept in (("cls", np.float16), ("mean", np.float16), ("sav", np.float32), ("final", np.float32)):
        values = getattr(found, name)
        assert values.dtype == kept
        np.testing.assert_array_equal(values, _joined(rows, name))


def test_layers_are_picked_by_number_and_order(tmp_path: Path) -> None:
    row = _row(0, 6)
    write_features(tmp_path / "f.parquet", [row], "me", [])
    found = _read(tmp_path / "f.parquet", "me", [3, 1])
    np.testing.assert_array_equal(found.cls, row.features.cls[:, [2, 0]].numpy())
    np.testing.assert_array_equal(found.mean, row.features.mean[:, [2, 0]].numpy())
    np.testing.assert_array_equal(found.sav, row.features.sav[:, [2, 0]].numpy())


def test_readers_stream_row_groups(tmp_path: Path) -> None:
    rows = [_row(start, 500) for start in range(0, 6000, 500)]
    write_features(tmp_path / "f.parquet", rows, "me", [])
    parts = [len(part.samples) for part in iterate_features([Shard(tmp_path / "f.parquet", "me")], [1])]
    assert sum(parts) == 6000
    assert max(parts) < ROW_GROUP + 500
    assert len(parts) >= 2


def test_parts_stand_below_each_other_in_their_order(tmp_path: Path) -> None:
    parts = []
    for first, size in ((20, 3), (0, 1), (7, 2)):
        write_features(tmp_path / "f.parquet", [_row(first, size)], "me", [])
        parts.append(_read(tmp_path / "f.parquet", "me", [2, 3]))
    whole = concatenate(parts)
    assert whole.samples.tolist() == [20, 21, 22, 0, 7, 8]
    assert whole.labels.tolist() == [6, 0, 1, 0, 0, 1]
    assert whole.cls.shape == (6, 2, 4)
    for place, part in ((slice(0, 3), parts[0]), (slice(3, 4), parts[1]), (slice(4, 6), parts[2])):
        assert whole.layers == part.layers == (2, 3)
        for name in ("samples", "labels", "cls", "mean", "sav", "final"):
            np.testing.assert_array_equal(getattr(whole, name)[place], getattr(part, name))


def test_extracted_features_survive_the_store(tmp_path: Path, tower: Any, pixels: torch.Tensor) -> None:
    features = extract(tower, pixels)
    write_features(tmp_path / "f.parquet", [Row(list(range(8)), [0] * 8, features)], "me", [])
    found = _read(tmp_path / "f.parquet", "me", [4])
    np.testing.assert_array_equal(found.cls[:, 0], features.cls[:, 3].numpy())
    np.testing.assert_array_equal(found.final, features.final.numpy())


def test_what_is_remarked_while_rows_are_made_is_kept(tmp_path: Path) -> None:
    remarks: list[Remark] = []

    def rows() -> Iterator[Row]:
        yield _row(0, 2)
        remarks.append(Remark(2, "a/cut\n.jpg", "skipped", "truncated file"))
        yield _row(3, 2)

    write_features(tmp_path / "f.parquet", rows(), "me", remarks)
    found = read_remarks([Shard(tmp_path / "f.parquet", "me")])
    pd.testing.assert_frame_equal(found, pd.DataFrame(remarks))


def test_nothing_remarked_is_an_empty_table(tmp_path: Path) -> None:
    write_features(tmp_path / "f.parquet", [_row(0, 2)], "me", [])
    found = read_remarks([Shard(tmp_path / "f.parquet", "me")])
    assert (len(found), list(found.columns)) == (0, ["sample", "location", "outcome", "reason"])
    assert found["sample"].dtype == np.int64


def test_no_row_at_all_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"f\.parquet: not one image"):
        write_features(tmp_path / "f.parquet", [], "me", [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("images", [1, ROW_GROUP])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_nothing(tmp_path: Path, images: int, error: type[BaseException]) -> None:
    def rows() -> Iterator[Row]:
        yield _row(0, images)
        raise error("stop")

    with pytest.raises(error):
        write_features(tmp_path / "f.parquet", rows(), "me", [])
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_keeps_the_finished_file_of_before(tmp_path: Path) -> None:
    write_features(tmp_path / "f.parquet", [_row(0, 3)], "me", [])

    def rows() -> Iterator[Row]:
        yield _row(10, 4)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_features(tmp_path / "f.parquet", rows(), "me", [])
    assert _read(tmp_path / "f.parquet", "me", [1]).samples.tolist() == [0, 1, 2]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_named(tmp_path: Path, share: float) -> None:
    path = tmp_path / "cut.parquet"
    write_features(path, [_row(0, 100)], "me", [])
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    for read in (lambda: _read(path, "me", LAYERS), lambda: read_remarks([Shard(path, "me")])):
        with pytest.raises(UnreadableFileError, match=r"cut\.parquet is truncated or damaged"):
            read()


def test_damage_inside_the_pages_is_named(tmp_path: Path) -> None:
    path = tmp_path / "damaged.parquet"
    write_features(path, [_row(0, 100)], "me", [])
    content = bytearray(path.read_bytes())
    content[4:2000] = bytes(1996)
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=r"damaged\.parquet is truncated or damaged"):
        _read(path, "me", LAYERS)


def test_a_foreign_parquet_file_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"sample": [1], "label": [2]}), tmp_path / "foreign.parquet")
    with pytest.raises(UnreadableFileError, match=r"foreign\.parquet is not a feature file"):
        _read(tmp_path / "foreign.parquet", "me", [1])


def test_a_file_of_another_identity_is_named_with_both(tmp_path: Path) -> None:
    write_features(tmp_path / "f.parquet", [_row(0, 2)], "old", [])
    for read in (_read, lambda path, identity, layers: read_remarks([Shard(path, identity)])):
        with pytest.raises(UnreadableFileError, match=r"f\.parquet .*identity old, expected new"):
            read(tmp_path / "f.parquet", "new", [1])


def test_a_missing_file_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _read(tmp_path / "absent.parquet", "me", [1])


def test_the_metadata_count_the_images(tmp_path: Path) -> None:
    write_features(tmp_path / "f.parquet", [_row(0, 3), _row(3, 2)], "me", [Remark(9, "a", "skipped", "x")])
    metadata = pq.read_metadata(tmp_path / "f.parquet").metadata
    assert json.loads(metadata[b"lraee"]) == {"identity": "me", "images": 5, "remarks": [[9, "a", "skipped", "x"]]}


def test_shards_are_read_one_after_the_other(tmp_path: Path) -> None:
    shards = [Shard(tmp_path / f"{n}.parquet", f"shard {n}") for n in range(3)]
    for shard, first in zip(shards, (4, 0, 2), strict=True):
        write_features(shard.path, [_row(first, 2)], shard.identity, [Remark(first + 10, "a", "skipped", "x")])
    found = concatenate(list(iterate_features(shards, [2])))
    assert found.samples.tolist() == [4, 5, 0, 1, 2, 3]
    assert read_remarks(shards)["sample"].tolist() == [14, 10, 12]


def test_parts_of_a_shard_can_be_read_alone(tmp_path: Path) -> None:
    shard = Shard(tmp_path / "f.parquet", "me")
    rows = [_row(start, 1024) for start in range(0, 5 * 1024, 1024)]
    write_features(shard.path, rows, "me", [])
    assert row_groups(shard) == [2048, 2048, 1024]
    assert read_labels(shard).tolist() == [label for row in rows for label in row.labels]
    last = read_row_group(shard, 2, [3])
    np.testing.assert_array_equal(last.mean[:, 0], rows[4].features.mean[:, 2].numpy())
    samples, final = read_final(shard, 2)
    assert samples.tolist() == last.samples.tolist() == list(rows[4].samples)
    np.testing.assert_array_equal(final, rows[4].features.final.numpy())


def test_images_are_picked_by_row(tmp_path: Path) -> None:
    write_features(tmp_path / "f.parquet", [_row(0, 9)], "me", [])
    whole = _read(tmp_path / "f.parquet", "me", [2, 3])
    some = whole.at(np.array([7, 2]))
    assert (some.samples.tolist(), some.layers, some.cls.shape) == ([7, 2], (2, 3), (2, 2, 4))
    np.testing.assert_array_equal(some.mean, whole.mean[[7, 2]])


@pytest.mark.parametrize("where", [0.1, 0.4, 0.8])
def test_one_flipped_bit_in_the_numbers_is_noticed(tmp_path: Path, where: float) -> None:
    """Without the pages' checksums, a bit of an uncompressible page would be read as another number."""
    path = tmp_path / "flipped.parquet"
    write_features(path, [_row(0, 500)], "me", [])
    content = bytearray(path.read_bytes())
    footer = int.from_bytes(content[-8:-4], "little")
    content[int(where * (len(content) - footer))] ^= 4
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=r"flipped\.parquet is truncated or damaged"):
        _read(path, "me", LAYERS)
