"""Blocks whose Linears and attention products are rounded to any grids and multiplied in float."""

from collections.abc import Mapping

from torch import Tensor, nn

from lraee.models.tower import ROLES, Block, sharing_copy
from lraee.quantize.activation_grids import Grid
from lraee.quantize.channel_grids import rounded
from lraee.quantize.layers import QuantizedMix, SimulatedLinear
from lraee.quantize.schemes import QuantizerState, Role
from lraee.quantize.trace import Site


def simulated(block: Block, state: QuantizerState, weight_bits: int, grids: Mapping[Site, Grid]) -> Block:
    """Copy a block with all its Linears, and the attention factors that have a grid, rounded.

    `state` holds `<role>.weight_scale` and `<role>.weight_zero_point`, (out,) each; where a method corrects parameters
    also `<role>.weight` and `<role>.bias`. KeyError where it lacks a scale, TypeError where a role is not a Linear.
    """
    result = sharing_copy(block)
    result.mix = QuantizedMix(grids)
    for role in ROLES:
        result.set_submodule(role, simulated_linear(getattr(block, role), role, state, weight_bits, grids[role]))
    return result


def simulated_linear(linear: nn.Module, role: Role, state: QuantizerState, bits: int, grid: Grid) -> SimulatedLinear:
    """Round one Linear's weights, or those that `state` puts in their place, by its scale and zero point."""
    if not isinstance(linear, nn.Linear):
        raise TypeError(f"{role} is a {type(linear).__name__}, not a Linear")
    own: dict[str, Tensor] = {
        name: state[f"{role}.{name}"].to(linear.weight.device)
        for name in ("weight", "bias", "weight_scale", "weight_zero_point")
        if f"{role}.{name}" in state
    }
    scale, zero_point = own["weight_scale"][:, None], own["weight_zero_point"][:, None]
    weight = rounded(own.get("weight", linear.weight), scale, zero_point, bits)
    return SimulatedLinear(weight, own.get("bias", linear.bias), grid)
