"""Quantized Linears and attention products."""

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional

from lraee.models.tower import Mix
from lraee.quantize.activation_grids import AffineGrid, Grid
from lraee.quantize.grids import quantize_affine
from lraee.quantize.kernels import Product, exact_product
from lraee.quantize.trace import Site


class QuantizedLinear(nn.Module):
    """A Linear whose weights and inputs are integers and whose product is exact in them, on the Linear's device.

    Inputs are (B, T, in), rounded to a grid with one scale and zero point (or one an image). Weights are codes
    -2^(bits-1) .. 2^(bits-1)-1 (out, in), int8, times a scale (1,) or (out,).
    """

    weight_codes: Tensor
    weight_scale: Tensor

    def __init__(self, weight_codes: Tensor, weight_scale: Tensor, bias: Tensor | None, grid: AffineGrid) -> None:
        super().__init__()
        self.register_buffer("weight_codes", weight_codes)
        self.register_buffer("weight_scale", weight_scale)
        self.bias, self.grid = bias, grid
        self.out_features, self.in_features = weight_codes.shape

    @cached_property
    def product(self) -> Product:
        """The product with the weight codes; packed at the first run, since whoever runs them elsewhere needs none."""
        with torch.inference_mode(False), torch.no_grad():
            return exact_product(self.weight_codes, self.grid.bits)

    def forward(self, x: Tensor) -> Tensor:
        scale, zero_point = self.grid.parameters_for(x)
        codes = quantize_affine(x, scale, zero_point, self.grid.bits)
        product = self.product(codes, zero_point).mul_(scale * self.weight_scale)
        return product if self.bias is None else product.add_(self.bias)


class SimulatedLinear(nn.Module):
    """A Linear of rounded weights (out, in) and inputs, multiplied in float: for grids that integers cannot follow."""

    weight: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, grid: Grid) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.bias, self.grid = bias, grid

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(self.grid(x), self.weight, self.bias)


class QuantizedMix(Mix):
    """Attention's two products with their factors rounded; a site without a grid is left as it is."""

    def __init__(self, grids: Mapping[Site, Grid]) -> None:
        super().__init__()
        self.q, self.k, self.softmax, self.v = (grids.get(s, nn.Identity()) for s in ("q", "k", "softmax", "v"))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        logits = self.q(q) @ self.k(k).mT / q.shape[-1] ** 0.5
        return self.softmax(torch.softmax(logits, dim=-1)) @ self.v(v)
