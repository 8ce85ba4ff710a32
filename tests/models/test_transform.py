"""Pixels are those of open_clip's and timm's own transforms, to the bit, whatever the picture's sides."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lraee.models import vision_ops  # noqa: F401  (before open_clip and timm)
from lraee.models.families import Preprocessing
from lraee.models.transform import transform

import open_clip  # isort: skip
import timm  # isort: skip
from tests import examples

MEAN, STD = (0.48, 0.45, 0.40), (0.27, 0.26, 0.28)
sides = st.integers(1, 90)
sizes = st.tuples(st.integers(8, 40), st.integers(8, 40)) | st.integers(8, 40).map(lambda side: (side, side))


def picture(height: int, width: int) -> Image.Image:
    noise = np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@given(sides, sides, sizes, st.sampled_from(["shortest", "longest", "squash"]), st.sampled_from([0, 255]))
@settings(max_examples=examples(67))
def test_pixels_are_open_clips(height: int, width: int, size: tuple[int, int], resize: str, fill: int) -> None:
    theirs = open_clip.transform.PreprocessCfg(size=size, mean=MEAN, std=STD, resize_mode=resize, fill_color=fill)
    expected = open_clip.transform.image_transform_v2(theirs, is_train=False)
    own = transform(Preprocessing(size, MEAN, STD, "bicubic", resize, fill=fill))
    image = picture(height, width)
    assert torch.equal(own(image), expected(image))


@given(
    sides, sides, sizes, st.sampled_from(["center", "squash", "border"]), st.sampled_from([0.5, 0.875, 0.9, 1.0]),
    st.sampled_from(["bicubic", "bilinear"]),
)  # fmt: skip
@settings(max_examples=examples(67))
def test_pixels_are_timms(
    height: int, width: int, size: tuple[int, int], mode: str, crop: float, interpolation: str
) -> None:
    expected = timm.data.create_transform(
        (3, *size), is_training=False, mean=MEAN, std=STD, interpolation=interpolation, crop_pct=crop, crop_mode=mode
    )
    own = transform(Preprocessing(size, MEAN, STD, interpolation, mode, crop))
    image = picture(height, width)
    assert torch.equal(own(image), expected(image))


@pytest.mark.parametrize("resize", ["shortest", "squash"])
@pytest.mark.parametrize("given_", ["bilinear", "bicubic"])
def test_the_interpolation_that_is_kept_is_the_one_open_clip_takes(
    make_clip: Any, resize: str, given_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lraee.models import open_clip_tower

    clip = make_clip("interpolated", quick_gelu=True, image_size=32)
    settings_ = open_clip.transform.PreprocessCfg(size=(32, 32), interpolation=given_, resize_mode=resize)
    create = open_clip_tower.create

    def created(*arguments: Any) -> Any:
        model = create(*arguments)
        model.visual.preprocess_cfg |= {"interpolation": given_, "resize_mode": resize}
        return model

    monkeypatch.setattr(open_clip_tower, "create", created)
    image = picture(50, 71)
    found = open_clip_tower.load(clip.name, str(clip.weights), 0, 4).transform(image)
    expected = open_clip.transform.image_transform_v2(settings_, is_train=False)(image)
    assert torch.equal(found, expected)
