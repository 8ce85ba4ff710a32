"""APQ-style mixed precision: every block has its own bits, fewer where few images come by.

After APQ/MAQEE (arXiv 2605.07317), whose formulas are not public; ours, labelled APQ-style. With the utilisation
u_l = P(block l is executed) under a quantizer's fitted exits, the drift D_l(b) = relative squared error of the final
embedding when only block l has b bits, and the MACs m_l of what is quantized in a block:

    minimise  sum_l u_l D_l(b_l)   subject to   sum_l u_l m_l b_l^2 <= sum_l u_l m_l B^2,

solved exactly. Thresholds are then fitted anew on the new model, among them those that keep a stated risk; a second
entry whose `utilisation` names the first is the next round of the alternation, and so on until the bits stay.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, field_validator

from lraee.quantize.block_scheme import BlockScheme, EqualBlocksScheme, VariableBits
from lraee.quantize.operating_point import OperatingPoint
from lraee.quantize.schemes import SCHEMES, Batches, Coverage, QuantizerState, Scheme
from lraee.registry import Named
from lraee.settings import Bits, PositiveInt

if TYPE_CHECKING:
    import pandas as pd

    from lraee.models.tower import Block, Tower


@SCHEMES.register("apq")
class Apq(BlockScheme):
    """Bits by block for any scheme with variable bits.

    `bits` are the candidates; `mean_bits` is B, the budget as if all blocks had so many. `utilisation` is an operating
    point of another quantizer, measured on the `gate` split, or the shares themselves, one a block; without it every
    block counts in full: mixed precision that knows of no exits. `images` is how many calibration images drift is
    measured on; the base is calibrated on all.
    """

    scheme: Literal["apq"]
    base: Annotated[Scheme, Named(SCHEMES, "scheme")]
    bits: Annotated[tuple[Bits, ...], Field(min_length=2)] = (3, 4, 5, 6)
    mean_bits: float = Field(default=4.0, ge=2.0, le=8.0)
    images: PositiveInt = 256
    utilisation: OperatingPoint | tuple[float, ...] | None = None

    @field_validator("base")
    @classmethod
    def _has_variable_bits(cls, base: Scheme) -> Scheme:
        if not isinstance(base, VariableBits):
            raise ValueError("base must be a scheme whose bits can be chosen, for example 'uniform'")
        return base

    def needs(self) -> list[OperatingPoint]:
        return [self.utilisation] if isinstance(self.utilisation, OperatingPoint) else []

    def told(self, utilisation: "Mapping[str, pd.DataFrame]") -> Self:
        shares = [point.shares(utilisation[point.quantizer]) for point in self.needs()]
        return self.model_copy(update={"utilisation": tuple(shares[0])}) if shares else self

    @property
    def description(self) -> str:
        if self.utilisation is None:
            weighting = "every block in full"
        elif isinstance(self.utilisation, OperatingPoint):
            weighting = f"blocks weighted by the exits of {self.utilisation.quantizer}"
        else:
            weighting = "blocks weighted by their use"
        return f"bits {min(self.bits)} to {max(self.bits)} by block, {self.mean_bits:g} on average, {weighting}"

    def at(self, bits: int) -> EqualBlocksScheme:
        """Return the base scheme at so many bits."""
        assert isinstance(self.base, VariableBits)
        return self.base.at_bits(bits)

    def calibrate(self, tower: "Tower", batches: Batches) -> QuantizerState:
        from lraee.quantize.apq import calibrate

        return calibrate(tower, self, batches)

    def block(self, block: "Block", state: QuantizerState) -> "Block":
        return self.at(int(state["bits"])).block(block, state)

    def coverage(self, tower: "Tower", state: QuantizerState) -> Coverage:
        from lraee.metrics.compute import coverage_of

        chosen = [int(state[f"blocks.{index}.bits"]) for index in range(tower.shape.depth)]
        added = self.at(chosen[0]).added_macs(tower.shape)
        return coverage_of(tower, [self.at(bits).bits_by_part() for bits in chosen], added)
