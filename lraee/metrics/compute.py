"""Compute in closed form: multiply-accumulates (MACs) per image.

torch's FlopCounterMode misses the fused attention path and every INT8 kernel, so costs are counted from the shapes;
the tests check them against that counter on an FP32 tower with plain attention.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lraee.models.shape import TowerShape

SCALARS_PER_GATE = 3
"""Confidence, margin and SAV: one product each in a gate."""


def linear_macs(rows: int, inputs: int, outputs: int) -> int:
    """MACs of a Linear applied to `rows` vectors."""
    return rows * inputs * outputs


def stem_macs(shape: TowerShape) -> int:
    """MACs of the patch embedding; [CLS] is not embedded."""
    return linear_macs(shape.tokens - 1, shape.patch, shape.width)


def block_macs(shape: TowerShape) -> int:
    """MACs of one block: QKV, attention products, output projection, MLP."""
    t, d = shape.tokens, shape.width
    attention = linear_macs(t, d, 3 * d) + 2 * t * t * d + linear_macs(t, d, d)
    return attention + 2 * linear_macs(t, d, shape.hidden)


def head_macs(shape: TowerShape) -> int:
    """MACs of the model's own head, without the class products."""
    return linear_macs(1, shape.width, shape.embedding) if shape.projected else 0


def tower_macs(shape: TowerShape) -> int:
    """MACs of the whole vision tower."""
    return stem_macs(shape) + shape.depth * block_macs(shape) + head_macs(shape)


def full_depth_macs(shape: TowerShape, classes: int) -> int:
    """MACs of the model as it is: the whole tower and the products with the classes."""
    return tower_macs(shape) + linear_macs(1, shape.embedding, classes)


def exit_macs(shape: TowerShape, classes: int, gated: bool) -> int:
    """MACs of evaluating one exit: its two-layer head, the class products, and SAV and gate where it has one."""
    head = linear_macs(1, shape.width, shape.width) + linear_macs(1, shape.width, shape.embedding)
    gate = (shape.tokens - 1) * shape.width + SCALARS_PER_GATE if gated else 0
    return head + linear_macs(1, shape.embedding, classes) + gate


@dataclass(frozen=True)
class ExitCosts:
    """MACs of leaving at each of a policy's exits and, last, at full depth; and of full depth with no exits at all."""

    leaving: NDArray[np.float64]
    full: float

    def saved(self, shares: NDArray[np.float64]) -> float:
        """Share of the MACs saved, when `shares` of the images leave at each place; negative if overhead wins."""
        return float(1.0 - shares @ self.leaving / self.full)


def exit_costs(shape: TowerShape, classes: int, layers: Sequence[int], gated: bool) -> ExitCosts:
    """Cost of leaving at each of `layers` (1..depth, ascending) or at the end.

    Whoever reaches an exit has paid for every exit on the way. Counted: stem, blocks, all heads and gates met, class
    products, and at the end the model's own head.
    """
    exits = np.arange(1, len(layers) + 1) * exit_macs(shape, classes, gated)
    at_exits = stem_macs(shape) + np.asarray(layers) * block_macs(shape) + exits
    full = full_depth_macs(shape, classes)
    at_end = full + len(layers) * exit_macs(shape, classes, gated)
    return ExitCosts(np.append(at_exits, at_end).astype(np.float64), float(full))


def static_cost(shape: TowerShape, classes: int, layer: int) -> float:
    """MACs of a network that always leaves at `layer`, where it has its only head."""
    return float(stem_macs(shape) + layer * block_macs(shape) + exit_macs(shape, classes, gated=False))
