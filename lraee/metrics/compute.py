"""Compute in closed form: multiply-accumulates (MACs) and bit operations (BOPs) per image.

torch's FlopCounterMode misses the fused attention path and every INT8 kernel, so costs are counted from the shapes;
the tests check them against that counter on an FP32 tower with plain attention. BOPs are MACs times the bits of both
factors, summed over the parts of each block, which may all differ in bits (APQ/MAQEE count sum_l MACs_l b_l^2 over the
executed blocks); what a quantizer leaves alone counts 32 x 32.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lraee.models.shape import TowerShape
from lraee.quantize.schemes import Coverage, Part

if TYPE_CHECKING:
    from lraee.models.tower import Tower

FLOAT_BITS = 32

BlockBits: TypeAlias = Mapping[Part, tuple[int, int]]
"""Bits of both factors of a block's products, weights before activations; what is missing has 32 x 32."""


def linear_macs(rows: int, inputs: int, outputs: int) -> int:
    """MACs of a Linear applied to `rows` vectors."""
    return rows * inputs * outputs


def stem_macs(shape: TowerShape) -> int:
    """MACs of the patch embedding; [CLS] is not embedded."""
    return linear_macs(shape.tokens - 1, shape.patch, shape.width)


def part_macs(shape: TowerShape) -> dict[Part, int]:
    """MACs of each part of one block."""
    t, d = shape.tokens, shape.width
    mlp = linear_macs(t, d, shape.hidden)
    return {
        "qkv": linear_macs(t, d, 3 * d), "products": 2 * t * t * d, "proj": linear_macs(t, d, d), "fc1": mlp, "fc2": mlp
    }  # fmt: skip


def block_macs(shape: TowerShape) -> int:
    """MACs of one block."""
    return sum(part_macs(shape).values())


def head_macs(shape: TowerShape) -> int:
    """MACs of the model's own head, without the class products."""
    return linear_macs(1, shape.width, shape.embedding) if shape.projected else 0


def tower_macs(shape: TowerShape) -> int:
    """MACs of the whole vision tower."""
    return stem_macs(shape) + shape.depth * block_macs(shape) + head_macs(shape)


def head_exit_macs(shape: TowerShape) -> int:
    """MACs of an exit's two-layer head, without the class products."""
    return linear_macs(1, shape.width, shape.width) + linear_macs(1, shape.width, shape.embedding)


def block_bops(shape: TowerShape, bits: BlockBits) -> int:
    """BOPs of one block."""
    full = (FLOAT_BITS, FLOAT_BITS)
    return sum(macs * math.prod(bits.get(part, full)) for part, macs in part_macs(shape).items())


def coverage_of(tower: "Tower", bits_by_block: Sequence[BlockBits], added_macs: int = 0) -> Coverage:
    """Measure what quantizing the blocks of an FP32 tower to these bits covers, one entry a block; stem and head not.

    `added_macs` in FP32 count in the BOPs of every block, but are no part of the tower that is covered.

    Raises ValueError where no Linear has fewer than 32 x 32 bits, or the entries are not as many as the blocks.
    """
    shape, parts, full = tower.shape, part_macs(tower.shape), (FLOAT_BITS, FLOAT_BITS)
    by_block = [bits for _, bits in zip(tower.blocks, bits_by_block, strict=True)]
    added = added_macs * FLOAT_BITS**2
    reached = [(part, *pair) for bits in by_block for part, pair in bits.items() if pair != full]
    linears = [(parts[part], weights, activations) for part, weights, activations in reached if part != "products"]
    if not linears:
        raise ValueError("the quantization scheme quantizes no Linear: name at least one, with fewer than 32 bits")
    in_linears = sum(macs for macs, _, _ in linears)
    return Coverage(
        parameters=sum(macs for macs, weights, _ in linears if weights < FLOAT_BITS)
        / (shape.tokens * sum(parameter.numel() for parameter in tower.parameters())),
        macs=sum(parts[part] for part, _, _ in reached) / tower_macs(shape),
        weight_bits=sum(macs * weights for macs, weights, _ in linears) / in_linears,
        activation_bits=sum(macs * activations for macs, _, activations in linears) / in_linears,
        stem_bops=float(stem_macs(shape) * FLOAT_BITS**2),
        block_bops=tuple(float(block_bops(shape, bits) + added) for bits in by_block),
        head_bops=float(head_macs(shape) * FLOAT_BITS**2),
    )


