"""Model families by name; one file each. Their settings load without torch; the models do not."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lraee.registry import Registry
from lraee.settings import PositiveInt, Settings

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from lraee.models.tower import ClassEmbeddings, Tower


@dataclass(frozen=True)
class LoadedModel:
    """A vision tower in FP32, in evaluation mode, and the transform from a picture to its (3, H, W) input."""

    tower: "Tower"
    transform: "Callable[[Image], Tensor]"


class ModelFamily(Settings, ABC):
    """Base of every family's settings. A subclass adds `family: Literal["<its name>"]`.

    `depth` is the number of transformer blocks: known before the model loads, so that a wrong exit layer is refused
    at once; loading checks it.
    """

    depth: PositiveInt = 12

    @abstractmethod
    def files(self) -> list[Path]:
        """Return the files that the model is read from, for the workflow to watch; they need not exist."""

    def is_papers(self) -> bool:
        """Whether this is the model and data that LRA-EE reports on: CLIP ViT-B/32 on ImageNet."""
        return False

    @abstractmethod
    def load(self) -> LoadedModel:
        """Load the vision tower; FileNotFoundError or ValueError name what is missing."""

    @abstractmethod
    def class_embeddings(self, class_names: list[str]) -> "ClassEmbeddings":
        """Return one embedding a class."""


FAMILIES: Registry[type[ModelFamily]] = Registry("model family", __name__)
