"""The whole tower in bfloat16, weights and activations: the precision that comes for nothing on much hardware."""

from typing import TYPE_CHECKING, Literal

from lraee.metrics.compute import whole_tower
from lraee.quantize.schemes import SCHEMES, Batches, Coverage, QuantizerState, Scheme

if TYPE_CHECKING:
    from lraee.models.tower import Tower


@SCHEMES.register("bfloat16")
class Bfloat16(Scheme):
    """Nothing to choose, and nothing to calibrate."""

    scheme: Literal["bfloat16"]

    @property
    def description(self) -> str:
        return "bfloat16: the whole vision tower, weights and activations"

    def calibrate(self, tower: "Tower", batches: Batches) -> QuantizerState:
        return {}

    def apply(self, tower: "Tower", state: QuantizerState) -> "Tower":
        from lraee.quantize.bfloat16 import in_bfloat16

        return in_bfloat16(tower)

    def coverage(self, tower: "Tower", state: QuantizerState) -> Coverage:
        return whole_tower(tower.shape, 16)
