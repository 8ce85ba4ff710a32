"""The feature store: one Parquet file a precision and split, one row an image.

Columns: sample, label; per layer L `cls_L` and `mean_L` (fixed-size lists of float16) and `sav_L` (float32); `final`
(float32 list). The schema's metadata carry the identity of what was computed, checked by every reader.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
            writer = writer or pq.ParquetWriter(partial, pending[0].schema, compression="zstd")
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
    """Chosen columns of a split, in the order of the manifest.

    cls and mean: (n, L, d) float32 of the chosen layers; sav: (n, L); final: (n, e).
    """

    samples: NDArray[np.int64]
    labels: NDArray[np.int64]
    cls: NDArray[np.float32]
    mean: NDArray[np.float32]
    sav: NDArray[np.float32]
    final: NDArray[np.float32]


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


def read_remarks(path: str | Path, identity: str) -> pd.DataFrame:
    """Return what there is to remark on the images of a split: the fields of `Remark` as columns."""
    with open_parquet(path) as file:
        remarks = pd.DataFrame(_check(path, file, identity)["remarks"], columns=list(Remark._fields))
    return remarks.astype({"sample": "int64"})  # also where there are none


def iterate_features(path: str | Path, identity: str, layers: Sequence[int]) -> Iterator[Features]:
    """Yield a split by row groups; UnreadableFileError where the file is damaged or of another configuration."""
    columns = ["sample", "label", "final"]
    columns += [f"{kind}_{layer}" for layer in layers for kind in ("cls", "mean", "sav")]
    with open_parquet(path) as file:
        _check(path, file, identity)
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=columns)
            yield Features(
                samples=table["sample"].to_numpy(),
                labels=table["label"].to_numpy(),
                cls=np.stack([_matrix(table, f"cls_{layer}") for layer in layers], axis=1),
                mean=np.stack([_matrix(table, f"mean_{layer}") for layer in layers], axis=1),
                sav=np.stack([table[f"sav_{layer}"].to_numpy() for layer in layers], axis=1),
                final=_matrix(table, "final"),
            )


def _matrix(table: pa.Table, column: str) -> NDArray[np.float32]:
    chunk = table[column].combine_chunks()
    flat = chunk.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(chunk), -1).astype(np.float32)


def concatenate(parts: Sequence[Features]) -> Features:
    """Put several parts with the same layers below each other."""
    return Features(*(np.concatenate([getattr(part, name) for part in parts]) for name in Features.__annotations__))


def read_features(path: str | Path, identity: str, layers: Sequence[int]) -> Features:
    """Read the chosen layers of a whole split; raises as iterate_features."""
    return concatenate(list(iterate_features(path, identity, layers)))
