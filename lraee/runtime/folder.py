"""The exported folder: `manifest.json` and `tensors.safetensors`, no code, and nothing else needed to classify images.

The manifest holds the hash of the tensors' file, and its own; a folder that was changed or cut short is refused.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from lraee.exits.settings import Aggregation, Supervision
from lraee.io import UnreadableFileError, file_sha256, read_json, write_json
from lraee.models.families import Preprocessing
from lraee.runtime.network import Network
from lraee.settings import Settings
from lraee.tensors import read_tensors, write_tensors

FORMAT = 1
"""Version of the folder's format: a reader refuses any other."""
MANIFEST, TENSORS = "manifest.json", "tensors.safetensors"


class ExportError(ValueError):
    """A folder cannot be exported or loaded; the message says why, and the mend."""


class ExportedExits(Settings):
    """Who leaves where: the layers of exits, what they read, the policy with what was fitted, and its thresholds."""

    layers: tuple[int, ...]
    aggregation: Aggregation
    supervision: Supervision
    policy: str
    gates: tuple[dict[str, Any], ...]
    thresholds: tuple[float, ...]


class Measured(Settings):
    """What the benchmark measured at this operating point on its test split; accuracies and savings are shares."""

    images: int
    top1: float
    top1_low: float
    top1_high: float
    full_depth_top1: float
    macs_saved: float


class Manifest(Settings):
    """All of an export that is no tensor. `model` is the family's settings, from which other classes are embedded."""

    format: Literal[1] = 1
    experiment: str
    quantizer: str
    description: str
    model: dict[str, Any]
    network: Network
    preprocessing: Preprocessing
    exits: ExportedExits
    class_names: tuple[str, ...]
    cosine: bool
    logit_scale: float
    measured: Measured
    tensors_sha256: str

    @property
    def identity(self) -> str:
        """A hash of the whole export, its tensors included."""
        return _seal(self.model_dump(mode="json"))


@dataclass(frozen=True)
class Export:
    """A manifest with its tensors: the network's, and those of `heads.`, `probes.` and `classes.`."""

    manifest: Manifest
    tensors: Mapping[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with `name` and a dot, without that."""
        return {key.removeprefix(f"{name}."): t for key, t in self.tensors.items() if key.startswith(f"{name}.")}


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_export(folder: str | Path, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a folder, the manifest last: without one, the folder is not taken for whole."""
    place = Path(folder)
    (place / MANIFEST).unlink(missing_ok=True)
    write_tensors(place / TENSORS, tensors, {"format": FORMAT})
    checked = Manifest.model_validate({**manifest, "tensors_sha256": file_sha256(place / TENSORS)})
    content = checked.model_dump(mode="json")
    write_json(place / MANIFEST, content | {"sha256": _seal(content)})


def read_export(folder: str | Path) -> Export:
    """Read a folder; ExportError where it is none, of another version, changed or damaged."""
    place = Path(folder)
    if not (place / MANIFEST).is_file():
        raise ExportError(f"{place} holds no {MANIFEST}: name a folder that the rule `export` wrote")
    try:
        content = read_json(place / MANIFEST)
    except UnreadableFileError as error:
        raise ExportError(f"{place / MANIFEST} is no JSON: export the folder again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise ExportError(f"{place} is an export of format {found!r}, this version reads {FORMAT}: export it again")
    if content.pop("sha256", None) != _seal(content):
        raise ExportError(f"{place / MANIFEST} was changed after it was exported: export the folder again")
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        raise ExportError(f"{place / MANIFEST} is not a manifest of this version: export the folder again") from error
    return Export(manifest, _read_tensors(place, manifest.tensors_sha256))


def _read_tensors(place: Path, expected: str) -> dict[str, Tensor]:
    path = place / TENSORS
    if not path.is_file():
        raise ExportError(f"{path} is missing: copy the whole folder, or export it again")
    if file_sha256(path) != expected:
        raise ExportError(f"{path} is not the file that was exported with {MANIFEST}: copy or export the folder again")
    try:
        return read_tensors(path)[0]
    except (UnreadableFileError, SafetensorError) as error:
        raise ExportError(f"{path} is damaged: export the folder again") from error
