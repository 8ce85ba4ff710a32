"""Plain ViT classifiers of timm: their classifier rows serve as class embeddings."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from lraee.models.families import FAMILIES, LoadedModel, ModelFamily, weights_kind

if TYPE_CHECKING:
    from lraee.models.tower import ClassEmbeddings


@FAMILIES.register("timm")
class TimmModel(ModelFamily):
    """`weights` is a file (.safetensors, .pt, .pth, .bin) with timm's key names, or "random".

    `outputs` is a text file with one class a line in the order of the classifier's outputs; the data's classes pick
    their rows from it. `crop` is the share of the resized image's side that the centre crop keeps, by default what the
    model was evaluated with.
    """

    family: Literal["timm"]
    weights: Literal["random"] | Path
    outputs: Path
    crop: float | None = Field(default=None, gt=0.0, le=1.0)

    @field_validator("weights")
    @classmethod
    def _check_kind(cls, weights: Path | str) -> Path | str:
        if weights_kind(str(weights)) not in ("file", "random"):
            raise ValueError("it must be a .safetensors, .pt, .pth or .bin file, or 'random'")
        return weights

    def files(self) -> list[Path]:
        return [self.outputs] if self._file is None else [self._file, self.outputs]

    @property
    def weights_from(self) -> str:
        return str(self.weights)

    @property
    def _file(self) -> Path | None:
        return None if self.random_weights else Path(self.weights)

    def load(self) -> LoadedModel:
        from lraee.models.timm_tower import load

        return load(self.name, self._file, self.weight_seed, self.depth, self.crop)

    def class_embeddings(self, class_names: list[str]) -> "ClassEmbeddings":
        from lraee.models.timm_tower import class_embeddings

        return class_embeddings(self.name, self._file, self.weight_seed, self.outputs, class_names)
