"""Rebuild an open_clip vision transformer as a Tower, and its text tower's class embeddings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants
from safetensors import SafetensorError
from torch import Tensor

from lraee.models import vision_ops  # noqa: F401  (before open_clip)
from lraee.models.families import LoadedModel, Preprocessing, WeightsKind, is_on_hub, weights_kind
from lraee.models.open_clip_variants import Configuration, reason_against, trained_with_quick_gelu
from lraee.models.shape import TowerShape
from lraee.models.tower import Block, ClassEmbeddings, Head, Stem, Tower, check_rebuilt, linear_from
from lraee.models.weights import first_fault, random_from, read_weights

import open_clip  # isort: skip
import timm  # isort: skip

__all__ = ["class_embeddings", "configuration", "create", "english_names", "load", "open_clip", "tower_of"]

_PROMPTS = 512
"""About how many prompts the text tower reads at once: memory does not grow with classes or templates."""
EMBEDDED = Path(__file__).with_name("embedded")
open_clip.add_model_config(EMBEDDED)


def create(name: str, pretrained: str, weight_seed: int) -> Any:
    """Create an open_clip model with weights in FP32, in evaluation mode.

    ValueError where open_clip does not know the model or its weights, or the tower cannot be left early, by name and
    with the reason; FileNotFoundError where weights are neither here nor to be fetched. No code in a file is executed.
    """
    config = configuration(name)
    reason = reason_against(config)
    if reason:
        raise ValueError(
            f"model.name is {name!r}: {reason}; only open_clip's own ViTs that read their embedding off [CLS] are "
            "supported"
        )
    kind = weights_kind(pretrained)
    if is_on_hub(name) and kind not in ("hub", "random"):
        raise ValueError(f"model.pretrained is {pretrained!r}, but weights of {name} are either 'hub' or 'random'")
    if kind == "random":
        with random_from(weight_seed):
            return open_clip.create_model(name, load_weights=False).eval()
    path, options = _PLACES[kind](name, config, pretrained)
    return _filled(name, path, options)


def configuration(name: str) -> Configuration:
    """An architecture's configuration, of open_clip, this repository or (`hf-hub:...`) the hub or its cache."""
    if is_on_hub(name):
        try:
            return dict(open_clip.get_model_config(name))
        except (OSError, ValueError) as error:
            raise FileNotFoundError(f"model.name is {name!r}, but its open_clip_config.json {_ABSENT}") from error
    if name not in open_clip.list_models():
        raise ValueError(f"model.name is {name!r}, which open_clip does not know; open_clip.list_models() names them")
    return dict(open_clip.get_model_config(name))


_ABSENT = (
    f"is not in the hub's cache ({constants.HF_HUB_CACHE}; HF_HOME moves it) and could not be fetched"
    f"{' (HF_HUB_OFFLINE is set)' if constants.HF_HUB_OFFLINE else ''}: run once with a network, copy the cache of a "
    "machine that has one, or let model.pretrained name a weights file"
)

Place = tuple[Path, dict[str, Any]]
"""The file that weights are read from, and how open_clip is told to take it."""


def _of_file(name: str, config: Configuration, pretrained: str) -> Place:
    return Path(pretrained), {"pretrained": pretrained}


def _of_repository(name: str, config: Configuration, pretrained: str) -> Place:
    path = EMBEDDED / f"{name}.safetensors"
    return path, {"pretrained": str(path)}


def _of_tag(name: str, config: Configuration, tag: str) -> Place:
    of_tag = open_clip.get_pretrained_cfg(name, tag)
    if not of_tag:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise ValueError(
            f"model.pretrained is {tag!r}: neither a tag of {name} ({tags}) nor a weights file (.safetensors, .pt, "
            ".pth, .bin), 'embedded' or 'random'"
        )
    quick = trained_with_quick_gelu(name, config, tag, of_tag)
    try:
        path = Path(open_clip.download_pretrained(of_tag))
    except (OSError, RuntimeError) as error:
        where = of_tag.get("hf_hub") or of_tag.get("url")
        raise FileNotFoundError(f"model.pretrained is {tag!r}, but its file for {name} ({where}) {_ABSENT}") from error
    return path, {"pretrained": tag, "force_quick_gelu": quick}


def _of_hub(name: str, config: Configuration, pretrained: str) -> Place:
    if not is_on_hub(name):
        raise ValueError(f"model.pretrained is 'hub', but model.name {name!r} is no 'hf-hub:...'")
    try:
        path = Path(open_clip.pretrained.download_pretrained_from_hf(name.removeprefix("hf-hub:")))
    except OSError as error:
        raise FileNotFoundError(f"model.name is {name!r}, but its weights file {_ABSENT}") from error
    # Without this open_clip would go on with random weights where it finds none.
    return path, {"require_pretrained": True}


