"""A tower in bfloat16: weights, activations and the residual stream; products are summed in float32 and rounded once.

Outside it is float32: pixels come in, and states and embeddings leave, as from any other tower.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lraee.models.tower import Tower


class _To(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.dtype)


class Bfloat16Tower(Tower):
    """A tower whose stem and head convert at the outside."""

    def states(self, pixels: Tensor) -> Iterator[Tensor]:
        for z in super().states(pixels):
            yield z.float()


def in_bfloat16(tower: Tower) -> Bfloat16Tower:
    """Return a copy of an FP32 tower in bfloat16."""
    copied = copy.deepcopy(tower).to(torch.bfloat16)
    if not multiplies_bfloat16(tower.device):
        multiply_in_float32(copied)
    stem = nn.Sequential(_To(torch.bfloat16), copied.stem)
    head = nn.Sequential(_To(torch.bfloat16), copied.head, _To(torch.float32))
    return Bfloat16Tower(stem, list(copied.blocks), head, copied.shape).eval()  # type: ignore[arg-type]


def multiplies_bfloat16(device: torch.device) -> bool:
    """Tell whether torch has fast bfloat16 products: on every accelerator, and by oneDNN on CPUs with AVX-512."""
    return device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def multiply_in_float32(tower: nn.Module) -> None:
    """Let every Linear and convolution multiply its bfloat16 values in float32, in place.

    What torch computes without bfloat16 products takes seven times (Linear) and thirty times (convolution) as long, for
    the same numbers but for the order of summation.
    """
    for name, module in list(tower.named_modules()):
        if isinstance(module, nn.Linear | nn.Conv2d):
            tower.set_submodule(name, nn.Sequential(_To(torch.float32), module.float(), _To(torch.bfloat16)))
