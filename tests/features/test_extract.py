import copy
from typing import Any

import numpy as np
import pytest
import torch

from lraee.features.extract import LayerFeatures, extract


@pytest.fixture
def by_open_clip(clip: Any, pixels: torch.Tensor) -> dict[str, Any]:
    visual = copy.deepcopy(clip.model.visual)
    out = visual.forward_intermediates(pixels, output_fmt="NLC", output_extra_tokens=True)
    return {
        "cls": np.stack([z[:, 0].numpy() for z in out["image_intermediates_prefix"]], axis=1),
        "patches": np.stack([z.numpy() for z in out["image_intermediates"]], axis=1),
        "final": out["image_features"].numpy(),
    }


def _close_in_half(found: torch.Tensor, expected: np.ndarray) -> None:
    assert found.dtype == torch.float16
    np.testing.assert_allclose(found.float().numpy(), expected, rtol=2e-3, atol=1e-4)


def test_cls_of_every_layer_is_open_clips(tower: Any, pixels: torch.Tensor, by_open_clip: dict[str, Any]) -> None:
    _close_in_half(extract(tower, pixels).cls, by_open_clip["cls"])


def test_mean_of_every_layer_is_that_of_open_clips_patches(
    tower: Any, pixels: torch.Tensor, by_open_clip: dict[str, Any]
) -> None:
    _close_in_half(extract(tower, pixels).mean, by_open_clip["patches"].mean(axis=2))


def test_sav_is_the_mean_squared_distance_of_the_patches_to_their_mean(
    tower: Any, pixels: torch.Tensor, by_open_clip: dict[str, Any]
) -> None:
    # The summed variance over features, by numpy.
    expected = by_open_clip["patches"].var(axis=2).sum(axis=2)
    found = extract(tower, pixels).sav
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


def test_final_is_encode_image(clip: Any, tower: Any, pixels: torch.Tensor) -> None:
    found = extract(tower, pixels).final
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, clip.model.encode_image(pixels), rtol=1e-4, atol=1e-5)


def test_shapes_are_those_of_the_images_and_layers(tower: Any, pixels: torch.Tensor) -> None:
    found = extract(tower, pixels[:3])
    assert found.cls.shape == found.mean.shape == (3, 4, 32)
    assert found.sav.shape == (3, 4)
    assert found.final.shape == (3, 24)


@pytest.mark.parametrize("size", [1, 3])
def test_the_batch_size_does_not_change_the_features_beyond_rounding(
    tower: Any, pixels: torch.Tensor, size: int
) -> None:
    whole = extract(tower, pixels)
    parts = [extract(tower, part) for part in pixels.split(size)]
    for name in LayerFeatures.__annotations__:
        joined = torch.cat([getattr(part, name) for part in parts]).float()
        torch.testing.assert_close(joined, getattr(whole, name).float(), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("images", [1, 3, 8])
def test_images_go_through_in_parts_and_come_back_in_order(
    tower: Any, pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    whole, seen = extract(tower, pixels), []
    values = tower.shape.tokens * tower.shape.hidden
    monkeypatch.setattr("lraee.models.tower._CPU_VALUES", values * images + 5)
    tower.stem.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    parts = extract(tower, pixels)
    assert seen == [len(part) for part in pixels.split(images)]
    for name in LayerFeatures.__annotations__:
        torch.testing.assert_close(getattr(parts, name).float(), getattr(whole, name).float(), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("value", [70_000.0, -70_000.0, float("nan"), float("inf")])
def test_an_activation_beyond_float16_is_an_error(tower: Any, pixels: torch.Tensor, value: float) -> None:
    tower.blocks[2].fc2.bias.data[5] = value
    with pytest.raises(FloatingPointError, match="float16"):
        extract(tower, pixels)


@pytest.mark.parametrize("tokens", [slice(0, 1), slice(1, None)], ids=["cls", "patches"])
@pytest.mark.parametrize("layer", [0, 3])
def test_an_activation_beyond_float16_in_some_tokens_is_an_error(
    tower: Any, pixels: torch.Tensor, tokens: slice, layer: int
) -> None:
    raised = torch.zeros(17, 32)
    raised[tokens, 5] = 70_000.0
    tower.blocks[layer].register_forward_hook(lambda module, inputs, output: output + raised)
    for block in tower.blocks[layer + 1 :]:
        block.register_forward_hook(lambda module, inputs, output: output - raised)
    with pytest.raises(FloatingPointError, match="float16"):
        extract(tower, pixels)


def test_an_embedding_that_is_not_finite_is_an_error(tower: Any, pixels: torch.Tensor) -> None:
    tower.head.projection.data[:, 3] = float("inf")
    with pytest.raises(FloatingPointError):
        extract(tower, pixels)


def test_an_activation_at_the_end_of_float16_is_none(tower: Any, pixels: torch.Tensor) -> None:
    tower.blocks[3].fc2.bias.data[5] = 65_000.0
    assert extract(tower, pixels).cls[:, 3, 5].float() == pytest.approx(65_000.0, abs=200.0)
