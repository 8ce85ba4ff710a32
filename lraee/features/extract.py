"""Per-layer features: one forward pass an image and precision gives all of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lraee.models.tower import Tower


@dataclass(frozen=True)
class LayerFeatures:
    """Features of B images at layers 1..L (axis 1).

    cls and mean: (B, L, d) float16, the [CLS] token and the mean of the patch tokens of z_L. sav: (B, L) float32, the
    spatial activation variance (1/N) sum_i ||z_i - mean||^2 over patch tokens. final: (B, e) float32, the embedding.
    """

    cls: Tensor
    mean: Tensor
    sav: Tensor
    final: Tensor


@torch.inference_mode()
def extract(tower: Tower, pixels: Tensor) -> LayerFeatures:
    """Run the tower once over pixels (B, 3, H, W), wherever it is; the features come back to the CPU.

    FloatingPointError where an activation does not fit float16.
    """
    parts = [_of_part(tower, part) for part in pixels.split(tower.at_once(len(pixels)))]
    features = LayerFeatures(*(torch.cat(tensors).cpu() for tensors in zip(*parts, strict=True)))
    if not (features.cls.isfinite().all() and features.mean.isfinite().all() and features.final.isfinite().all()):
        raise FloatingPointError("an activation is not finite, or too large for the feature store's float16")
    return features


def _of_part(tower: Tower, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    cls, mean, sav = [], [], []
    z = None
    for layer, z in enumerate(tower.states(pixels)):
        if layer == 0:
            continue
        patches = z[:, 1:]
        centre = patches.mean(dim=1)
        cls.append(z[:, 0].half())
        mean.append(centre.half())
        sav.append((patches - centre[:, None]).square_().sum(dim=2).mean(dim=1))
    return torch.stack(cls, 1), torch.stack(mean, 1), torch.stack(sav, 1), tower.head(z)
