"""Plain ViT classifiers of timm: their classifier rows serve as class embeddings."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from lraee.models.families import FAMILIES, LoadedModel, ModelFamily

if TYPE_CHECKING:
    from lraee.models.tower import ClassEmbeddings


@FAMILIES.register("timm")
class TimmModel(ModelFamily):
    """`weights` is a .safetensors file with timm's key names.

    `outputs` is a text file with one class a line in the order of the classifier's outputs; the data's classes pick
    their rows from it. `crop` is the share of the resized image's side that the centre crop keeps.
    """

    family: Literal["timm"]
    name: str
    weights: Path
    outputs: Path
    crop: float = Field(default=1.0, gt=0.0, le=1.0)

    def files(self) -> list[Path]:
        return [self.weights, self.outputs]

    def load(self) -> LoadedModel:
        from lraee.models.timm_tower import load

        return load(self.name, self.weights, self.depth, self.crop)

    def class_embeddings(self, class_names: list[str]) -> "ClassEmbeddings":
        from lraee.models.timm_tower import class_embeddings

        return class_embeddings(self.name, self.weights, self.outputs, class_names)
