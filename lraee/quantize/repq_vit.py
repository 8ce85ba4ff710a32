"""RepQ-ViT: ranges of each LayerNorm channel folded into the LayerNorm, log-sqrt2 softmax, percentile ranges."""

import torch
from torch import Tensor

from lraee.models.tower import ROLES, Block, Tower
from lraee.quantize.activation_grids import Grid, static_grid
from lraee.quantize.blocks import of_block, with_prefix
from lraee.quantize.calibrate import first_states, histograms, static_range
from lraee.quantize.channel_grids import best_percentile_grids
from lraee.quantize.log_grids import LogGrid
from lraee.quantize.observers import PERCENTILES, Histogram, percentile
from lraee.quantize.reparameterise import FOLDED, reparameterised
from lraee.quantize.schemes import ActivationSpec, Batches, QuantizerState
from lraee.quantize.simulated import simulated
from lraee.quantize.trace import NORM_SITES, Site, trace

_PER_TENSOR: tuple[Site, ...] = ("proj", "fc2", "q", "k", "v")
_STEPS = 2
"""Values of softmax's grid an octave: log-sqrt2."""


def calibrate(tower: Tower, weight_bits: int, activation_bits: int, batches: Batches) -> QuantizerState:
    """Ranges of the activations, and grids of the weights that are left when the LayerNorms are folded."""
    state = activation_state(tower, activation_bits, batches)
    for index, block in enumerate(tower.blocks):
        folded = reparameterised(block, of_block(state, index))  # type: ignore[arg-type]
        for role in ROLES:
            grid = best_percentile_grids(getattr(folded, role).weight.mT, weight_bits, PERCENTILES)
            names = (f"{role}.weight_scale", f"{role}.weight_zero_point")
            state |= with_prefix(dict(zip(names, grid, strict=True)), index)
    return state


def activation_state(tower: Tower, bits: int, batches: Batches) -> QuantizerState:
    """What the activations of every block need: `<site>.input_scale`, `.input_zero_point` and the LayerNorms' folding.

    Three passes over the calibration set. ValueError where there is no image.
    """
    state: QuantizerState = {}
    spec = ActivationSpec(bits=bits, observer="best-percentile")
    for name, histogram in histograms(tower, [*_PER_TENSOR, "softmax"], batches).items():
        if name.endswith(".softmax"):
            state[f"{name}.input_scale"] = largest_value(histogram, bits)
        else:
            state |= static_range(name, histogram, spec)
    return state | _folding_state(tower, bits, batches)


def largest_value(histogram: Histogram, bits: int) -> Tensor:
    """The largest value of softmax's grid: of three percentiles the one with the smallest squared error."""
    values = histogram.centres.float()
    ranges = [percentile(histogram, ActivationSpec(percentile=share)) for share in PERCENTILES]
    largest = [torch.tensor(high) for _, high in ranges]
    errors = [(LogGrid(bits, top, _STEPS)(values) - values).square() @ histogram.counts.float() for top in largest]
    return largest[int(torch.stack(errors).argmin())]


@torch.no_grad()
def _folding_state(tower: Tower, bits: int, batches: Batches) -> QuantizerState:
    """Walk through the blocks with all images: the grid of each LayerNorm channel, folded."""
    state: QuantizerState = {}
    states = first_states(tower, batches)
    for index, block in enumerate(tower.blocks):
        seen: dict[str, list[Tensor]] = {site: [] for site in NORM_SITES}
        for number, z in enumerate(states):
            values, states[number] = trace(block, z, NORM_SITES)  # type: ignore[arg-type]
            for site, x in values.items():
                seen[site].append(x.flatten(0, 1))
        for norm, reader in FOLDED.items():
            grids = best_percentile_grids(torch.cat(seen.pop(reader)), bits, PERCENTILES)
            state |= with_prefix(folded(norm, reader, *grids, bits), index)
    return state


def folded(norm: str, site: str, scale: Tensor, zero_point: Tensor, bits: int) -> QuantizerState:
    """Turn a grid a channel, s and z (width,), into one grid s~, z~ for y / divisor + offset.

    divisor = s / s~ and offset = s~ (z - z~), so that round((y / divisor + offset) / s~) + z~ = round(y / s) + z: the
    same codes, since z and z~ are whole. Any s~ > 0 and whole z~ do: s~ is the mean of s, z~ that of z, rounded and
    brought among the codes.
    """
    common_scale = scale.mean()
    common_zero_point = zero_point.mean().round().clamp(0, 2**bits - 1)
    return {
        f"{norm}.divisor": scale / common_scale,
        f"{norm}.offset": (zero_point - common_zero_point) * common_scale,
        f"{site}.input_scale": common_scale,
        f"{site}.input_zero_point": common_zero_point,
    }


def activation_grids(state: QuantizerState, bits: int, device: torch.device) -> dict[Site, Grid]:
    """The grid of every site of a block."""
    grids: dict[Site, Grid] = {site: static_grid(state, site, bits, device) for site in (*_PER_TENSOR, *NORM_SITES)}
    return grids | {"softmax": LogGrid(bits, state["softmax.input_scale"].to(device), _STEPS)}


def quantized(block: Block, state: QuantizerState, weight_bits: int, activation_bits: int) -> Block:
    """Copy an FP32 block, folded and rounded; KeyError where the state lacks a scale."""
    grids = activation_grids(state, activation_bits, next(block.parameters()).device)
    return simulated(reparameterised(block, state), state, weight_bits, grids)
