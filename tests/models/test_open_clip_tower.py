import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from lraee.models.families import FAMILIES
from lraee.models.families.open_clip import OpenClipModel
from lraee.models.open_clip_tower import class_embeddings, create, load, open_clip, tower_of
from lraee.models.tower import ROLES
from lraee.registry import parse

TEMPLATES = ["a photo of a {}", "a {}", "{} on a table"]
NAMES = ["red circle", "teal star", "ox"]


@pytest.mark.parametrize("quick_gelu", [False, True])
@pytest.mark.parametrize(
    "extra", [{}, {"ls_init_value": 0.3}, {"no_ln_pre": True}, {"mlp_ratio": 2.0}, {"patch_dropout": 0.5}]
)
def test_the_tower_gives_what_encode_image_gives(
    make_clip: Any, pixels: torch.Tensor, quick_gelu: bool, extra: dict[str, Any]
) -> None:
    clip = make_clip(f"variant-{quick_gelu}-{next(iter(extra), 'plain')}", quick_gelu, **extra)
    expected = clip.model.encode_image(pixels)
    assert expected.std() > 0.1
    torch.testing.assert_close(tower_of(clip.model)(pixels), expected, rtol=1e-4, atol=1e-5)


def test_quick_gelu_makes_a_difference_that_the_comparison_would_see(make_clip: Any, pixels: torch.Tensor) -> None:
    one, two = (make_clip(f"activation-{quick}", quick).model.encode_image(pixels) for quick in (False, True))
    assert (one - two).abs().max() > 1e-3


def test_the_tower_of_the_embedded_configuration_gives_what_encode_image_gives() -> None:
    settings = OpenClipModel(family="open_clip", name="shapes-clip", pretrained="embedded", templates=["a {}"])
    pixels = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    expected = create("shapes-clip", "embedded", 0).encode_image(pixels)
    torch.testing.assert_close(settings.load().tower(pixels), expected, rtol=1e-4, atol=1e-5)


def test_a_random_vit_b_32_tower_gives_what_encode_image_gives() -> None:
    model = open_clip.create_model("ViT-B-32-quickgelu").eval()
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    tower = tower_of(model)
    torch.testing.assert_close(tower(pixels), model.encode_image(pixels), rtol=1e-3, atol=1e-4)
    sizes = tower.shape
    assert (sizes.depth, sizes.tokens, sizes.width, sizes.hidden) == (12, 50, 768, 3072)
    assert (sizes.patch, sizes.embedding, sizes.projected) == (3 * 32 * 32, 512, True)


def test_the_shape_is_that_of_the_configuration(clip: Any) -> None:
    sizes = tower_of(clip.model).shape
    assert (sizes.depth, sizes.tokens, sizes.width, sizes.hidden) == (4, 1 + 16, 32, 128)
    assert (sizes.patch, sizes.embedding, sizes.projected) == (3 * 8 * 8, 24, True)


def test_the_tower_holds_the_parameters_of_the_vision_tower_once_each(clip: Any) -> None:
    parameters = sum(p.numel() for p in tower_of(clip.model).parameters())
    assert parameters == sum(p.numel() for p in clip.model.visual.parameters())


def test_every_linear_of_the_blocks_is_found(clip: Any) -> None:
    tower = tower_of(clip.model)
    shapes = {"qkv": (96, 32), "proj": (32, 32), "fc1": (128, 32), "fc2": (32, 128)}
    for block in tower.blocks:
        found = {role: block.get_submodule(role) for role in ROLES}
        assert all(isinstance(linear, torch.nn.Linear) for linear in found.values())
        assert {role: tuple(linear.weight.shape) for role, linear in found.items()} == shapes
    source = clip.model.visual.transformer.resblocks[2].attn.in_proj_weight
    assert torch.equal(tower.get_submodule("blocks.2.qkv").weight, source)


def test_class_embeddings_are_the_normalised_mean_of_the_normalised_prompts(clip: Any) -> None:
    classes = class_embeddings(clip.name, str(clip.weights), 0, NAMES, [t.format for t in TEMPLATES])
    tokenizer = open_clip.get_tokenizer(clip.name)
    for name, row in zip(NAMES, classes.rows, strict=True):
        prompts = clip.model.encode_text(tokenizer([t.format(name) for t in TEMPLATES]))
        mean = functional.normalize(prompts, dim=-1).mean(dim=0)
        torch.testing.assert_close(row, mean / mean.norm(), rtol=1e-4, atol=1e-6)
    assert classes.cosine
    assert classes.scale == pytest.approx(float(clip.model.logit_scale.exp()))


