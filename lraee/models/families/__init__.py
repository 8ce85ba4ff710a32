"""Model families by name; one file each. Their settings load without torch; the models do not."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from lraee.registry import Registry
from lraee.settings import PositiveInt, Settings

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from lraee.models.tower import ClassEmbeddings, Tower


WeightsKind = Literal["file", "tag", "hub", "embedded", "random"]
"""Where weights come from: a local file, a pretrained tag, a repository of the hub, this repository, or a seed."""


def weights_kind(given: str) -> WeightsKind:
    """Tell the kind of weights from how they are written in the settings."""
    named: dict[str, WeightsKind] = {"hub": "hub", "embedded": "embedded", "random": "random"}
    written_as_file = Path(given).suffix in (".safetensors", ".pt", ".pth", ".bin")
    return named.get(given, "file" if written_as_file else "tag")


def is_on_hub(name: str) -> bool:
    """Whether a model's name is that of a repository of the hub."""
    return name.startswith("hf-hub:")


@dataclass(frozen=True)
class Preprocessing:
    """What the transform does to a picture: size (H, W) in pixels, mean and deviation by channel, how it is resized.

    `crop` is the share of the resized picture's side that a centre crop keeps, for families that have one; `fill` the
    level, 0..255, of what is padded.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize: str
    crop: float | None = None
    fill: int = 0


@dataclass(frozen=True)
class LoadedModel:
    """A vision tower in FP32, in evaluation mode, and how a picture becomes its (3, H, W) input."""

    tower: "Tower"
    preprocessing: Preprocessing

    @property
    def transform(self) -> "Callable[[Image], Tensor]":
        """The transform from a picture to the tower's input."""
        from lraee.models.transform import transform

        return transform(self.preprocessing)


class ModelFamily(Settings, ABC):
    """Base of every family's settings. A subclass adds `family: Literal["<its name>"]`.

    `depth` is the number of transformer blocks: known before the model loads, so that a wrong exit layer is refused
    at once; loading checks it. `weight_seed` is where weights that are "random" come from: the architecture's own
    initialisation, for a trial of everything but accuracy.
    """

    family: str
    name: str
    depth: PositiveInt = 12
    weight_seed: int = Field(default=0, ge=0)

    @abstractmethod
    def files(self) -> list[Path]:
        """Return the files that the model is read from, for the workflow to watch; they need not exist."""

    @property
    @abstractmethod
    def weights_from(self) -> str:
        """The weights as the settings name them: a file, a tag, or one of the other kinds."""

    @property
    def weights_source(self) -> str:
        """Where the weights come from, in words."""
        given = self.weights_from
        return {
            "file": f"file {given}",
            "tag": f"tag {given}",
            "hub": f"hub repository {self.name.removeprefix('hf-hub:')}",
            "embedded": "embedded in this repository",
            "random": f"random, seed {self.weight_seed}",
        }[weights_kind(given)]

    @property
    def random_weights(self) -> bool:
        """Whether the network knows nothing: its accuracies are chance then."""
        return weights_kind(self.weights_from) == "random"

    def is_papers(self, classes: int) -> bool:
        """Whether this is the model and data that LRA-EE reports on: OpenAI's CLIP ViT-B/32 on all of ImageNet."""
        return False

    @abstractmethod
    def load(self) -> LoadedModel:
        """Load the vision tower; FileNotFoundError or ValueError name what is missing."""

    @abstractmethod
    def class_embeddings(self, class_names: list[str]) -> "ClassEmbeddings":
        """Return one embedding a class."""


FAMILIES: Registry[type[ModelFamily]] = Registry("model family", __name__)
