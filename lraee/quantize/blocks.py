"""Towers quantized block by block, and the state that belongs to a block."""

from collections.abc import Callable

from lraee.models.tower import Block, Tower, sharing_copy
from lraee.quantize.schemes import QuantizerState


def of_block(state: QuantizerState, index: int) -> QuantizerState:
    """The part of a state that belongs to block `index` (0 is the first), by names inside it ("qkv.weight_scale")."""
    prefix = f"blocks.{index}."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def with_prefix(own: QuantizerState, index: int) -> QuantizerState:
    """The inverse of `of_block`."""
    return {f"blocks.{index}.{name}": tensor for name, tensor in own.items()}


def in_blocks(tower: Tower, state: QuantizerState, quantized: Callable[[Block, QuantizerState], Block]) -> Tower:
    """Copy a tower with every block quantized by its part of the state; what does not change is shared with `tower`."""
    result = sharing_copy(tower)
    for index, block in enumerate(tower.blocks):
        result.blocks[index] = quantized(block, of_block(state, index))  # type: ignore[arg-type]
    return result.eval()