_PLACES: dict[WeightsKind, Callable[[str, Configuration, str], Place]] = {
    "file": _of_file,
    "embedded": _of_repository,
    "tag": _of_tag,
    "hub": _of_hub,
}


def _filled(name: str, path: Path, options: dict[str, Any]) -> Any:
    """Let open_clip load a file that has been read once without executing anything, and hold it to the file's shapes.

    open_clip falls back on torch.load without a restriction where the restricted one meets an error of another kind,
    and interpolates position embeddings of another image size without a word.
    """
    try:
        sizes = {key: tensor.numel() for key, tensor in read_weights(path, "model.pretrained").items()}
        model = open_clip.create_model(name, weights_only=True, **options).eval()
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"model.pretrained {path} does not hold the weights of {name}: {first_fault(error)}"
        ) from error
    for key, tensor in model.state_dict().items():
        if sizes.get(key, tensor.numel()) != tensor.numel():
            raise ValueError(
                f"model.pretrained {path} does not hold the weights of {name}: size mismatch for {key}, "
                f"{sizes[key]:,} numbers where the model has {tensor.numel():,}"
            )
    return model


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
    stem = Stem(visual.conv1, visual.class_embedding, visual.positional_embedding, visual.ln_pre)
    tower = Tower(stem, blocks, Head(visual.ln_post, visual.proj), shape).eval().requires_grad_(False)
    check_rebuilt(tower, model.encode_image, visual.image_size)
    return tower


def load(name: str, pretrained: str, weight_seed: int, depth: int) -> LoadedModel:
    """Load an open_clip model's vision tower; ValueError where it has another depth than the settings say."""
    model = create(name, pretrained, weight_seed)
    tower = tower_of(model)
    if tower.shape.depth != depth:
        raise ValueError(f"model.depth is {depth}, but {name} has {tower.shape.depth} blocks")
    settings = open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg)
    height, width = model.visual.image_size
    # open_clip has no other than these two, and resizes to what is not square, but for squashing, by the second alone.
    bilinear = settings.interpolation == "bilinear" and (height == width or settings.resize_mode == "squash")
    preprocessing = Preprocessing(
        (height, width), tuple(settings.mean), tuple(settings.std), "bilinear" if bilinear else "bicubic",
        settings.resize_mode, fill=settings.fill_color,
    )  # fmt: skip
    return LoadedModel(tower, preprocessing)


def english_names(wnids: list[str]) -> list[str]:
    """open_clip's English names of classes of ImageNet-1K given by WordNet id; ValueError names an unknown id."""
    order = timm.data.ImageNetInfo("imagenet-1k").label_names()
    names = dict(zip(order, open_clip.IMAGENET_CLASSNAMES, strict=True))
    unknown = [wnid for wnid in wnids if wnid not in names]
    if unknown:
        raise ValueError(
            f'model.class_names is "imagenet", but class {unknown[0]!r} ({len(unknown)} in all) is not the WordNet id '
            "of a class of ImageNet-1K"
        )
    return [names[wnid] for wnid in wnids]


class _UpToTheEnd:
    """A CLIP that reads prompts up to the longest one's end: the same embeddings in a fraction of the time.

    Attention is causal and the embedding is read off the end-of-text token: the padding behind it has no effect.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._positions, self._mask = model.positional_embedding.data, model.attn_mask

    def encode_text(self, tokens: Tensor, normalize: bool) -> Tensor:
        used = int(tokens.argmax(dim=1).max()) + 1
        self._model.positional_embedding.data = self._positions[:used]
        self._model.attn_mask = self._mask[:used, :used]
        return self._model.encode_text(tokens[:, :used], normalize=normalize)


def class_embeddings(
    name: str, pretrained: str, weight_seed: int, class_names: list[str], templates: list[Callable[[str], str]]
) -> ClassEmbeddings:
    """Prompt-ensembled text embeddings by open_clip's own zero-shot classifier builder."""
    model = create(name, pretrained, weight_seed)
    tokenizer = open_clip.get_tokenizer(name)
    if type(model) is open_clip.CLIP and model.attn_mask is not None and model.text_pool_type == "argmax":
        encoder: Any = _UpToTheEnd(model)
    else:
        encoder = model
    at_once = max(1, _PROMPTS // len(templates))
    with torch.inference_mode():
        columns = open_clip.build_zero_shot_classifier(
            encoder, tokenizer, class_names, templates, num_classes_per_batch=at_once, use_tqdm=True
        )
        scale = float(model.logit_scale.exp())
    rows = columns.mT.contiguous().clone()
    return ClassEmbeddings(rows=rows, bias=torch.zeros(len(rows)), scale=scale, cosine=True)
