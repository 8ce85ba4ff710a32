"""What the runtime is timed against, by name; one file each: the same network, without exits, in other hands."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from lraee.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from lraee.models.tower import Tower


class Peer(ABC):
    """A way to run the unquantized tower, or to quantize and run it.

    `label` is its name in the report, `int8` whether it multiplies bytes, `packages` what has to be installed.
    """

    label: str
    int8: bool
    packages: Sequence[str] = ()

    @abstractmethod
    def __init__(self, tower: "Tower", calibration: "Tensor") -> None:
        """Prepare a tower that `rebuild` made; `calibration` are pixels (n, 3, H, W) to find ranges on."""

    @abstractmethod
    def start(self) -> "Callable[[Tensor], Tensor]":
        """Return what turns pixels (B, 3, H, W) into embeddings (B, e), on as many threads as torch has now."""


PEERS: Registry[type[Peer]] = Registry("peer", __name__)


def available() -> list[str]:
    """Name the peers whose packages are installed, torch in FP32 first: the others are compared with it."""
    found = [name for name in PEERS if all(find_spec(package) is not None for package in PEERS[name].packages)]
    return sorted(found, key=lambda name: name != "torch-fp32")
