"""Files at the edges: nothing half-written is ever left under a finished name, and nothing foreign is read as data."""

import glob
import hashlib
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

# pandas and Arrow are imported where they are used: an exported network is loaded without a table.
if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.parquet as pq

METADATA_KEY = "lraee"


class UnreadableFileError(ValueError):
    """A file is truncated, damaged, or belongs to another configuration."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name to write to; it becomes `path` only when the block ends without an error.

    The name is this process's own: a job that outlived its killed Snakemake may write the same file as its successor.
    What killed processes of this machine left of the file is removed.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    mine = f".{final.name}.{platform.node()}-"
    partial = final.with_name(f"{mine}{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(final)
    finally:
        partial.unlink(missing_ok=True)
    for other in final.parent.glob(f"{glob.escape(mine)}*.partial"):
        if not _runs(int(other.name.removeprefix(mine).removesuffix(".partial"))):
            other.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def file_sha256(path: str | Path) -> str:
    """Hash a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON with sorted keys."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read JSON; UnreadableFileError names a damaged file."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnreadableFileError(f"{path} is not readable as JSON ({error}); delete it and run again") from error


def write_table(path: str | Path, frame: "pd.DataFrame") -> None:
    """Write a tidy table as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with replacing(path) as partial:
        table = pa.Table.from_pandas(frame, preserve_index=False)
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)


def read_table(path: str | Path) -> "pd.DataFrame":
    """Read a tidy table; UnreadableFileError names a damaged file."""
    with open_parquet(path) as file:
        return file.read().to_pandas()


@contextmanager
def open_parquet(path: str | Path) -> "Iterator[pq.ParquetFile]":
    """Open a Parquet file; UnreadableFileError names a truncated or damaged one, also while it is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (FileNotFoundError, PermissionError):
        raise
    except (pa.ArrowInvalid, OSError) as error:
        raise UnreadableFileError(f"{path} is truncated or damaged ({error}); delete it and run again") from error


def read_arrays(path: str | Path, endings: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Read those tensors of a safetensors file whose names have one of the endings, as arrays, without torch.

    UnreadableFileError names a damaged file.
    """
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys() if name.endswith(endings)}  # noqa: SIM118
    except SafetensorError as error:
        raise UnreadableFileError(f"{path} is truncated or damaged ({error}); delete it and run again") from error


def read_header(path: str | Path) -> dict[str, Any]:
    """Read a safetensors file's metadata, without torch; UnreadableFileError names a damaged file."""
    try:
        with safe_open(path, framework="np") as file:
            header: dict[str, Any] = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
            return header
    except SafetensorError as error:
        raise UnreadableFileError(f"{path} is truncated or damaged ({error}); delete it and run again") from error
