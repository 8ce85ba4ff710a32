"""Weights from files without running any code in them, from a seed, and their identity."""

import hashlib
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

_WRAPPERS = ("state_dict", "model")
"""Keys under which training checkpoints keep their weights beside optimiser states."""


def read_weights(path: Path, setting: str) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors, .pt, .pth or .bin file; nothing in the file is executed.

    A checkpoint's wrapper and the prefix of data-parallel training are taken off. FileNotFoundError where the file
    does not exist; ValueError, naming `setting`, where it holds code or other objects than tensors, or is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{setting} names {path}, which does not exist")
    content: Any = load_file(path) if path.suffix == ".safetensors" else _unpickled(path, setting)
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"{setting} names {path}, which holds no weights: it must be a state dict of named tensors")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def _unpickled(path: Path, setting: str) -> Any:
    """torch.load, restricted to tensors and plain containers."""
    if _is_torchscript(path):
        raise ValueError(
            f"{setting} names {path}, a TorchScript archive: it holds code, which is never loaded; save its state dict "
            "as .safetensors, or use the tag 'openai' for OpenAI's weights"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{setting} names {path}, which is damaged or holds pickled objects other than tensors; no code is "
            "loaded from a file: save its state dict as .safetensors"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise ValueError(f"{setting} names {path}, which is truncated or damaged") from error


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def load_strictly(model: nn.Module, path: Path, setting: str, name: str) -> None:
    """Fill a model with a file's weights; ValueError where a tensor is missing, left over, or of another shape."""
    try:
        model.load_state_dict(read_weights(path, setting))
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{setting} {path} does not hold the weights of {name}: {first_fault(error)}") from error


@contextmanager
def random_from(seed: int) -> Iterator[None]:
    """Draw from `seed` inside the block, and leave torch's own generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def sha256_of(module: nn.Module) -> str:
    """Hash of every parameter and buffer: names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def first_fault(error: Exception) -> str:
    """Shorten an error of loading weights, which lists every tensor, to the first one."""
    return next((line.strip() for line in str(error).splitlines() if "rror" not in line and line.strip()), str(error))
