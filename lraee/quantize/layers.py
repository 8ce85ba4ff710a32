"""Quantized Linears, and their fitting into a tower."""

from torch import Tensor, nn

from lraee.metrics.compute import BlockBits, coverage_of
from lraee.models.tower import ROLES, Tower, linears, sharing_copy
from lraee.quantize.grids import affine_parameters, quantize_affine, quantize_weight
from lraee.quantize.kernels import exact_product
from lraee.quantize.linear_scheme import LinearScheme
from lraee.quantize.schemes import Coverage, LinearRecipe, QuantizerState


class QuantizedLinear(nn.Module):
    """A Linear whose weights and inputs are integers and whose product is exact in them, on the Linear's device.

    Inputs are (B, T, in). Dynamic ranges are taken per image, over its tokens and features, so that a result does not
    depend on what else is in the batch.
    """

    weight_codes: Tensor

    def __init__(self, linear: nn.Linear, recipe: LinearRecipe, state: QuantizerState, name: str) -> None:
        super().__init__()
        self.activations = recipe.activations
        device = linear.weight.device
        scale = state[f"{name}.weight_scale"].to(device)
        self.register_buffer("weight_codes", quantize_weight(linear.weight, scale, recipe.weights.bits))
        self.register_buffer("weight_scale", scale)
        self.bias = linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features
        if recipe.activations.range == "static":
            self.register_buffer("input_scale", state[f"{name}.input_scale"].to(device))
            self.register_buffer("input_zero_point", state[f"{name}.input_zero_point"].to(device))
        self.product = exact_product(self.weight_codes, recipe.activations.bits)

    def _input_grid(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.activations.range == "static":
            return self.get_buffer("input_scale"), self.get_buffer("input_zero_point")
        # aminmax over a dimension is ten times slower than these two.
        low, high = x.amin(dim=(1, 2), keepdim=True), x.amax(dim=(1, 2), keepdim=True)
        return affine_parameters(low, high, self.activations.bits)

    def forward(self, x: Tensor) -> Tensor:
        scale, zero_point = self._input_grid(x)
        codes = quantize_affine(x, scale, zero_point, self.activations.bits)
        product = self.product(codes, zero_point).mul_(scale * self.get_buffer("weight_scale"))
        return product if self.bias is None else product.add_(self.bias)


def quantized(tower: Tower, scheme: LinearScheme, state: QuantizerState) -> Tower:
    """Return a copy of `tower` in which every Linear that the scheme names is quantized with `state`.

    Whatever is not quantized is shared with `tower`.

    Raises KeyError where the state lacks a scale that the scheme needs.
    """
    result = sharing_copy(tower)
    for name, role, linear in list(linears(result)):
        recipe = scheme.recipe(role)
        if recipe is not None:
            result.set_submodule(name, QuantizedLinear(linear, recipe, state, name))
    return result.eval()


def coverage(tower: Tower, scheme: LinearScheme) -> Coverage:
    """Measure the scheme's coverage of an FP32 tower; ValueError where it quantizes nothing."""
    recipes = {role: recipe for role in ROLES if (recipe := scheme.recipe(role))}
    bits: BlockBits = {role: (recipe.weights.bits, recipe.activations.bits) for role, recipe in recipes.items()}
    return coverage_of(tower, [bits] * tower.shape.depth)
