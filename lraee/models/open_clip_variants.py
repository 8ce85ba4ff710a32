"""Which architectures of open_clip have a tower that can be left early at [CLS], read off their configuration alone.

Free of torch: nothing is built or fetched to refuse a model by name.
"""

from collections.abc import Callable, Mapping
from typing import Any

Configuration = Mapping[str, Any]
"""An architecture as open_clip writes it in JSON: vision_cfg, text_cfg, and what belongs to both."""

_CUSTOM_BLOCKS = ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")


def _timm(config: Configuration) -> str | None:
    vision = config["vision_cfg"]
    if "timm_model_name" not in vision:
        return None
    pooling = {
        "map": "pools by attention and has no [CLS] token",
        "token": "has a [CLS] token, but not the stem, blocks and projection of open_clip's ViT",
    }.get(vision.get("timm_pool"), "has no [CLS] token that its embedding is read from")
    return f"its vision tower is timm's {vision['timm_model_name']}, which {pooling}"


def _resnet(config: Configuration) -> str | None:
    convolutional = isinstance(config["vision_cfg"].get("layers"), list | tuple)
    return (
        "its vision tower is a ResNet, which has neither transformer blocks nor a [CLS] token"
        if convolutional
        else None
    )


def _captioner(config: Configuration) -> str | None:
    return "it is a CoCa, whose image encoder also feeds a caption decoder" if "multimodal_cfg" in config else None


def _pooling(config: Configuration) -> str | None:
    vision = config["vision_cfg"]
    if vision.get("attentional_pool"):
        return "its vision tower pools by attention and does not read its embedding off [CLS]"
    pool = vision.get("pool_type", "tok")
    if pool != "tok":
        return f"its vision tower pools by {pool!r} and never reads its [CLS] token, so there is no [CLS] to leave with"
    return None


def _blocks(config: Configuration) -> str | None:
    vision = config["vision_cfg"]
    special = [name for name in _CUSTOM_BLOCKS if vision.get(name)]
    if special or vision.get("block_type") not in (None, "default"):
        return f"its vision tower has custom blocks ({', '.join(special) or vision['block_type']})"
    return None


def _text(config: Configuration) -> str | None:
    text = config["text_cfg"]
    foreign = text.get("hf_model_name") or text.get("hf_tokenizer_name")
    if not foreign:
        return None
    return f"its text tower needs {foreign} of Hugging Face's transformers, which is not a part of this project"


_REASONS: tuple[Callable[[Configuration], str | None], ...] = (_timm, _resnet, _captioner, _pooling, _blocks, _text)
"""In the order of what a reader should hear first."""


def reason_against(config: Configuration) -> str | None:
    """Why an architecture is not supported, as a clause; None where it is a ViT that reads its embedding off [CLS]."""
    return next((found for reason in _REASONS if (found := reason(config))), None)


def trained_with_quick_gelu(name: str, config: Configuration, tag: str, of_tag: Mapping[str, Any]) -> bool:
    """The activation that a pretrained tag was trained with: true for QuickGELU, whatever the model's name says.

    open_clip only warns where the two differ. ValueError where the name asks for QuickGELU and the tag was trained
    without: there the name is plainly the wrong one.
    """
    trained = bool(of_tag.get("quick_gelu"))
    if config.get("quick_gelu") and not trained:
        raise ValueError(
            f"model.name is {name!r}, but the weights {tag!r} were trained without QuickGELU; use the architecture "
            f"of that name without QuickGELU"
        )
    return trained
