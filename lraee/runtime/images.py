"""What users hand in as images, brought to the network's pixels."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from torch import Tensor

from lraee.data.images import read_file

Image: TypeAlias = str | Path | PillowImage.Image | NDArray[np.uint8] | Tensor
"""A file, a picture, an array (H, W, 3) of bytes, or pixels (3, H, W) that are preprocessed already."""


BATCH = 32
"""Images that run together, unless a tensor holds more or fewer."""


def pixel_batches(
    images: Image | Iterable[Image], transform: Callable[[PillowImage.Image], Tensor], size: tuple[int, int]
) -> Iterator[Tensor]:
    """Preprocess images, one or several, a batch at a time: (B, 3, H, W) float32. A tensor (N, 3, H, W) is one batch.

    ValueError or TypeError name an image that is of no use; UnreadableImageError, a ValueError, a damaged file.
    """
    if isinstance(images, Tensor) and images.ndim == 4:
        yield from [torch.stack([_preprocessed(image, size) for image in images])] if len(images) else []
        return
    alone = isinstance(images, str | Path | PillowImage.Image | np.ndarray | Tensor)
    listed: Iterator[Any] = iter([images] if alone else images)  # type: ignore[arg-type]
    while part := list(islice(listed, BATCH)):
        yield torch.stack([_preprocessed(i, size) if isinstance(i, Tensor) else transform(_picture(i)) for i in part])


def _preprocessed(image: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(image.shape) != (3, *size) or not image.is_floating_point():
        raise ValueError(
            f"a tensor must hold preprocessed pixels (3, {size[0]}, {size[1]}) in floating point, but this one is "
            f"{image.dtype} {tuple(image.shape)}; hand in a picture or an array of bytes to have it preprocessed"
        )
    return image.float()


def _picture(image: Any) -> PillowImage.Image:
    if isinstance(image, str | Path):
        return read_file(Path(image)).image
    if isinstance(image, PillowImage.Image):
        return image.convert("RGB")
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"an array must be (H, W, 3) of uint8, but this one is {image.shape} of {image.dtype}")
        return PillowImage.fromarray(image)
    raise TypeError(f"an image is a path, a PIL image, an array or a tensor, but this is a {type(image).__name__}")
