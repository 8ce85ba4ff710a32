"""Plain uniform quantization of every Linear in the blocks: 2 to 8 bits, min-max, percentile or MSE ranges."""

from typing import Literal, Self

from lraee.quantize.block_scheme import VariableBits
from lraee.quantize.linear_scheme import LinearScheme
from lraee.quantize.schemes import SCHEMES, ActivationSpec, LinearRecipe, Role, WeightSpec


@SCHEMES.register("uniform")
class Uniform(LinearScheme, VariableBits):
    """One choice of bits and ranges for every Linear."""

    scheme: Literal["uniform"]
    weights: WeightSpec
    activations: ActivationSpec

    def recipe(self, role: Role) -> LinearRecipe | None:
        return LinearRecipe(weights=self.weights, activations=self.activations)

    def at_bits(self, bits: int) -> Self:
        weights, activations = (spec.model_copy(update={"bits": bits}) for spec in (self.weights, self.activations))
        return self.model_copy(update={"weights": weights, "activations": activations})

    @property
    def description(self) -> str:
        ranges = "dynamic" if self.activations.range == "dynamic" else f"static {self.activations.observer}"
        return (
            f"W{self.weights.bits}A{self.activations.bits}: weights per {self.weights.granularity}, "
            f"activations per tensor, {ranges} ranges"
        )
