"""Rebuild an open_clip vision transformer as a Tower, and its text tower's class embeddings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from lraee.models import vision_ops  # noqa: F401  (before open_clip)
from lraee.models.families import LoadedModel
from lraee.models.shape import TowerShape
from lraee.models.tower import Block, ClassEmbeddings, Tower, check_rebuilt, first_fault, linear_from

import open_clip  # isort: skip

__all__ = ["class_embeddings", "create", "load", "open_clip", "tower_of"]

EMBEDDED = Path(__file__).with_name("embedded")


def create(name: str, pretrained: str) -> Any:
    """Create an open_clip model with weights, in evaluation mode; ValueError names what open_clip does not know."""
    open_clip.add_model_config(EMBEDDED)
    if name not in open_clip.list_models():
        raise ValueError(f"model.name is {name!r}, which open_clip does not know; open_clip.list_models() names them")
    path = EMBEDDED / f"{name}.safetensors" if pretrained == "embedded" else Path(pretrained)
    if pretrained in open_clip.list_pretrained_tags_by_model(name):
        return open_clip.create_model(name, pretrained=pretrained).eval()
    if path.suffix != ".safetensors":
        raise ValueError(
            f"model.pretrained is {pretrained!r}: neither a tag of {name} nor a .safetensors file (no pickle is loaded)"
        )
    if not path.is_file():
        raise FileNotFoundError(f"model.pretrained names {path}, which does not exist")
    try:
        return open_clip.create_model(name, pretrained=str(path)).eval()
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"model.pretrained {path} does not hold the weights of {name}: {first_fault(error)}"
        ) from error


class _Stem(nn.Module):
    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.conv1, self.ln_pre = visual.conv1, visual.ln_pre
        self.class_embedding, self.positional_embedding = visual.class_embedding, visual.positional_embedding

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.conv1(pixels).flatten(2).mT
        cls = self.class_embedding.expand(len(patches), 1, -1)
        return self.ln_pre(torch.cat([cls, patches], dim=1) + self.positional_embedding)


class _Head(nn.Module):
    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.ln_post, self.proj = visual.ln_post, visual.proj

    def forward(self, z: Tensor) -> Tensor:
        return self.ln_post(z[:, 0]) @ self.proj


def _block(source: Any) -> Block:
    attention = source.attn
    return Block(
        norm1=source.ln_1,
        qkv=linear_from(attention.in_proj_weight, attention.in_proj_bias),
        proj=linear_from(attention.out_proj.weight, attention.out_proj.bias),
        norm2=source.ln_2,
        fc1=source.mlp.c_fc,
        act=source.mlp.gelu,
        fc2=source.mlp.c_proj,
        heads=attention.num_heads,
        scale1=source.ls_1,
        scale2=source.ls_2,
    )


def tower_of(model: Any) -> Tower:
    """Rebuild `model.visual`; ValueError where it is not a plain ViT that reads its embedding off [CLS]."""
    visual = model.visual
    if not isinstance(visual, open_clip.transformer.VisionTransformer):
        raise ValueError(
            f"the vision tower is a {type(visual).__name__}; only open_clip's VisionTransformer is supported"
        )
    if visual.attn_pool is not None or visual.pool_type != "tok" or visual.proj is None:
        raise ValueError("the vision tower pools by attention or average; only [CLS] pooling is supported")
    plain = open_clip.transformer.ResidualAttentionBlock
    if any(type(source) is not plain for source in visual.transformer.resblocks):
        raise ValueError("the vision tower has other blocks than open_clip's ResidualAttentionBlock")
    blocks = [_block(source) for source in visual.transformer.resblocks]
    tokens, width = visual.positional_embedding.shape
    shape = TowerShape(
        depth=len(blocks),
        tokens=tokens,
        width=width,
        hidden=visual.transformer.resblocks[0].mlp.c_fc.out_features,
        patch=visual.conv1.weight[0].numel(),
        embedding=visual.proj.shape[1],
        projected=True,
    )
    tower = Tower(_Stem(visual), blocks, _Head(visual), shape).eval().requires_grad_(False)
    check_rebuilt(tower, model.encode_image, visual.image_size)
    return tower


def load(name: str, pretrained: str, depth: int) -> LoadedModel:
    """Load an open_clip model's vision tower; ValueError where it has another depth than the settings say."""
    model = create(name, pretrained)
    tower = tower_of(model)
    if tower.shape.depth != depth:
        raise ValueError(f"model.depth is {depth}, but {name} has {tower.shape.depth} blocks")
    preprocess = open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg)
    return LoadedModel(tower, open_clip.transform.image_transform_v2(preprocess, is_train=False))


def class_embeddings(
    name: str, pretrained: str, class_names: list[str], templates: list[Callable[[str], str]]
) -> ClassEmbeddings:
    """Prompt-ensembled text embeddings by open_clip's own zero-shot classifier builder."""
    model = create(name, pretrained)
    tokenizer = open_clip.get_tokenizer(name)
    with torch.inference_mode():
        columns = open_clip.build_zero_shot_classifier(
            model, tokenizer, class_names, templates, num_classes_per_batch=64
        )
        scale = float(model.logit_scale.exp())
    rows = columns.mT.contiguous().clone()
    return ClassEmbeddings(rows=rows, bias=torch.zeros(len(rows)), scale=scale, cosine=True)
