"""Every architecture and every pretrained tag that open_clip lists: rebuilt exactly, or refused with the reason."""

from typing import Any

import pytest
import torch

from lraee.models.open_clip_tower import configuration, create, open_clip, tower_of
from lraee.models.open_clip_variants import reason_against, trained_with_quick_gelu
from lraee.models.weights import random_from

NAMES = [name for name in open_clip.list_models() if not name.startswith(("shapes-clip", "tiny", "variant"))]
SUPPORTED = {
    *(f"ViT-{size}-{patch}{alt}" for size in "SM" for patch in (16, 32) for alt in ("", "-alt")),
    *("ViT-B-32", "ViT-B-32-quickgelu", "ViT-B-32-256", "ViT-B-32-plus-256"),
    *("ViT-B-16", "ViT-B-16-quickgelu", "ViT-B-16-plus", "ViT-B-16-plus-240"),
    *("ViT-L-14", "ViT-L-14-quickgelu", "ViT-L-14-280", "ViT-L-14-336", "ViT-L-14-336-quickgelu"),
    *("ViT-L-16", "ViT-L-16-320", "ViT-H-16", "ViT-H-14", "ViT-H-14-quickgelu", "ViT-H-14-378"),
    *("ViT-H-14-378-quickgelu", "ViT-g-14", "ViT-bigG-14", "ViT-bigG-14-quickgelu", "ViT-e-14"),
}
"""Written down, so that another release of open_clip cannot change it unseen."""


class _Vision:
    """An architecture's vision tower alone, with noise on every parameter."""

    def __init__(self, name: str, **changed: Any) -> None:
        config = configuration(name)
        self.settings = dict(config["vision_cfg"]) | changed
        with random_from(0), torch.no_grad():
            quick = bool(config.get("quick_gelu"))
            self.visual = open_clip.model._build_vision_tower(config["embed_dim"], self.settings, quick).eval()
            for parameter in self.visual.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.visual(pixels)


def _check(model: _Vision) -> None:
    """The rebuilt tower gives what the original gives, and has the sizes of the configuration."""
    pixels = torch.randn(1, 3, *model.visual.image_size, generator=torch.Generator().manual_seed(2))
    tower, expected = tower_of(model), model.encode_image(pixels)
    assert expected.std() > 0.01
    torch.testing.assert_close(tower(pixels), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    side, patch = model.settings["image_size"], model.settings["patch_size"]
    sizes = (tower.shape.depth, tower.shape.width, tower.shape.tokens)
    assert sizes == (model.settings["layers"], model.settings["width"], (side // patch) ** 2 + 1)


def test_what_is_supported_is_written_down() -> None:
    assert {name for name in NAMES if reason_against(configuration(name)) is None} == SUPPORTED


@pytest.mark.parametrize("name", ["ViT-S-32-alt", "ViT-M-16-alt"])
@torch.inference_mode()
def test_a_small_architecture_is_rebuilt_exactly_in_full(name: str) -> None:
    _check(_Vision(name))


@pytest.mark.parametrize("name", sorted(SUPPORTED))
@torch.inference_mode()
def test_a_supported_architecture_is_rebuilt_exactly(name: str) -> None:
    # All that the configuration says but for the sizes, which change no operation: 2 blocks, 2 heads, 3 x 3 patches.
    vision = configuration(name)["vision_cfg"]
    heads = {"width": 2 * vision.get("head_width", 64)}
    model = _Vision(name, layers=2, image_size=3 * vision["patch_size"], **heads)
    _check(model)
    act = type(tower_of(model).blocks[0].act).__name__
    assert (act == "QuickGELU") == name.endswith("quickgelu")


@pytest.mark.parametrize("name", sorted(set(NAMES) - SUPPORTED))
def test_any_other_architecture_is_refused_by_name_with_the_reason(name: str) -> None:
    with pytest.raises(ValueError, match=r"model\.name is") as caught:
        create(name, "random", 0)
    message = str(caught.value)
    assert message.startswith(f"model.name is {name!r}: it")
    assert len(message) < 260
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ViT-B-16-SigLIP", "timm's vit_base_patch16_siglip_224, which pools by attention and has no [CLS] token"),
        (
            "EVA02-L-14",
            "timm's eva02_large_patch14_clip_224, which has a [CLS] token, but not the stem, blocks and projection",
        ),
        ("convnext_base_w", "timm's convnext_base, which has no [CLS] token"),
        ("RN50", "a ResNet"),
        ("coca_ViT-B-32", "it is a CoCa"),
        ("ViT-L-14-CLIPA", "pools by 'avg' and never reads its [CLS] token"),
        ("xlm-roberta-base-ViT-B-32", "its text tower needs xlm-roberta-base"),
    ],
)
def test_the_reason_is_the_right_one(name: str, told: str) -> None:
    reason = reason_against(configuration(name))
    assert reason is not None
    assert told in reason


@pytest.mark.parametrize("vision", [{"attentional_pool": True}, {"qk_norm": True}, {"block_type": "custom"}])
def test_what_no_listed_architecture_has_is_refused_too(vision: dict[str, Any]) -> None:
    config = {"vision_cfg": {"layers": 12} | vision, "text_cfg": {}}
    assert reason_against(config)
    assert reason_against({"vision_cfg": {"layers": 12}, "text_cfg": {}}) is None


@pytest.mark.parametrize(("name", "tag"), open_clip.list_pretrained())
def test_the_activation_is_that_of_the_tag(name: str, tag: str) -> None:
    config, of_tag = configuration(name), open_clip.get_pretrained_cfg(name, tag)
    try:
        chosen = trained_with_quick_gelu(name, config, tag, of_tag)
    except ValueError:
        assert config["quick_gelu"]
        assert not of_tag.get("quick_gelu")
        return
    assert chosen == bool(of_tag.get("quick_gelu"))


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", "ViT-B-32-quickgelu"])
def test_openais_weights_always_get_quick_gelu(name: str) -> None:
    assert trained_with_quick_gelu(name, configuration(name), "openai", open_clip.get_pretrained_cfg(name, "openai"))


def test_a_name_with_quick_gelu_and_a_tag_without_are_refused() -> None:
    name, tag = "roberta-ViT-B-32", "laion2b_s12b_b32k"
    with pytest.raises(ValueError, match="trained without QuickGELU"):
        trained_with_quick_gelu(name, configuration(name), tag, open_clip.get_pretrained_cfg(name, tag))


def test_a_tag_of_the_name_without_quick_gelu_is_no_tag_of_the_name_with_it() -> None:
    with pytest.raises(ValueError, match=r"'laion2b_s34b_b79k': neither a tag of ViT-B-32-quickgelu \(openai, "):
        create("ViT-B-32-quickgelu", "laion2b_s34b_b79k", 0)
