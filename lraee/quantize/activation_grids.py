"""What activations are rounded to while the network runs."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from lraee.quantize.grids import affine_parameters, quantize_affine


class Grid(nn.Module):
    """Rounds activations to the nearest values that it holds; same shape."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor: ...


class AffineGrid(Grid):
    """Evenly spaced values, (code - zero point) * scale with codes 0 .. 2^bits - 1."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    @abstractmethod
    def parameters_for(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale and zero point, which broadcast against x."""

    def forward(self, x: Tensor) -> Tensor:
        scale, zero_point = self.parameters_for(x)
        return quantize_affine(x, scale, zero_point, self.bits).sub_(zero_point).mul_(scale)


class StaticGrid(AffineGrid):
    """One range for all images: of the whole tensor (scale and zero point are single numbers), or one a channel."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, bits: int, scale: Tensor, zero_point: Tensor) -> None:
        super().__init__(bits)
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", zero_point)

    def parameters_for(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.scale, self.zero_point


class DynamicGrid(AffineGrid):
    """A range for each image, over its tokens and features, so that a result does not depend on the rest of a batch."""

    def parameters_for(self, x: Tensor) -> tuple[Tensor, Tensor]:
        over = tuple(range(1, x.ndim))
        # aminmax over a dimension is ten times slower than these two.
        return affine_parameters(x.amin(dim=over, keepdim=True), x.amax(dim=over, keepdim=True), self.bits)


def static_grid(state: dict[str, Tensor], site: str, bits: int, device: torch.device) -> StaticGrid:
    """Read the range of a site, `<site>.input_scale` and `.input_zero_point`, as `static_ranges` found it."""
    scale, zero_point = state[f"{site}.input_scale"], state[f"{site}.input_zero_point"]
    return StaticGrid(bits, scale.to(device), zero_point.to(device))
