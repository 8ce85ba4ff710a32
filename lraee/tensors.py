"""Tensors at the edges, as safetensors with JSON metadata. No pickle is read from anywhere."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lraee.io import METADATA_KEY, UnreadableFileError, read_header, replacing


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and what belongs to them."""
    content = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with replacing(path) as partial:
        save_file(content, partial, metadata={METADATA_KEY: json.dumps(metadata, sort_keys=True)})


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and metadata; UnreadableFileError names a damaged file."""
    try:
        return load_file(path), read_header(path)
    except SafetensorError as error:
        raise UnreadableFileError(f"{path} is truncated or damaged ({error}); delete it and run again") from error
