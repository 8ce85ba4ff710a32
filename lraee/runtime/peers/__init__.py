"""What the runtime is timed against, by name; one file each: the same network, without exits, in other hands."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
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


_REFERENCE = "torch-fp32"


def available(names: Collection[str]) -> list[str]:
    """Pick those of the named peers whose packages are installed, behind the one that all are compared with."""
    others = sorted(set(names) - {_REFERENCE})
    return [name for name in (_REFERENCE, *others) if all(map(find_spec, PEERS[name].packages))]
