"""CLIP models of open_clip; the embedded Shapes CLIP is one of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from lraee.models.families import FAMILIES, LoadedModel, ModelFamily

if TYPE_CHECKING:
    from lraee.models.tower import ClassEmbeddings

_EMBEDDED = Path(__file__).parent.parent / "embedded"
Template = Annotated[str, Field(pattern=r"\{\}")]


@FAMILIES.register("open_clip")
class OpenClipModel(ModelFamily):
    """`pretrained` is a tag that open_clip knows, a weights file, or "embedded" for the weights in this repository.

    `templates` are prompts with `{}` for the class; "openai-imagenet" takes open_clip's 80. `class_names` set to
    "imagenet" replaces the 1,000 sorted WordNet ids by open_clip's English names.
    """

    family: Literal["open_clip"]
    name: str
    pretrained: str
    templates: Literal["openai-imagenet"] | list[Template]
    class_names: Literal["as-listed", "imagenet"] = "as-listed"

    def files(self) -> list[Path]:
        if self.pretrained == "embedded":
            return [_EMBEDDED / f"{self.name}{suffix}" for suffix in (".json", ".safetensors")]
        return [Path(self.pretrained)] if self.pretrained.endswith(".safetensors") else []

    def is_papers(self) -> bool:
        return self.name.startswith("ViT-B-32") and self.class_names == "imagenet"

    def load(self) -> LoadedModel:
        from lraee.models.open_clip_tower import load

        return load(self.name, self.pretrained, self.depth)

    def class_embeddings(self, class_names: list[str]) -> "ClassEmbeddings":
        from lraee.models.open_clip_tower import class_embeddings

        return class_embeddings(self.name, self.pretrained, self._prompted(class_names), self._templates())

    def _templates(self) -> list[Any]:
        if self.templates == "openai-imagenet":
            from lraee.models.open_clip_tower import open_clip

            return list(open_clip.OPENAI_IMAGENET_TEMPLATES)
        return [template.format for template in self.templates]

    def _prompted(self, class_names: list[str]) -> list[str]:
        if self.class_names == "as-listed":
            return class_names
        from lraee.models.open_clip_tower import open_clip

        english = list(open_clip.IMAGENET_CLASSNAMES)
        if len(class_names) != len(english) or class_names != sorted(class_names):
            raise ValueError(
                f'model.class_names is "imagenet", which needs the {len(english)} sorted WordNet ids of ImageNet-1K; '
                f"the data have {len(class_names)} classes"
            )
        return english
