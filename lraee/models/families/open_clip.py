"""CLIP models of open_clip; the embedded Shapes CLIP is one of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from lraee.data.sources import read_names
from lraee.models.families import FAMILIES, LoadedModel, ModelFamily, weights_kind
from lraee.settings import Settings

if TYPE_CHECKING:
    from lraee.models.tower import ClassEmbeddings

_EMBEDDED = Path(__file__).parent.parent / "embedded"
_PAPERS_NAMES = ("ViT-B-32", "ViT-B-32-quickgelu")
_IMAGENET_CLASSES = 1_000
Template = Annotated[str, Field(pattern=r"\{\}")]


class NamesFile(Settings):
    """A text file with one class name a line, in the order of the labels."""

    file: Path


@FAMILIES.register("open_clip")
class OpenClipModel(ModelFamily):
    """`name` is one of open_clip.list_models() or "hf-hub:<owner>/<repository>".

    `pretrained` is a tag that open_clip knows, a weights file (.safetensors, .pt, .pth, .bin), "embedded" for the
    weights in this repository, "hub" for those of an "hf-hub:" model, or "random". A tag decides whether the
    activation is QuickGELU; otherwise the model's name does.

    `templates` are prompts with `{}` for the class; "openai-imagenet" takes open_clip's 80, "simple-imagenet" its 7.
    `class_names` set to "imagenet" replaces WordNet ids by open_clip's English names; a file gives other names.
    """

    family: Literal["open_clip"]
    pretrained: str
    templates: Literal["openai-imagenet", "simple-imagenet"] | Annotated[list[Template], Field(min_length=1)]
    class_names: Literal["as-listed", "imagenet"] | NamesFile = "as-listed"

    def files(self) -> list[Path]:
        weights = {
            "embedded": [_EMBEDDED / f"{self.name}{suffix}" for suffix in (".json", ".safetensors")],
            "file": [Path(self.pretrained)],
        }.get(weights_kind(self.pretrained), [])
        return [*weights, self.class_names.file] if isinstance(self.class_names, NamesFile) else weights

    @property
    def weights_from(self) -> str:
        return self.pretrained

    def is_papers(self, classes: int) -> bool:
        model = self.name in _PAPERS_NAMES and self.pretrained == "openai"
        return model and self.class_names == "imagenet" and classes == _IMAGENET_CLASSES

    def load(self) -> LoadedModel:
        from lraee.models.open_clip_tower import load

        return load(self.name, self.pretrained, self.weight_seed, self.depth)

    def class_embeddings(self, class_names: list[str]) -> "ClassEmbeddings":
        from lraee.models.open_clip_tower import class_embeddings

        prompted = self._prompted(class_names)
        return class_embeddings(self.name, self.pretrained, self.weight_seed, prompted, self._templates())

    def _templates(self) -> list[Any]:
        if isinstance(self.templates, list):
            return [template.format for template in self.templates]
        from lraee.models.open_clip_tower import open_clip

        named = {
            "openai-imagenet": open_clip.OPENAI_IMAGENET_TEMPLATES,
            "simple-imagenet": open_clip.SIMPLE_IMAGENET_TEMPLATES,
        }
        return list(named[self.templates])

    def _prompted(self, class_names: list[str]) -> list[str]:
        """The names that the prompts use, one a class; ValueError where they do not fit the data's classes."""
        if self.class_names == "as-listed":
            return class_names
        if isinstance(self.class_names, NamesFile):
            names = read_names(self.class_names.file)
            if len(names) != len(class_names):
                raise ValueError(
                    f"model.class_names.file is {self.class_names.file}, which lists {len(names):,} names; the data "
                    f"have {len(class_names):,} classes"
                )
            return names
        from lraee.models.open_clip_tower import english_names

        return english_names(class_names)
