"""Schemes that quantize the blocks one by one and leave the rest of the tower as it is.

Every name in their state begins with the block that it belongs to, "blocks.<index>.", so that a block can be quantized
anew by itself: searches change the state of one block, mixed precision takes each block's from another calibration.
torch is imported only where the work is done: settings are read in every job.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self, get_args

from lraee.quantize.schemes import Coverage, Part, QuantizerState, Scheme
from lraee.settings import Bits

if TYPE_CHECKING:
    from lraee.models.shape import TowerShape
    from lraee.models.tower import Block, Tower


class BlockScheme(Scheme):
    """What every block-wise scheme shares: applying it."""

    @abstractmethod
    def block(self, block: "Block", state: QuantizerState) -> "Block":
        """Return a quantized copy of an FP32 block; names in its state are those inside it ("qkv.weight_scale").

        Raises KeyError where the state lacks what the scheme needs.
        """

    def apply(self, tower: "Tower", state: QuantizerState) -> "Tower":
        from lraee.quantize.blocks import in_blocks

        return in_blocks(tower, state, self.block)


class EqualBlocksScheme(BlockScheme):
    """A block-wise scheme with the same bits in every block."""

    @abstractmethod
    def bits_of(self, part: Part) -> tuple[int, int] | None:
        """Return the bits of a part's two factors, weights and activations; None where it stays in FP32."""

    def bits_by_part(self) -> dict[Part, tuple[int, int]]:
        """Return the bits of every part that is quantized."""
        return {part: bits for part in get_args(Part) if (bits := self.bits_of(part))}

    def added_macs(self, shape: "TowerShape") -> int:
        """Return the MACs in FP32 that the method itself adds to a block."""
        return 0

    def coverage(self, tower: "Tower", state: QuantizerState) -> Coverage:
        from lraee.metrics.compute import coverage_of

        return coverage_of(tower, [self.bits_by_part()] * tower.shape.depth, self.added_macs(tower.shape))


class VariableBits(ABC):
    """What mixed precision needs of a scheme."""

    @abstractmethod
    def at_bits(self, bits: int) -> EqualBlocksScheme:
        """Return the scheme with weights and activations of so many bits."""


class BitsScheme(EqualBlocksScheme, VariableBits):
    """A block-wise scheme of the literature: one number of bits for all weights, one for all activations."""

    weight_bits: Bits = 8
    activation_bits: Bits = 8

    def bits_of(self, part: Part) -> tuple[int, int] | None:
        return self.activation_bits if part == "products" else self.weight_bits, self.activation_bits

    def at_bits(self, bits: int) -> Self:
        return self.model_copy(update={"weight_bits": bits, "activation_bits": bits})
