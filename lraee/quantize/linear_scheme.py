"""Schemes that treat each Linear of the blocks by itself.

torch is imported only where the work is done: settings are read in every job.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING

from lraee.quantize.block_scheme import EqualBlocksScheme
from lraee.quantize.schemes import Batches, LinearRecipe, Part, QuantizerState, Role

if TYPE_CHECKING:
    from lraee.models.tower import Block, Tower


class LinearScheme(EqualBlocksScheme):
    """A scheme that is its recipes: weights on a symmetric grid, inputs on an affine one, products exact."""

    @abstractmethod
    def recipe(self, role: Role) -> LinearRecipe | None:
        """Return how the Linear in `role` is quantized, in every block; None leaves it in FP32."""

    def bits_of(self, part: Part) -> tuple[int, int] | None:
        recipe = None if part == "products" else self.recipe(part)
        return None if recipe is None else (recipe.weights.bits, recipe.activations.bits)

    def calibrate(self, tower: "Tower", batches: Batches) -> QuantizerState:
        from lraee.quantize.linears import calibrate

        return calibrate(tower, self.recipe, batches)

    def block(self, block: "Block", state: QuantizerState) -> "Block":
        from lraee.quantize.linears import quantized

        return quantized(block, self.recipe, state)
