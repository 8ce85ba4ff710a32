"""Rebuild a timm vision transformer as a Tower, and its classifier rows as class embeddings."""

from pathlib import Path
from typing import Any

from torch import Tensor

from lraee.data.sources import read_names
from lraee.models import vision_ops  # noqa: F401  (before timm)
from lraee.models.families import LoadedModel, Preprocessing
from lraee.models.shape import TowerShape
from lraee.models.tower import Block, ClassEmbeddings, Head, Stem, Tower, check_rebuilt
from lraee.models.weights import load_strictly, random_from

import timm  # isort: skip

_TimmBlock = timm.models.vision_transformer.Block


def create(name: str, weights: Path | None, weight_seed: int) -> Any:
    """Create a timm vision transformer in evaluation mode, with weights from a file or, without one, from a seed."""
    if not timm.is_model(name):
        raise ValueError(f"model.name is {name!r}, which timm does not know; timm.list_models() names them")
    with random_from(weight_seed):
        model = timm.create_model(name)
    if weights is not None:
        load_strictly(model, weights, "model.weights", name)
    return model.eval()


def _block(source: Any) -> Block:
    return Block(
        norm1=source.norm1,
        qkv=source.attn.qkv,
        proj=source.attn.proj,
        norm2=source.norm2,
        fc1=source.mlp.fc1,
        act=source.mlp.act,
        fc2=source.mlp.fc2,
        heads=source.attn.num_heads,
        scale1=source.ls1,
        scale2=source.ls2,
    )


def tower_of(model: Any) -> Tower:
    """Rebuild a timm model; ValueError where it is not a plain ViT with one [CLS] token and [CLS] pooling."""
    if not isinstance(model, timm.models.vision_transformer.VisionTransformer):
        raise ValueError(f"{type(model).__name__} is not timm's VisionTransformer, the only one supported")
    if type(model.patch_embed) is not timm.layers.PatchEmbed or any(
        type(b) is not _TimmBlock or type(b.mlp) is not timm.layers.Mlp for b in model.blocks
    ):
        raise ValueError(f"{type(model).__name__} has another stem or other blocks than a plain ViT")
    if model.global_pool != "token" or model.num_prefix_tokens != 1 or model.no_embed_class:
        raise ValueError("only a timm ViT with one [CLS] token, a position for it, and [CLS] pooling is supported")
    blocks = [_block(source) for source in model.blocks]
    shape = TowerShape(
        depth=len(blocks),
        tokens=model.pos_embed.shape[1],
        width=model.embed_dim,
        hidden=model.blocks[0].mlp.fc1.out_features,
        patch=model.patch_embed.proj.weight[0].numel(),
        embedding=model.embed_dim,
        projected=False,
    )
    stem = Stem(model.patch_embed.proj, model.cls_token[0, 0], model.pos_embed[0], model.norm_pre)
    tower = Tower(stem, blocks, Head(model.norm, None), shape).eval().requires_grad_(False)

    def original(pixels: Tensor) -> Tensor:
        return model.forward_head(model.forward_features(pixels), pre_logits=True)

    check_rebuilt(tower, original, model.patch_embed.img_size)
    return tower


def load(name: str, weights: Path | None, weight_seed: int, depth: int, crop: float | None) -> LoadedModel:
    """Load a timm model's tower; ValueError where it has another depth than the settings say."""
    model = create(name, weights, weight_seed)
    tower = tower_of(model)
    if tower.shape.depth != depth:
        raise ValueError(f"model.depth is {depth}, but {name} has {tower.shape.depth} blocks")
    own = timm.data.resolve_model_data_config(model)
    data = own if crop is None else own | {"crop_pct": crop}
    _, height, width = data["input_size"]
    preprocessing = Preprocessing(
        (height, width), data["mean"], data["std"], data["interpolation"], data["crop_mode"], data["crop_pct"]
    )
    return LoadedModel(tower, preprocessing)


def class_embeddings(
    name: str, weights: Path | None, weight_seed: int, outputs: Path, class_names: list[str]
) -> ClassEmbeddings:
    """The classifier's rows of the classes that are present; ValueError names a class that it does not have."""
    classifier = create(name, weights, weight_seed).head
    order = read_names(outputs)
    if len(order) != classifier.out_features:
        raise ValueError(f"model.outputs {outputs} lists {len(order)} classes; {name} has {classifier.out_features}")
    missing = sorted(set(class_names) - set(order))
    if missing:
        raise ValueError(f"class {missing[0]!r} ({len(missing)} in all) is not among the outputs listed in {outputs}")
    index = [order.index(wnid) for wnid in class_names]
    return ClassEmbeddings(
        rows=classifier.weight.detach()[index].clone(),
        bias=classifier.bias.detach()[index].clone(),
        scale=1.0,
        cosine=False,
    )
