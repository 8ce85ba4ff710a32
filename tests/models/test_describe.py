import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from lraee.models.describe import describe
from lraee.models.families.open_clip import OpenClipModel
from lraee.models.families.timm import TimmModel
from lraee.models.shape import TowerShape
from lraee.models.timm_tower import create
from lraee.models.weights import sha256_of


def _clip(name: str, pretrained: str, **changed: Any) -> OpenClipModel:
    plain = {"family": "open_clip", "depth": 4, "name": name, "pretrained": pretrained, "templates": ["a {}"]}
    return OpenClipModel.model_validate(plain | changed)


def test_a_clip_is_described(clip: Any) -> None:
    settings = _clip(clip.name, str(clip.weights))
    model = settings.load()
    found = json.loads(json.dumps(describe(settings, model)))
    assert found.pop("sha256") == sha256_of(model.tower)
    assert TowerShape(**found.pop("shape")) == model.tower.shape
    assert found == {
        "name": "tiny-quickgelu",
        "family": "open_clip",
        "weights": f"file {clip.weights}",
        "random_weights": False,
        "parameters": sum(p.numel() for p in clip.model.visual.parameters()),
        "activation": "QuickGELU",
        "preprocessing": {
            "size": [32, 32],
            "mean": [0.48145466, 0.4578275, 0.40821073],
            "std": [0.26862954, 0.26130258, 0.27577711],
            "interpolation": "bicubic",
            "resize": "shortest",
            "crop": None,
            "fill": 0,
        },
    }


def test_random_weights_are_called_random(clip: Any) -> None:
    settings = _clip(clip.name, "random", weight_seed=4)
    found = describe(settings, settings.load())
    assert found["random_weights"]
    assert found["weights"] == "random, seed 4"
    assert found["sha256"] == describe(settings, settings.load())["sha256"]
    other = _clip(clip.name, "random", weight_seed=5)
    assert found["sha256"] != describe(other, other.load())["sha256"]


def test_a_classifier_is_described(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    save_file(create("vit_tiny_patch16_224", None, 0).state_dict(), weights)
    settings = TimmModel(
        family="timm", name="vit_tiny_patch16_224", weights=weights, outputs=tmp_path / "outputs.txt", crop=0.9
    )
    found = describe(settings, settings.load())
    assert found["weights"] == f"file {weights}"
    assert found["activation"] == "GELU"
    assert found["preprocessing"] == {
        "size": (224, 224),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "interpolation": "bicubic",
        "resize": "center",
        "crop": 0.9,
        "fill": 0,
    }
    # The 1,000-way classifier is no part of the tower.
    assert found["parameters"] == 5_717_416 - 192 * 1000 - 1000
    random = settings.model_copy(update={"weights": "random"})
    assert describe(random, random.load())["sha256"] == found["sha256"]


@pytest.mark.parametrize(
    ("name", "pretrained", "told"),
    [
        ("ViT-L-14", "openai", "tag openai"),
        ("shapes-clip", "embedded", "embedded in this repository"),
        ("hf-hub:laion/some-clip", "hub", "hub repository laion/some-clip"),
    ],
)
def test_where_weights_come_from(name: str, pretrained: str, told: str) -> None:
    settings = _clip(name, pretrained)
    assert settings.weights_source == told
    assert not settings.random_weights
