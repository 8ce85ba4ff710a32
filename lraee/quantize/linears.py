"""Every Linear of the blocks quantized by a recipe of its role."""

from collections.abc import Callable

from torch import Tensor, nn

from lraee.models.tower import ROLES, Block, Tower, sharing_copy
from lraee.quantize.activation_grids import AffineGrid, DynamicGrid, static_grid
from lraee.quantize.calibrate import static_ranges
from lraee.quantize.grids import quantize_weight, weight_scale
from lraee.quantize.layers import QuantizedLinear
from lraee.quantize.schemes import ActivationSpec, Batches, LinearRecipe, QuantizerState, Role
from lraee.quantize.trace import Site

Recipe = Callable[[Role], LinearRecipe | None]


def calibrate(tower: Tower, recipe: Recipe, batches: Batches) -> QuantizerState:
    """Fit recipes to an FP32 tower: weight scales from the weights, static ranges from the calibration set.

    The state holds per Linear `<name>.weight_scale`; where activations are static also what `static_ranges` finds.
    """
    chosen = {role: found for role in ROLES if (found := recipe(role))}
    state = weight_scales(tower, chosen)
    static: dict[Site, ActivationSpec] = {
        role: own.activations for role, own in chosen.items() if own.activations.range == "static"
    }
    return state | static_ranges(tower, static, batches) if static else state


def weight_scales(tower: Tower, recipes: dict[Role, LinearRecipe]) -> QuantizerState:
    """Fit the scale of every Linear's weights: `blocks.<index>.<role>.weight_scale`, (1,) or (out,)."""
    state: QuantizerState = {}
    for role, recipe in recipes.items():
        for index, block in enumerate(tower.blocks):
            weights, per_channel = recipe.weights, recipe.weights.granularity == "channel"
            scale = weight_scale(getattr(block, role).weight, weights.bits, per_channel)
            state[f"blocks.{index}.{role}.weight_scale"] = scale
    return state


def quantized(block: Block, recipe: Recipe, state: QuantizerState) -> Block:
    """Copy an FP32 block with every Linear that has a recipe quantized; KeyError where the state lacks a scale."""
    result = sharing_copy(block)
    for role in ROLES:
        own = recipe(role)
        if own is not None:
            result.set_submodule(role, quantized_linear(getattr(block, role), role, own, state))
    return result


def quantized_linear(linear: nn.Linear, role: Role, recipe: LinearRecipe, state: QuantizerState) -> QuantizedLinear:
    """Quantize one Linear with its scales, `<role>.weight_scale` and, where the range is static, those of its input."""
    if not isinstance(linear, nn.Linear):
        raise TypeError(f"{role} is a {type(linear).__name__}, not a Linear")
    device, spec = linear.weight.device, recipe.activations
    dynamic = spec.range == "dynamic"
    grid: AffineGrid = DynamicGrid(spec.bits) if dynamic else static_grid(state, role, spec.bits, device)
    scale: Tensor = state[f"{role}.weight_scale"].to(device)
    return QuantizedLinear(quantize_weight(linear.weight, scale, recipe.weights.bits), scale, linear.bias, grid)
