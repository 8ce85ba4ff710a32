"""Calibration of APQ-style mixed precision: the base scheme at every bit-width, drift block by block, allocation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from lraee.metrics.compute import block_bops, part_macs
from lraee.models.tower import Block, Tower
from lraee.quantize.allocation import allocate_bits
from lraee.quantize.blocks import of_block, with_prefix
from lraee.quantize.calibrate import embed, first_states
from lraee.quantize.schemes import Batches, QuantizerState

if TYPE_CHECKING:
    from lraee.quantize.schemes.apq import Apq


def calibrate(tower: Tower, scheme: "Apq", batches: Batches) -> QuantizerState:
    """Calibrate the base at every bit-width, measure drift, and give each block the bits that the allocation chose.

    The state holds every block's part of the calibration at its bits, and beside it `bits` (), `utilisation` (), and
    `drift` (C,) at the candidates. ValueError where the utilisation is not yet measured, or has another depth.
    """
    utilisation = _shares(scheme, tower.shape.depth)
    candidates = sorted(set(scheme.bits))
    states = [scheme.at(bits).calibrate(tower, batches) for bits in candidates]
    drift = _drift(tower, scheme, candidates, states, batches)
    cost = np.array([_bops(tower, scheme, bits) for bits in candidates])
    full = sum(part_macs(tower.shape)[part] for part in scheme.at(candidates[0]).bits_by_part())
    budget = float(utilisation.sum()) * full * scheme.mean_bits**2
    chosen = allocate_bits(drift, np.tile(cost, (tower.shape.depth, 1)), budget, utilisation)
    state: QuantizerState = {}
    for index, choice in enumerate(chosen):
        own = of_block(states[choice], index)
        own |= {
            "bits": torch.tensor(candidates[choice]),
            "utilisation": torch.tensor(utilisation[index]),
            "drift": torch.from_numpy(drift[index]),
        }
        state |= with_prefix(own, index)
    return state


def _shares(scheme: "Apq", depth: int) -> NDArray[np.float64]:
    if scheme.utilisation is None:
        return np.ones(depth)
    if not isinstance(scheme.utilisation, tuple):
        raise ValueError(f"the exits of {scheme.utilisation.quantizer} have not been measured: `told` takes the shares")
    if len(scheme.utilisation) != depth:
        raise ValueError(f"utilisation has {len(scheme.utilisation)} shares, but the network has {depth} blocks")
    return np.array(scheme.utilisation)


def _bops(tower: Tower, scheme: "Apq", bits: int) -> float:
    """BOPs of what the base quantizes in a block at so many bits; the rest costs the same at any."""
    reached = scheme.at(bits).bits_by_part()
    rest = {part: (0, 0) for part in part_macs(tower.shape) if part not in reached}
    return float(block_bops(tower.shape, reached | rest))


@torch.inference_mode()
def _drift(
    tower: Tower, scheme: "Apq", candidates: Sequence[int], states: Sequence[QuantizerState], batches: Batches
) -> NDArray[np.float64]:
    """Measure the embedding's relative squared error with one block at each bit-width, the others in FP32: (L, C)."""
    clean = first_states(tower, batches, scheme.images)
    blocks: list[Block] = list(tower.blocks)  # type: ignore[arg-type]
    embedding = embed(blocks, tower.head, clean).double()
    drift = np.zeros((len(blocks), len(candidates)))
    for index, block in enumerate(blocks):
        for choice, (bits, state) in enumerate(zip(candidates, states, strict=True)):
            noisy = scheme.at(bits).block(block, of_block(state, index)).eval()
            moved = embed([noisy, *blocks[index + 1 :]], tower.head, clean).double()
            drift[index, choice] = float((moved - embedding).square().sum() / embedding.square().sum())
        clean = [block(z) for z in clean]
    return drift
