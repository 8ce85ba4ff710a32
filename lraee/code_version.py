"""A content hash of exactly the code that a script runs.

Snakemake re-runs a job when its script changes, but does not look into the modules that the script imports. This hash
is a parameter of every rule: it changes with the script or with any `lraee` module that it reaches by import.
"""

import ast
import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


@cache
def _imports(path: Path) -> frozenset[Path]:
    """Files of the `lraee` modules (or sibling modules of a script) that `path` imports, anywhere in its body."""
    found: set[Path] = set()
    for node in _statements(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            found |= _files(name, path.parent)
    return frozenset(found)


def _statements(nodes: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Yield statements with all those inside them; expressions, most of a tree, hold no import."""
    for node in nodes:
        yield node
        for block in ("body", "orelse", "handlers", "finalbody", "cases"):
            yield from _statements(getattr(node, block, ()))


@cache
def _files(module: str, folder: Path) -> frozenset[Path]:
    base = _ROOT if module.split(".")[0] == "lraee" else folder
    target = base.joinpath(*module.split("."))
    candidates = [target.with_suffix(".py"), target / "__init__.py"]
    # Importing a module runs the __init__ of every package on the way.
    parents = [parent / "__init__.py" for parent in target.parents if _ROOT in parent.parents]
    return frozenset(path for path in (*candidates, *parents) if path.is_file())


def reached(*entries: Path) -> list[Path]:
    """Return the entries and every module of the project that they import, directly or not, in sorted order."""
    seen: set[Path] = set()
    pending = [entry.resolve() for entry in entries]
    while pending:
        path = pending.pop()
        if path not in seen:
            seen.add(path)
            pending += _imports(path)
    return sorted(seen)


def content_hash(*paths: Path) -> str:
    """Hash files by name and content; FileNotFoundError where one does not exist."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(str(path.relative_to(_ROOT) if _ROOT in path.parents else path.name).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def code_hash(*entries: str | Path) -> str:
    """Hash the contents of all files reached from `entries`; FileNotFoundError where one does not exist."""
    return content_hash(*reached(*(Path(entry) for entry in entries)))
