"""ERQ: the error of rounded activations regressed into the weights, then weights rounded half by half."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lraee.models.tower import Block, Tower, sharing_copy
from lraee.quantize import repq_vit
from lraee.quantize.activation_grids import Grid
from lraee.quantize.blocks import of_block, with_prefix
from lraee.quantize.calibrate import first_states
from lraee.quantize.channel_grids import best_percentile_grids, rounded
from lraee.quantize.layers import QuantizedMix
from lraee.quantize.moments import Moments, moments_of, ridge
from lraee.quantize.reparameterise import reparameterised
from lraee.quantize.schemes import Batches, QuantizerState, Role
from lraee.quantize.simulated import simulated_linear
from lraee.quantize.trace import Site

_WEIGHT_PERCENTILES = (97.0, 98.0, 99.0, 99.5, 99.95, 99.97, 99.99, 99.995, 99.999, 100.0)
_FLIPS = 100
"""Roundings of an output channel that one refinement changes at most."""


@torch.no_grad()
def calibrate(tower: Tower, weight_bits: int, activation_bits: int, images: int, batches: Batches) -> QuantizerState:
    """RepQ-ViT's ranges and, block by block on `images` images, corrected weights on their grids, and biases."""
    state = repq_vit.activation_state(tower, activation_bits, batches)
    clean = first_states(tower, batches, images)
    noisy = list(clean)
    for index, block in enumerate(tower.blocks):
        own = of_block(state, index)
        grids = repq_vit.activation_grids(own, activation_bits, tower.device)
        found = _corrected_block(reparameterised(block, own), grids, weight_bits, clean, noisy)  # type: ignore[arg-type]
        state |= with_prefix(found, index)
    return state


def _corrected_block(
    block: Block, grids: dict[Site, Grid], bits: int, clean: list[Tensor], noisy: list[Tensor]
) -> QuantizerState:
    """Correct the Linears of a folded block in their order; the two lists of states move on behind the block."""
    state: QuantizerState = {}
    current = sharing_copy(block)
    current.mix = QuantizedMix(grids)
    # strict=True also lets both walks end: each moves its states when it is asked for a fifth Linear.
    walks = zip(role_inputs(block, clean), role_inputs(current, noisy), strict=True)
    for (role, inputs), (_, noisy_inputs) in walks:
        pairs = ((x, grids[role](noise)) for x, noise in zip(inputs, noisy_inputs, strict=True))
        state |= corrected(getattr(block, role), role, moments_of(pairs), bits)
        current.set_submodule(role, simulated_linear(getattr(block, role), role, state, bits, grids[role]))
    return state


def role_inputs(block: Block, states: list[Tensor]) -> Iterator[tuple[Role, list[Tensor]]]:
    """Yield each Linear's role and inputs, in order, of all states (B, T, width), which the block's outputs replace.

    A Linear runs only when the next one is asked for: until then it may be exchanged.
    """
    inputs = [block.norm1(z) for z in states]
    yield "qkv", inputs
    inputs = [block.mix(*block.split(block.qkv(x))).transpose(1, 2).flatten(2) for x in inputs]
    yield "proj", inputs
    states[:] = [z + block.scale1(block.proj(x)) for z, x in zip(states, inputs, strict=True)]
    inputs = [block.norm2(z) for z in states]
    yield "fc1", inputs
    inputs = [block.act(block.fc1(x)) for x in inputs]
    yield "fc2", inputs
    states[:] = [z + block.scale2(block.fc2(x)) for z, x in zip(states, inputs, strict=True)]


def corrected(linear: nn.Linear, role: Role, moments: Moments, bits: int) -> QuantizerState:
    """Correct one Linear: its weights, on their grid, that grid, and its bias."""
    weight = linear.weight.double()
    regressed = weight + ridge(moments.covariance, moments.cross @ weight.mT, moments.penalty).mT
    scale, zero_point = best_percentile_grids(regressed.float().mT, bits, _WEIGHT_PERCENTILES)
    found = rounded_by_halves(regressed, scale.double(), zero_point.double(), bits, moments)
    bias = weight @ moments.mean - found @ moments.rounded_mean
    bias = bias if linear.bias is None else bias + linear.bias
    return {
        f"{role}.weight": found.float(),
        f"{role}.weight_scale": scale,
        f"{role}.weight_zero_point": zero_point,
        f"{role}.bias": bias.float(),
    }


def rounded_by_halves(weight: Tensor, scale: Tensor, zero_point: Tensor, bits: int, moments: Moments) -> Tensor:
    """Round weights (out, in) to grids (out,), half of the columns that are left at a time.

    Each half's roundings are refined; a ridge regression then moves what error is left into the columns still to come.
    """
    current, start, width = weight.clone(), 0, weight.shape[1]
    scale, zero_point = scale[:, None], zero_point[:, None]
    while start < width:
        stop = start + (width - start + 1) // 2
        part = current[:, start:stop]
        down, up = (rounded(side(part / scale) * scale, scale, zero_point, bits) for side in (torch.floor, torch.ceil))
        values = refined(part, down, up, moments.covariance[start:stop, start:stop])
        if stop < width:
            moved = moments.covariance[stop:, start:stop] @ (values - part).mT
            current[:, stop:] -= ridge(moments.covariance[stop:, stop:], moved, moments.penalty).mT
        current[:, start:stop] = values
        start = stop
    return current


def refined(weight: Tensor, down: Tensor, up: Tensor, covariance: Tensor) -> Tensor:
    """Choose down or up for each weight, (out, k) all three, so that the outputs' error is small: (out, k).

    From the nearest values on, each output takes again and again the one change that lowers e C e^T the most, e being
    its weights' errors and C the inputs' covariance (k, k); no more than `_FLIPS` of them.
    """
    nearer_up = (up - weight).abs() < (down - weight).abs()
    chosen, other = torch.where(nearer_up, up, down), torch.where(nearer_up, down, up)
    gradient = (chosen - weight) @ covariance
    for _ in range(_FLIPS):
        step = other - chosen
        lowest, column = (step * (2 * gradient + step * covariance.diagonal())).min(dim=1)
        rows = torch.nonzero(lowest < 0)[:, 0]
        if not len(rows):
            break
        column = column[rows]
        gradient[rows] += step[rows, column, None] * covariance[column]
        chosen[rows, column], other[rows, column] = other[rows, column], chosen[rows, column]
    return chosen