def whole_tower(shape: TowerShape, bits: int) -> Coverage:
    """Coverage of a tower in which all factors of all products have the same bits; at 32 it covers nothing."""
    share = float(bits < FLOAT_BITS)
    return Coverage(
        parameters=share, macs=share, weight_bits=bits, activation_bits=bits,
        stem_bops=float(stem_macs(shape) * bits**2),
        block_bops=(float(block_macs(shape) * bits**2),) * shape.depth,
        head_bops=float(head_macs(shape) * bits**2),
    )  # fmt: skip


@dataclass(frozen=True)
class Components:
    """Cost of each part for one image, in one unit (MACs or BOPs): `blocks` one by one, `gate` what a policy adds."""

    stem: float
    blocks: tuple[float, ...]
    own_head: float
    exit_head: float
    class_products: float
    gate: float


def components(shape: TowerShape, classes: int, gate: int) -> Components:
    """MACs of each part; `gate` is what the exit policy adds at every exit (Policy.macs)."""
    return Components(
        stem=float(stem_macs(shape)),
        blocks=(float(block_macs(shape)),) * shape.depth,
        own_head=float(head_macs(shape)),
        exit_head=float(head_exit_macs(shape)),
        class_products=float(linear_macs(1, shape.embedding, classes)),
        gate=float(gate),
    )


def bit_operations(macs: Components, coverage: Coverage) -> Components:
    """Turn MACs into BOPs: in the tower those of the coverage; what exits add, and class products, count 32 x 32."""
    full = float(FLOAT_BITS**2)
    return Components(
        stem=coverage.stem_bops,
        blocks=coverage.block_bops,
        own_head=coverage.head_bops,
        exit_head=macs.exit_head * full,
        class_products=macs.class_products * full,
        gate=macs.gate * full,
    )


@dataclass(frozen=True)
class ExitCosts:
    """Cost of leaving at each of a policy's exits and, last, at full depth; and of the model as it is, with no exits.

    `blocks` and `full_blocks` are the same for the executed blocks alone.
    """

    leaving: NDArray[np.float64]
    full: float
    blocks: NDArray[np.float64]
    full_blocks: float


def exit_costs(parts: Components, layers: Sequence[int], refitted: bool = False) -> ExitCosts:
    """Cost of leaving at each of `layers` (1..depth, ascending) or at the end.

    Whoever reaches an exit has paid for every exit on the way. Counted: stem, blocks, all heads and gates met, class
    products, and at the end the model's own head, or where the full-depth head is `refitted`, a head like an exit's.
    """
    exit_ = parts.exit_head + parts.class_products + parts.gate
    met = np.append(np.arange(1, len(layers) + 1), len(layers)) * exit_
    executed = np.cumsum(parts.blocks)
    blocks = executed[[*(layer - 1 for layer in layers), -1]]
    leaving = parts.stem + blocks + met
    leaving[-1] += (parts.exit_head if refitted else parts.own_head) + parts.class_products
    full_blocks = float(executed[-1])
    full = parts.stem + full_blocks + parts.own_head + parts.class_products
    return ExitCosts(leaving, full, blocks, full_blocks)


def static_costs(parts: Components, layer: int) -> ExitCosts:
    """Cost of a network that always leaves at `layer`, where it has its only head: one place, no gate."""
    costs = exit_costs(parts, [layer])
    leaving = parts.stem + costs.blocks[:1] + parts.exit_head + parts.class_products
    return ExitCosts(leaving, costs.full, costs.blocks[:1], costs.full_blocks)
