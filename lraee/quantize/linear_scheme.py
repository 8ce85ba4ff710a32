"""Schemes that treat each Linear of the blocks by itself.

torch is imported only where the work is done: settings are read in every job.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING

from lraee.quantize.schemes import Batches, Coverage, LinearRecipe, QuantizerState, Role, Scheme

if TYPE_CHECKING:
    from lraee.models.tower import Tower


class LinearScheme(Scheme):
    """A scheme that is its recipes: weights on a symmetric grid, inputs on an affine one, products exact."""

    @abstractmethod
    def recipe(self, role: Role) -> LinearRecipe | None:
        """Return how the Linear in `role` is quantized, in every block; None leaves it in FP32."""

    def calibrate(self, tower: "Tower", batches: Batches) -> QuantizerState:
        from lraee.quantize.calibrate import calibrate

        return calibrate(tower, self, batches)

    def apply(self, tower: "Tower", state: QuantizerState) -> "Tower":
        from lraee.quantize.layers import quantized

        return quantized(tower, self, state)

    def coverage(self, tower: "Tower", state: QuantizerState) -> Coverage:
        from lraee.quantize.layers import coverage

        return coverage(tower, self)
