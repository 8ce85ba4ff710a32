"""From a picture to the network's pixels, as open_clip's and timm's own transforms for evaluation do it, to the bit.

Theirs are built of torchvision, whose import takes longer than loading a network; with PIL alone, neither the jobs that
run a stored network nor users of an exported one wait for it.
"""

from collections.abc import Callable
from math import floor

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lraee.models.families import Preprocessing

Size = tuple[int, int]
"""Height and width, px."""


def transform(preprocessing: Preprocessing) -> Callable[[Image.Image], Tensor]:
    """Return what turns an RGB picture into pixels (3, H, W), float32: resized, cut out or padded, normalised."""
    p = preprocessing
    scaled = p.size if p.crop is None else (floor(p.size[0] / p.crop), floor(p.size[1] / p.crop))
    interpolation = Image.Resampling[p.interpolation.upper()]
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (p.mean, p.std))

    def run(image: Image.Image) -> Tensor:
        height, width = _RESIZED[p.resize]((image.height, image.width), scaled)
        centred = _centred(image.resize((width, height), interpolation), p.size, _fill(p))
        channels_last = torch.from_numpy(np.array(centred))
        return channels_last.permute(2, 0, 1).contiguous().float().div_(255.0).sub_(mean).div_(std)

    return run


def _squash(size: Size, target: Size) -> Size:
    return target


def _shortest(size: Size, target: Size) -> Size:
    """The shorter side becomes the target's; torchvision cuts off what the longer one has of a pixel."""
    if target[0] != target[1]:
        return _keeping_ratio(size, min(size[0] / target[0], size[1] / target[1]))
    height, width = (int(target[0] * side / min(size)) for side in size)
    return height, width


def _longest(size: Size, target: Size) -> Size:
    return _keeping_ratio(size, max(size[0] / target[0], size[1] / target[1]))


def _keeping_ratio(size: Size, ratio: float) -> Size:
    return round(size[0] / ratio), round(size[1] / ratio)


_RESIZED: dict[str, Callable[[Size, Size], Size]] = {
    "squash": _squash,
    "shortest": _shortest,  # open_clip's name
    "center": _shortest,  # timm's
    "longest": _longest,
    "border": _longest,
}


def _fill(p: Preprocessing) -> tuple[int, ...]:
    """The colour around a picture that is smaller than the network's input."""
    if p.resize == "border":
        return tuple(round(255 * level) for level in p.mean)
    return (p.fill if p.resize == "longest" else 0,) * 3


def _centred(image: Image.Image, size: Size, fill: tuple[int, ...]) -> Image.Image:
    """Put the middle of a picture in the middle of one of `size`."""
    canvas = Image.new("RGB", (size[1], size[0]), fill)
    canvas.paste(image, (_offset(image.width, size[1]), _offset(image.height, size[0])))
    return canvas


def _offset(side: int, target: int) -> int:
    # Both libraries round a half to the even number where they cut, and down where they pad.
    return (target - side) // 2 if side < target else -round((side - target) / 2.0)
