"""A block's run with everything seen that a quantizer rounds."""

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor

from lraee.models.tower import Block

Site = Literal["qkv", "q", "k", "softmax", "v", "proj", "fc1", "fc2"]
"""Where activations are rounded: the inputs of the Linears, (B, T, in), and the factors of attention's two products,
(B, heads, T, d), for `softmax` (B, heads, T, T)."""

NORM_SITES: tuple[Site, ...] = ("qkv", "fc1")
"""Where a LayerNorm's output is read."""

PRODUCT_SITES: tuple[Site, ...] = ("q", "k", "softmax", "v")


def trace(block: Block, z: Tensor, sites: Collection[Site]) -> tuple[dict[Site, Tensor], Tensor]:
    """Run a block on z (B, T, width): the values at `sites`, and the block's output, the same as of `block(z)`."""
    seen: dict[Site, Tensor] = {"qkv": block.norm1(z)}
    seen["q"], seen["k"], seen["v"] = block.split(block.qkv(seen["qkv"]))
    if "softmax" in sites:
        seen["softmax"] = torch.softmax(seen["q"] @ seen["k"].mT / seen["q"].shape[-1] ** 0.5, dim=-1)
    seen["proj"] = block.mix(seen["q"], seen["k"], seen["v"]).transpose(1, 2).flatten(2)
    z = z + block.scale1(block.proj(seen["proj"]))
    seen["fc1"] = block.norm2(z)
    seen["fc2"] = block.act(block.fc1(seen["fc1"]))
    return {site: seen[site] for site in sites}, z + block.scale2(block.fc2(seen["fc2"]))
