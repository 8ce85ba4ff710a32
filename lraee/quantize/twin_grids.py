"""Twin uniform grids (PTQ4ViT, arXiv 2111.12293): two ranges of their own step, one bit of the code telling which."""

import torch
from torch import Tensor, nn

from lraee.quantize.activation_grids import Grid

_SMALLEST_STEP = torch.finfo(torch.float32).eps


class SoftmaxGrid(Grid):
    """Values in [0, 1]: {j split / m} and {j / m} for j = 0 .. m = 2^(bits-1) - 1.

    A value goes to the nearest of all of them. (The published code rounds its part below the split and its part above
    it and adds the two, so that whatever lies above the split comes out too large by the split.)
    """

    split: Tensor

    def __init__(self, bits: int, split: Tensor) -> None:
        super().__init__()
        self.largest_code = 2 ** (bits - 1) - 1
        self.register_buffer("split", split)

    def forward(self, x: Tensor) -> Tensor:
        step = self.split / self.largest_code
        fine = (x.clamp(max=self.split) / step).round_().mul_(step)
        coarse = (x * self.largest_code).round_().div_(self.largest_code)
        return torch.where((x - fine).abs() <= (x - coarse).abs(), fine, coarse)


class GeluGrid(Grid):
    """Values at and above `lowest`, an activation function's minimum: two steps that meet at 0.

    Codes 0 .. 2^(bits-1) - 1 times `scale` above 0, codes -2^(bits-1) .. 0 times |lowest| / 2^(bits-1) below.
    """

    scale: Tensor

    def __init__(self, bits: int, scale: Tensor, lowest: float) -> None:
        super().__init__()
        self.codes = 2 ** (bits - 1)
        self.negative_step = max(-lowest / self.codes, _SMALLEST_STEP)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        negative = (x / self.negative_step).round_().clamp_(-self.codes, 0).mul_(self.negative_step)
        return (x / self.scale).round_().clamp_(0, self.codes - 1).mul_(self.scale).add_(negative)


def lowest_value(act: nn.Module) -> float:
    """Minimum of an activation function that has it in [-8, 0], like GELU, QuickGELU and ReLU, to 1e-8."""
    return float(act(torch.linspace(-8.0, 0.0, 2**16 + 1)).min())
