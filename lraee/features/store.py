"""The feature store: Parquet files of one precision and split, its shards; one row an image.

Columns: sample, label; per layer L `cls_L` and `mean_L` (fixed-size lists of float16) and `sav_L` (float32); `final`
(float32 list). The schema's metadata carry the identity of what was computed, checked by every reader; every page
carries a checksum, so that a damaged file is not read as numbers.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lraee.data.remarks import Remark
from lraee.io import UnreadableFileError, open_parquet, replacing

if TYPE_CHECKING:
    from lraee.features.extract import LayerFeatures

ROW_GROUP = 2_048
_KEY = b"lraee"


class Shard(NamedTuple):
    """One file of a split, and the identity that it must have."""

    path: str | Path
    identity: str


@dataclass(frozen=True)
class Row:
    """A batch ready to be stored."""

    samples: Sequence[int]
    labels: Sequence[int]
    features: "LayerFeatures"


def _vectors(values: NDArray[np.floating]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).ravel()), values.shape[1])


def _table(row: Row) -> pa.Table:
    f = row.features
    cls, mean, sav, final = f.cls.numpy(), f.mean.numpy(), f.sav.numpy(), f.final.numpy()
    columns: dict[str, pa.Array] = {
        "sample": pa.array(row.samples, pa.int64()),
        "label": pa.array(row.labels, pa.int64()),
    }
    for layer in range(1, cls.shape[1] + 1):
        columns[f"cls_{layer}"] = _vectors(cls[:, layer - 1])
        columns[f"mean_{layer}"] = _vectors(mean[:, layer - 1])
        columns[f"sav_{layer}"] = pa.array(sav[:, layer - 1])
    columns["final"] = _vectors(final)
    return pa.table(columns)


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Hardly a number occurs twice: looking for repeats would take three times as long to write, four times to read.
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False, write_page_checksum=True)


def write_features(path: str | Path, rows: Iterable[Row], identity: str, remarks: list[Remark]) -> int:
    """Stream batches to `path` and return the number of images.

    `remarks` are read when the rows are exhausted: the producer may fill it while it yields. ValueError where there is
    no row at all.
    """
    images = 0
    writer: pq.ParquetWriter | None = None
    with replacing(path) as partial:
        pending: list[pa.Table] = []
        for row in rows:
            pending.append(_table(row))
            images += len(row.samples)
            writer = writer or _writer(partial, pending[0].schema)
            if sum(len(table) for table in pending) >= ROW_GROUP:
                writer.write_table(pa.concat_tables(pending))
                pending = []
        if writer is None:
            raise ValueError(f"{path}: not one image could be decoded")
        with writer:
            if pending:
                writer.write_table(pa.concat_tables(pending))
            metadata = {"identity": identity, "images": images, "remarks": remarks}
            writer.add_key_value_metadata({_KEY: json.dumps(metadata).encode()})
    return images


@dataclass(frozen=True)
class Features:
    """Chosen layers of n images.

    cls and mean: (n, L, d) float16, as stored, of `layers`; sav: (n, L) float32; final: (n, e) float32.
    """

    layers: tuple[int, ...]
    samples: NDArray[np.int64]
    labels: NDArray[np.int64]
    cls: NDArray[np.float16]
    mean: NDArray[np.float16]
    sav: NDArray[np.float32]
    final: NDArray[np.float32]

    def at(self, rows: NDArray[np.integer[Any]] | slice) -> "Features":
        """Pick some images."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _ARRAYS})


_ARRAYS = [field.name for field in fields(Features) if field.name != "layers"]


def _check(path: str | Path, file: pq.ParquetFile, identity: str) -> dict[str, Any]:
    raw = (file.metadata.metadata or {}).get(_KEY)
    if raw is None:
        raise UnreadableFileError(f"{path} is not a feature file of this program; delete it and run again")
    metadata: dict[str, Any] = json.loads(raw)
    if metadata["identity"] != identity:
        raise UnreadableFileError(
            f"{path} was computed with another configuration (identity {metadata['identity']}, expected {identity}); "
            "delete it and run again"
        )
    return metadata


def read_remarks(shards: Sequence[Shard]) -> pd.DataFrame:
    """Return what there is to remark on the images of a split: the fields of `Remark` as columns."""
    rows: list[list[Any]] = []
    for path, identity in shards:
        with open_parquet(path) as file:
            rows += _check(path, file, identity)["remarks"]
    return remark_table(rows)


def remark_table(rows: Sequence[Sequence[Any]]) -> pd.DataFrame:
    """Put remarks into a table, also where there are none."""
    return pd.DataFrame(rows, columns=list(Remark._fields)).astype({"sample": "int64"})


def row_groups(shard: Shard) -> list[int]:
    """Return the number of images in each row group of a shard; raises as read_row_group."""
    with open_parquet(shard.path) as file:
        _check(shard.path, file, shard.identity)
        return [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]


def read_labels(shard: Shard) -> NDArray[np.int64]:
    """Return the labels of a shard's images; raises as read_row_group."""
    with open_parquet(shard.path) as file:
        _check(shard.path, file, shard.identity)
        return file.read(columns=["label"])["label"].to_numpy()


def read_width(shard: Shard) -> int:
    """Return the width of a shard's hidden states; raises as read_row_group."""
    with open_parquet(shard.path) as file:
        _check(shard.path, file, shard.identity)
        return int(file.schema_arrow.field("cls_1").type.list_size)


def read_row_group(shard: Shard, group: int, layers: Sequence[int]) -> Features:
    """Read one row group; UnreadableFileError where the file is damaged or of another configuration."""
    columns = ["sample", "label", "final"]
    columns += [f"{kind}_{layer}" for layer in layers for kind in ("cls", "mean", "sav")]
    with open_parquet(shard.path) as file:
        _check(shard.path, file, shard.identity)
        table = file.read_row_group(group, columns=columns)
        return Features(
            layers=tuple(layers),
            samples=table["sample"].to_numpy(),
            labels=table["label"].to_numpy(),
            cls=_stack(table, "cls", layers),
            mean=_stack(table, "mean", layers),
            sav=np.stack([table[f"sav_{layer}"].to_numpy() for layer in layers], axis=1),
            final=_matrix(table, "final").copy(),  # Arrow's own memory is read-only
        )


def _stack(table: pa.Table, kind: str, layers: Sequence[int]) -> NDArray[np.float16]:
    return np.stack([_matrix(table, f"{kind}_{layer}") for layer in layers], axis=1)


def _matrix(table: pa.Table, column: str) -> NDArray[Any]:
    chunk = table[column].combine_chunks()
    return chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), -1)


def read_final(shard: Shard, group: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Read the samples (n,) and final embeddings (n, e) of one row group; raises as read_row_group."""
    with open_parquet(shard.path) as file:
        _check(shard.path, file, shard.identity)
        table = file.read_row_group(group, columns=["sample", "final"])
        return table["sample"].to_numpy(), _matrix(table, "final")


def iterate_features(shards: Sequence[Shard], layers: Sequence[int]) -> Iterator[Features]:
    """Yield a split by row groups; raises as read_row_group."""
    for shard in shards:
        for group in range(len(row_groups(shard))):
            yield read_row_group(shard, group, layers)


def concatenate(parts: Sequence[Features]) -> Features:
    """Put several parts with the same layers below each other."""
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
    return replace(parts[0], **joined)
