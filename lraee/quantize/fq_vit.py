"""FQ-ViT: a power-of-two factor for each LayerNorm channel, log2 softmax, OMSE ranges, bias correction."""

import torch
from torch import Tensor, nn

from lraee.models.tower import ROLES, Block, Tower
from lraee.quantize.activation_grids import Grid, static_grid
from lraee.quantize.calibrate import histograms, observe, static_range
from lraee.quantize.channel_grids import best_percentile_grids, rounded
from lraee.quantize.log_grids import LogGrid
from lraee.quantize.schemes import ActivationSpec, Batches, QuantizerState
from lraee.quantize.simulated import simulated
from lraee.quantize.trace import NORM_SITES, Site

_STATIC: tuple[Site, ...] = (*NORM_SITES, "proj", "fc2", "q", "k", "v")
_LARGEST_FACTOR = 3
"""The power-of-two factors are 2^0 .. 2^3."""


def calibrate(tower: Tower, weight_bits: int, activation_bits: int, batches: Batches) -> QuantizerState:
    """Ranges, factors, weight grids and corrected biases, in three passes over the calibration set.

    ValueError where there is no image.
    """
    state: QuantizerState = {}
    for name, histogram in histograms(tower, list(_STATIC), batches).items():
        whole = name.endswith(NORM_SITES)
        spec = ActivationSpec(bits=activation_bits, observer="min-max" if whole else "mse")
        state |= static_range(name, histogram, spec)
    means, scales = _means_and_scales(tower, state, activation_bits, batches)
    state |= scales
    for name, mean in means.items():
        state |= _weight_state(name, tower.get_submodule(name), mean, weight_bits)  # type: ignore[arg-type]
    return state


def factor_errors(x: Tensor, scale: Tensor, zero_point: Tensor, bits: int) -> Tensor:
    """Squared error of each channel of x (..., channels) under the steps scale / 8, / 4, / 2 and / 1: (4, channels)."""
    rows = x.flatten(0, -2)
    steps = [scale / 2**shift for shift in range(_LARGEST_FACTOR, -1, -1)]
    return torch.stack([(rounded(rows, step, zero_point, bits) - rows).square().sum(dim=0) for step in steps])


def _means_and_scales(
    tower: Tower, state: QuantizerState, bits: int, batches: Batches
) -> tuple[dict[str, Tensor], QuantizerState]:
    """Mean input of every Linear; the scale of each channel behind a LayerNorm, the whole range's times 2^(a - 3)."""
    sums: dict[str, Tensor] = {}
    errors: dict[str, Tensor] = {}
    rows = dict.fromkeys((f"blocks.{i}.{role}" for i in range(len(tower.blocks)) for role in ROLES), 0)

    def look(name: str, x: Tensor) -> None:
        rows[name] += x.shape[:-1].numel()
        sums[name] = sums.get(name, 0.0) + x.flatten(0, -2).sum(dim=0, dtype=torch.float64)
        if name.endswith(NORM_SITES):
            scale, zero_point = (state[f"{name}.input_{part}"].to(x.device) for part in ("scale", "zero_point"))
            errors[name] = errors.get(name, 0.0) + factor_errors(x, scale, zero_point, bits).double()

    observe(tower, list(ROLES), batches, look)
    scales = {
        f"{name}.input_scale": state[f"{name}.input_scale"] * torch.exp2(error.argmin(dim=0).cpu() - _LARGEST_FACTOR)
        for name, error in errors.items()
    }
    return {name: total / rows[name] for name, total in sums.items()}, scales


def _weight_state(name: str, linear: nn.Linear, mean: Tensor, bits: int) -> QuantizerState:
    """Asymmetric min-max grid of each output channel, and the bias less the mean error that rounded weights make."""
    scale, zero_point = best_percentile_grids(linear.weight.mT, bits, [100.0])
    error = rounded(linear.weight, scale[:, None], zero_point[:, None], bits) - linear.weight
    bias = 0.0 if linear.bias is None else linear.bias
    return {
        f"{name}.weight_scale": scale,
        f"{name}.weight_zero_point": zero_point,
        f"{name}.bias": bias - (error.double() @ mean).float(),
    }


def quantized(block: Block, state: QuantizerState, weight_bits: int, activation_bits: int) -> Block:
    """Copy an FP32 block, rounded; KeyError where the state lacks a scale."""
    device = next(block.parameters()).device
    grids: dict[Site, Grid] = {site: static_grid(state, site, activation_bits, device) for site in _STATIC}
    grids["softmax"] = LogGrid(activation_bits, torch.ones((), device=device), steps=1)
    return simulated(block, state, weight_bits, grids)