def test_zero_shot_logits_are_the_models_own(clip: Any, pixels: torch.Tensor) -> None:
    settings = OpenClipModel(
        family="open_clip", depth=4, name=clip.name, pretrained=str(clip.weights), templates=["a photo of a {}"]
    )
    classes = settings.class_embeddings(NAMES)
    tower = settings.load().tower
    texts = open_clip.get_tokenizer(clip.name)([f"a photo of a {name}" for name in NAMES])
    expected, _ = clip.model.get_logits(pixels, texts)
    torch.testing.assert_close(classes.logits(tower(pixels)), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(classes.logits(tower(pixels)).argmax(dim=1), expected.argmax(dim=1))


def test_many_classes_keep_their_order(clip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lraee.models.open_clip_tower._PROMPTS", 64)  # three batches
    names = [f"thing {number}" for number in range(130)]
    rows = class_embeddings(clip.name, str(clip.weights), 0, names, [str]).rows
    alone = class_embeddings(clip.name, str(clip.weights), 0, names[100:101], [str]).rows
    assert rows.shape == (130, 24)
    torch.testing.assert_close(rows[100:101], alone, rtol=1e-4, atol=1e-6)


def test_the_transform_is_open_clips_own(clip: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    _, _, expected = open_clip.create_model_and_transforms(clip.name)
    assert torch.equal(load(clip.name, str(clip.weights), 0, 4).transform(image), expected(image))


def test_a_wrong_depth_is_refused(clip: Any) -> None:
    with pytest.raises(ValueError, match=r"model\.depth is 12, but tiny-quickgelu has 4 blocks"):
        load(clip.name, str(clip.weights), 0, 12)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="'ViT-Q-99', which open_clip does not know"):
        load("ViT-Q-99", "embedded", 0, 12)


def test_a_missing_weights_file_is_named(clip: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.safetensors, which does not exist"):
        load(clip.name, str(tmp_path / "absent.safetensors"), 0, 4)


def test_embedded_weights_exist_for_the_embedded_model_only(clip: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"tiny-quickgelu\.safetensors"):
        load(clip.name, "embedded", 0, 4)


def test_weights_of_another_model_are_refused(clip: Any, make_clip: Any) -> None:
    wider = make_clip("wider", width=48)
    with pytest.raises(ValueError, match="size mismatch"):
        load(clip.name, str(wider.weights), 0, 4)


def test_a_damaged_weights_file_is_named(clip: Any, tmp_path: Path) -> None:
    (tmp_path / "damaged.safetensors").write_bytes(clip.weights.read_bytes()[:5000])
    with pytest.raises(Exception, match=r"damaged\.safetensors"):
        load(clip.name, str(tmp_path / "damaged.safetensors"), 0, 4)


def test_average_pooling_is_refused(make_clip: Any) -> None:
    with pytest.raises(ValueError, match="pool"):
        tower_of(make_clip("pooled", pool_type="avg").model)


def test_attention_pooling_is_refused(make_clip: Any) -> None:
    with pytest.raises(ValueError, match="pool"):
        tower_of(make_clip("attention-pooled", attentional_pool=True, attn_pooler_heads=2).model)


def test_a_convolutional_tower_is_refused() -> None:
    class Holder:
        visual = torch.nn.Conv2d(3, 4, 1)

    with pytest.raises(ValueError, match="Conv2d"):
        tower_of(Holder())


@pytest.mark.parametrize(
    "flag",
    [
        "final_ln_after_pool",
        "qk_norm",
        "scale_heads",
        "scale_attn_inner",
        "scale_attn",
        "scale_fc",
    ],
)
def test_an_unusual_block_is_rebuilt_faithfully_or_refused(make_clip: Any, pixels: torch.Tensor, flag: str) -> None:
    model = make_clip(f"unusual-{flag}".replace("_", "-"), **{flag: True}).model
    try:
        tower = tower_of(copy.deepcopy(model))
    except ValueError:
        return
    torch.testing.assert_close(tower(pixels), model.visual(pixels), rtol=1e-4, atol=1e-5)


def test_settings_survive_their_plain_form(clip: Any) -> None:
    settings = OpenClipModel(
        family="open_clip", depth=4, name=clip.name, pretrained=str(clip.weights), templates=["a {}", "the {}"]
    )
    assert parse(FAMILIES, "family", settings.model_dump(mode="json")) == settings


def test_the_80_templates_are_open_clips(clip: Any) -> None:
    settings = OpenClipModel(
        family="open_clip", depth=4, name=clip.name, pretrained=str(clip.weights), templates="openai-imagenet"
    )
    rows = settings.class_embeddings(["ox"]).rows
    tokenizer = open_clip.get_tokenizer(clip.name)
    prompts = clip.model.encode_text(tokenizer([t("ox") for t in open_clip.OPENAI_IMAGENET_TEMPLATES]), normalize=True)
    torch.testing.assert_close(rows[0], functional.normalize(prompts.mean(dim=0), dim=0), rtol=1e-4, atol=1e-6)


def test_a_template_without_a_place_for_the_class_is_refused() -> None:
    with pytest.raises(ValueError, match="templates"):
        OpenClipModel(family="open_clip", name="shapes-clip", pretrained="embedded", templates=["a photo"])
