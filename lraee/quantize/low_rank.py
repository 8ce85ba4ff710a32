"""Low-rank compensation of quantized Linears, and the interval of softmax's grid; see `schemes.aiqvit`."""

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from lraee.models.tower import ROLES, Block, Tower, sharing_copy
from lraee.quantize.activation_grids import StaticGrid, static_grid
from lraee.quantize.blocks import of_block, with_prefix
from lraee.quantize.calibrate import first_states, static_ranges
from lraee.quantize.grids import affine_parameters
from lraee.quantize.layers import QuantizedLinear, QuantizedMix
from lraee.quantize.linears import quantized_linear, weight_scales
from lraee.quantize.schemes import Batches, LinearRecipe, QuantizerState, Role
from lraee.quantize.trace import PRODUCT_SITES, Site, trace

INTERVALS = 2.0 ** -(torch.arange(21) / 3)
"""Upper ends tried for softmax's range: 1, 0.79, 0.63, 0.5 ... 0.0098."""

Moments: TypeAlias = tuple[Tensor, Tensor]
_RANGED: tuple[Site, ...] = (*ROLES, "q", "k", "v")
_DAMPING = 0.01


class CompensatedLinear(nn.Module):
    """A quantized Linear plus the product of `down` (rank, in) and `up` (out, rank) with its unrounded input."""

    down: Tensor
    up: Tensor

    def __init__(self, quantized: QuantizedLinear, down: Tensor, up: Tensor) -> None:
        super().__init__()
        self.quantized = quantized
        self.register_buffer("down", down)
        self.register_buffer("up", up)

    def forward(self, x: Tensor) -> Tensor:
        return self.quantized(x) + functional.linear(functional.linear(x, self.down), self.up)


@torch.no_grad()
def calibrate(tower: Tower, recipe: LinearRecipe, rank: int, images: int, batches: Batches) -> QuantizerState:
    """Fit scales and ranges on all images, then block by block compensation and softmax's interval on the first ones.

    The state holds what `linears.calibrate` finds, ranges of attention's factors under the same names, and a Linear's
    `<role>.down` (rank, in) and `<role>.up` (out, rank). ValueError where there is no image.
    """
    state = weight_scales(tower, dict.fromkeys(ROLES, recipe))
    state |= static_ranges(tower, dict.fromkeys(_RANGED, recipe.activations), batches)
    states = first_states(tower, batches, images)
    for index, block in enumerate(tower.blocks):
        own, states = fitted(block, states, recipe, of_block(state, index), rank)  # type: ignore[arg-type]
        state |= with_prefix(own, index)
    return state


def fitted(
    block: Block, states: list[Tensor], recipe: LinearRecipe, ranges: QuantizerState, rank: int
) -> tuple[QuantizerState, list[Tensor]]:
    """Fit a block's compensation and its softmax's range to its inputs, (B, T, width) each; also what it yields."""
    linears = {role: quantized_linear(getattr(block, role), role, recipe, ranges) for role in ROLES}
    moments: dict[Role, Moments] = {}
    errors, after, bits = torch.zeros(len(INTERVALS), block.heads, dtype=torch.float64), [], recipe.activations.bits
    for z in states:
        values, z_next = trace(block, z, (*ROLES, "softmax"))
        after.append(z_next)
        errors += interval_errors(values["softmax"], bits)
        for role, quantized in linears.items():
            x, found = values[role], moments.get(role)
            new = error_moments(x, getattr(block, role)(x) - quantized(x))
            moments[role] = new if found is None else (found[0] + new[0], found[1] + new[1])
    own: QuantizerState = {}
    for role, (second, cross) in moments.items():
        own[f"{role}.down"], own[f"{role}.up"] = best_of_rank(second, cross, rank)
    highs = INTERVALS[errors.argmin(dim=0)].reshape(-1, 1, 1)
    scale, zero_point = affine_parameters(torch.zeros_like(highs), highs, bits)
    return own | {"softmax.input_scale": scale, "softmax.input_zero_point": zero_point}, after


def error_moments(x: Tensor, error: Tensor) -> Moments:
    """Sums over tokens of x x^T (in, in) and error x^T (out, in), of inputs (B, T, in) and errors (B, T, out)."""
    x, error = x.flatten(0, 1), error.flatten(0, 1)
    return (x.mT @ x).double(), (error.mT @ x).double()


def best_of_rank(second: Tensor, cross: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Reduced-rank regression: `down` (rank, in) and `up` (out, rank) for which up down x comes nearest to the errors.

    `second` (in, in) and `cross` (out, in) are sums that `error_moments` yields; `second` is damped.
    """
    damped = second + _DAMPING * second.diagonal().mean() * torch.eye(len(second)).to(second)
    lower = torch.linalg.cholesky(damped)
    whitened = torch.linalg.solve_triangular(lower, cross.mT, upper=False).mT
    left, values, right = torch.linalg.svd(whitened, full_matrices=False)
    down = torch.linalg.solve_triangular(lower, right[:rank], upper=False, left=False)
    return down.float().contiguous(), (left[:, :rank] * values[:rank]).float().contiguous()


def interval_errors(softmax: Tensor, bits: int) -> Tensor:
    """Squared rounding errors of softmax (B, heads, T, T) with each of INTERVALS as its range, and head; on the CPU."""
    errors = []
    for high in INTERVALS.to(softmax.device):
        grid = StaticGrid(bits, *affine_parameters(torch.zeros_like(high), high, bits))
        errors.append((grid(softmax) - softmax).square().sum(dim=(0, 2, 3), dtype=torch.float64))
    return torch.stack(errors).cpu()


def quantized_block(block: Block, recipe: LinearRecipe, state: QuantizerState) -> Block:
    """Copy an FP32 block with compensated Linears and rounded products; KeyError where the state lacks a tensor."""
    result = sharing_copy(block)
    for role in ROLES:
        linear = getattr(block, role)
        quantized, device = quantized_linear(linear, role, recipe, state), linear.weight.device
        down, up = state[f"{role}.down"].to(device), state[f"{role}.up"].to(device)
        result.set_submodule(role, CompensatedLinear(quantized, down, up))
    bits = recipe.activations.bits
    result.mix = QuantizedMix({site: static_grid(state, site, bits, device) for site in PRODUCT_SITES})
    return result
