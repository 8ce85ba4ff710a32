"""A model that was written down is read back as the same network, to the bit."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lraee.io import UnreadableFileError
from lraee.models import vision_ops  # noqa: F401  (before timm)
from lraee.models.families import LoadedModel, Preprocessing
from lraee.models.open_clip_tower import load
from lraee.models.stored import read_model, write_model
from lraee.models.timm_tower import tower_of

import timm  # isort: skip

HOW = Preprocessing((32, 32), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bicubic", "center", 0.9)


def random_vit(**settings: Any) -> Any:
    small = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3, "num_classes": 5}
    model = timm.models.vision_transformer.VisionTransformer(**(small | settings)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return tower_of(model)


def same(model: LoadedModel, path: Path) -> None:
    write_model(path, model)
    back = read_model(path)
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for ours, theirs in zip(back.tower.states(pixels), model.tower.states(pixels), strict=True):
            assert torch.equal(ours, theirs)
        assert torch.equal(back.tower(pixels), model.tower(pixels))
    assert back.preprocessing == model.preprocessing
    assert back.tower.shape == model.tower.shape


def test_a_clip(clip: Any, tmp_path: Path) -> None:
    same(load(clip.name, str(clip.weights), 0, 4), tmp_path / "model")


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"init_values": 0.1}, {"pre_norm": True}, {"qkv_bias": False},
        {"act_layer": nn.GELU}, {"act_layer": lambda: nn.GELU(approximate="tanh")},
        {"norm_layer": partial(nn.LayerNorm, eps=1e-3)},
    ],
    ids=["plain", "layer-scale", "norm-before", "no-bias", "gelu", "gelu-tanh", "epsilon"],
)  # fmt: skip
def test_a_vit_of_timm(settings: dict[str, Any], tmp_path: Path) -> None:
    same(LoadedModel(random_vit(**settings), HOW), tmp_path / "model")


def test_an_activation_that_no_description_holds_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the activation ReLU is none of gelu, gelu-tanh, quick-gelu"):
        write_model(tmp_path / "model", LoadedModel(random_vit(act_layer=nn.ReLU), HOW))
    assert not (tmp_path / "model").exists()


def test_a_damaged_file_is_named(clip: Any, tmp_path: Path) -> None:
    write_model(tmp_path / "model", load(clip.name, str(clip.weights), 0, 4))
    (tmp_path / "model").write_bytes((tmp_path / "model").read_bytes()[:-100])
    with pytest.raises(UnreadableFileError, match="model is truncated or damaged"):
        read_model(tmp_path / "model")
