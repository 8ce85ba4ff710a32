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
    found = []
    z = None
    for layer, z in enumerate(tower.states(pixels)):
        if layer:
            found.append(at_layer(z))
    cls, mean, sav = (torch.stack(layers, dim=1) for layers in zip(*found, strict=True))
    return cls, mean, sav, tower.head(z)


def at_layer(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features of a state z_L (B, 1 + N, d): cls and mean (B, d) float16, sav (B,) float32, as in LayerFeatures."""
    patches = z[:, 1:]
    centre = patches.mean(dim=1)
    sav = (patches - centre[:, None]).square_().sum(dim=2).mean(dim=1)
    return z[:, 0].half(), centre.half(), sav
