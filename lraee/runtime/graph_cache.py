"""Compiled graphs kept between processes: compiling takes most of the time to the first prediction.

They lie in the user's own cache folder, never beside an export, which may come from anywhere. A graph is found by what
it was made of and for, so that nothing is ever out of date; where the folder cannot be written, or a file is damaged,
the graph is compiled.
"""

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import openvino

from lraee.cpu import cpu_info
from lraee.io import replacing

UNUSED_DAYS = 30
"""Graphs that nobody loaded for so long are removed when another is kept."""
_DIGEST = hashlib.sha256().digest_size


@cache
def core() -> openvino.Core:
    """OpenVINO's one entrance."""
    return openvino.Core()


def cache_folder() -> Path:
    """Where graphs are kept: `lraee/graphs` below XDG_CACHE_HOME, by default ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "lraee" / "graphs"


def name_of(*parts: object) -> str:
    """Name a graph by what it is made of and for: parts in order, the OpenVINO that compiles it, and the CPU."""
    machine = (openvino.__version__, *cpu_info("model name")[:1], *cpu_info("flags")[:1])
    return hashlib.sha256(repr((*parts, *machine)).encode()).hexdigest()


def kept_or_compiled(
    name: str, settings: dict[str, Any], build: Callable[[], openvino.Model]
) -> openvino.CompiledModel:
    """Load the graph of a name, or build, compile and keep it."""
    with suppress(OSError, RuntimeError):  # RuntimeError also where there is no home
        path = cache_folder() / name
        digest, graph = _split(path.read_bytes())
        if hashlib.sha256(graph).digest() == digest:
            os.utime(path)
            return core().import_model(graph, "CPU", settings)
    compiled = core().compile_model(build(), "CPU", settings)
    with suppress(OSError, RuntimeError):
        _keep(cache_folder() / name, compiled)
    return compiled


def _split(content: bytes) -> tuple[bytes, bytes]:
    return content[:_DIGEST], content[_DIGEST:]


def _keep(path: Path, compiled: openvino.CompiledModel) -> None:
    graph = compiled.export_model().getvalue()
    with replacing(path) as partial:
        partial.write_bytes(hashlib.sha256(graph).digest() + graph)
    for other in path.parent.iterdir():
        if time.time() - other.stat().st_mtime > UNUSED_DAYS * 86_400:
            other.unlink(missing_ok=True)
