"""Where a job keeps what it goes on from when it was interrupted."""

from pathlib import Path
from typing import Any

from lraee.config import fingerprint


def checkpoints_of(snakemake: Any) -> Path:
    """The folder of a job's checkpoints: they belong to its settings, its code and its very input files."""
    files = [(path, Path(path).stat().st_mtime_ns) for path in map(str, snakemake.input)]
    return Path(snakemake.params.checkpoints) / fingerprint(dict(snakemake.params.items()), files)
