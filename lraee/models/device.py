"""The device that the network runs on."""

from collections.abc import Callable

import torch

_PRESENT: dict[str, Callable[[], bool]] = {
    "cpu": lambda: True,
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
}


def usable(name: str) -> torch.device:
    """The device of that name; ValueError where this torch or this machine does not have it."""
    if not _PRESENT[name]():
        present = ", ".join(other for other, found in _PRESENT.items() if found())
        raise ValueError(f"device is {name!r}, but torch {torch.__version__} finds only {present} on this machine")
    return torch.device(name)
