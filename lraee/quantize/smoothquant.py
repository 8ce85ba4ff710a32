"""SmoothQuant's factors (arXiv 2211.10438), and the search for its exponent."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lraee.models.tower import Block, Tower
from lraee.quantize import linears
from lraee.quantize.blocks import in_blocks
from lraee.quantize.calibrate import first_states
from lraee.quantize.linears import Recipe
from lraee.quantize.reparameterise import FOLDED, reparameterised
from lraee.quantize.schemes import Batches, QuantizerState
from lraee.quantize.trace import Site, trace

_SMOOTHED: tuple[Site, ...] = ("qkv", "fc1")

_SMALLEST = 1e-5
"""Below this a maximum counts as this, as in the published code: a dead channel keeps a finite factor."""


@torch.no_grad()
def calibrate(tower: Tower, recipe: Recipe, alphas: Sequence[float], images: int, batches: Batches) -> QuantizerState:
    """Fit factors, scales and ranges at the alpha whose embeddings of the first `images` lie nearest to FP32's.

    The state holds `blocks.<index>.alpha`, a single number, `.norm1.divisor` and `.norm2.divisor`, (width,), and what
    `linears.calibrate` finds in the smoothed tower. ValueError where there is no image.
    """
    largest = largest_inputs(tower, first_states(tower, batches))
    few = first_images(batches, images)
    expected = [tower(pixels) for pixels in few]

    def fitted(alpha: float, own: Batches) -> QuantizerState:
        factors = smoothing(tower, largest, alpha)
        return factors | linears.calibrate(in_blocks(tower, factors, reparameterised), recipe, own)

    def error(alpha: float) -> float:
        state = fitted(alpha, lambda: few)
        quantized = in_blocks(tower, state, lambda block, own: quantized_block(block, recipe, own))
        return sum(float((quantized(x) - y).square().sum()) for x, y in zip(few, expected, strict=True))

    return fitted(min(alphas, key=error), batches)


def first_images(batches: Batches, images: int) -> list[Tensor]:
    """The first `images` of the calibration set, in its batches (B, 3, H, W)."""
    found: list[Tensor] = []
    for pixels in batches():
        found.append(pixels[: images - sum(map(len, found))])
        if sum(map(len, found)) == images:
            break
    return found


def quantized_block(block: Block, recipe: Recipe, state: QuantizerState) -> Block:
    """Smooth an FP32 block and quantize its Linears; KeyError where the state lacks a scale."""
    return linears.quantized(reparameterised(block, state), recipe, state)


def smoothing(tower: Tower, largest: QuantizerState, alpha: float) -> QuantizerState:
    """The factors of every block at one alpha, and that alpha, from what `largest_inputs` found."""
    state: QuantizerState = {}
    for index, block in enumerate(tower.blocks):
        state[f"blocks.{index}.alpha"] = torch.tensor(alpha)
        for norm, role in FOLDED.items():
            weight = getattr(block, role).weight
            state[f"blocks.{index}.{norm}.divisor"] = factors(largest[f"blocks.{index}.{role}"], weight, alpha)
    return state


def factors(largest: Tensor, weight: Tensor, alpha: float) -> Tensor:
    """s_j of a Linear: its largest inputs (in,) to the alpha over its weights' (out, in) to the 1 - alpha; (in,)."""
    inputs, weights = largest.clamp_min(_SMALLEST), weight.abs().amax(dim=0).clamp_min(_SMALLEST)
    return inputs.pow(alpha) / weights.pow(1 - alpha)


def largest_inputs(tower: Tower, states: list[Tensor]) -> QuantizerState:
    """Largest magnitude of every input channel of `qkv` and `fc1`, (width,), of `blocks.<index>.<role>` by that name.

    `states` are z_0 of all images, (B, T, width) a batch.
    """
    found: QuantizerState = {}
    for z in states:
        for index, block in enumerate(tower.blocks):
            values, z = trace(block, z, _SMOOTHED)  # type: ignore[arg-type]
            for role, x in values.items():
                largest, name = x.abs().amax(dim=(0, 1)), f"blocks.{index}.{role}"
                found[name] = torch.maximum(found.get(name, largest), largest)
    return found
