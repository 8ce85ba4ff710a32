"""Grids of powers of two, or of its root: for numbers in [0, 1] that pile up near zero, as softmax's do."""

import torch
from torch import Tensor

from lraee.quantize.activation_grids import Grid


class LogGrid(Grid):
    """The values largest * 2^(-code / steps), codes 0 .. 2^bits - 2; the last code, 2^bits - 1, is zero.

    `steps` is the number of values an octave: 1 for the grid of log2, 2 for that of log-sqrt2. A number x >= 0 gets the
    code clip(round(-steps * log2(x / largest)), 0, 2^bits - 1), so it goes to the nearest value in the logarithm.
    (At 8 bits the smallest powers lie below float32's range and are zero as well.)

    The published code of RepQ-ViT and FQ-ViT lets all 2^bits codes stand for powers and turns whatever is smaller into
    zero, which is one value more than the bits can tell apart.
    """

    largest: Tensor

    def __init__(self, bits: int, largest: Tensor, steps: int) -> None:
        super().__init__()
        self.steps, self.last = steps, 2**bits - 1
        self.register_buffer("largest", largest)

    def codes(self, x: Tensor) -> Tensor:
        """Integer-valued float32 codes of numbers x >= 0."""
        return (x / self.largest).log2_().mul_(-self.steps).round_().clamp_(0, self.last)

    def forward(self, x: Tensor) -> Tensor:
        codes = self.codes(x)
        values = torch.exp2(codes / -self.steps).mul_(self.largest)
        return values.masked_fill_(codes == self.last, 0.0)
