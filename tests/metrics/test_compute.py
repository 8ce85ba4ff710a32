"""Costs beside torch's own counter, with attention as plain products.

The counter sees convolutions and matrix products. Excluded on both sides: biases, LayerNorm, softmax, GELU, additions.
"""

import json
from dataclasses import asdict, replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lraee.exits.policies import POLICIES
from lraee.metrics.compute import (
    FLOAT_BITS,
    BlockBits,
    Components,
    bit_operations,
    block_bops,
    block_macs,
    components,
    coverage_of,
    exit_costs,
    head_exit_macs,
    head_macs,
    linear_macs,
    part_macs,
    static_costs,
    stem_macs,
    tower_macs,
    whole_tower,
)
from lraee.models.shape import TowerShape
from lraee.models.tower import ROLES
from lraee.quantize.schemes import Coverage, Part
from lraee.quantize.schemes.dynamic_int8 import DynamicInt8
from tests import examples

VIT_B_32 = TowerShape(depth=12, tokens=50, width=768, hidden=3072, patch=3072, embedding=512, projected=True)
PARTS: tuple[Part, ...] = ("qkv", "products", "proj", "fc1", "fc2")
pairs = st.tuples(st.integers(2, FLOAT_BITS), st.integers(2, FLOAT_BITS))
blocks = st.dictionaries(st.sampled_from(PARTS), pairs)
shapes = st.builds(
    TowerShape,
    depth=st.integers(2, 12),
    tokens=st.integers(2, 60),
    width=st.integers(1, 40),
    hidden=st.integers(1, 90),
    patch=st.integers(1, 50),
    embedding=st.integers(1, 30),
    projected=st.booleans(),
)


def _counted(module: nn.Module, x: torch.Tensor) -> int:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(x)
    assert counter.get_total_flops() % 2 == 0
    return counter.get_total_flops() // 2


def test_every_part_is_what_torch_counts(tower: Any, pixels: torch.Tensor) -> None:
    z = tower.stem(pixels[:1])
    assert stem_macs(tower.shape) == _counted(tower.stem, pixels[:1])
    assert block_macs(tower.shape) == _counted(tower.blocks[0], z)
    assert head_macs(tower.shape) == _counted(tower.head, z)
    assert tower_macs(tower.shape) == _counted(tower, pixels[:1])


def test_the_parts_of_a_block_are_what_torch_counts(tower: Any, pixels: torch.Tensor) -> None:
    block, parts = tower.blocks[0], part_macs(tower.shape)
    normed = torch.zeros(1, tower.shape.tokens, tower.shape.width)
    for role in ROLES:
        linear = getattr(block, role)
        assert parts[role] == _counted(linear, normed[..., :1].expand(-1, -1, linear.in_features))
    around = _counted(block.qkv, normed) + _counted(block.proj, normed)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        block.attention(normed)
    assert parts["products"] == counter.get_total_flops() // 2 - around
    assert sum(parts.values()) == block_macs(tower.shape)


@pytest.mark.parametrize("extra", [{"mlp_ratio": 2.0}, {"patch_size": 16}, {"width": 48, "layers": 2}])
def test_other_towers_are_what_torch_counts(make_clip: Any, pixels: torch.Tensor, extra: dict[str, Any]) -> None:
    from lraee.models.open_clip_tower import tower_of

    tower = tower_of(make_clip(f"counted-{next(iter(extra))}".replace("_", "-"), **extra).model)
    assert tower_macs(tower.shape) == _counted(tower, pixels[:1])


def test_a_tower_without_projection_is_what_torch_counts() -> None:
    from lraee.models.timm_tower import timm, tower_of

    model = timm.models.vision_transformer.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=5
    )
    tower = tower_of(model.eval())
    assert head_macs(tower.shape) == 0
    assert tower_macs(tower.shape) == _counted(tower, torch.zeros(1, 3, 32, 32))


def test_open_clips_own_vit_b_32_costs_as_much() -> None:
    from lraee.models.open_clip_tower import open_clip

    visual = open_clip.create_model("ViT-B-32").visual.train()  # training mode keeps the fused attention path off
    assert tower_macs(VIT_B_32) == _counted(visual, torch.zeros(1, 3, 224, 224))


def test_vit_b_32_costs_the_known_figures() -> None:
    assert block_macs(VIT_B_32) / 1e6 == pytest.approx(357.7, abs=0.05)
    assert 12 * block_macs(VIT_B_32) / 1e9 == pytest.approx(4.293, abs=0.0005)
    assert stem_macs(VIT_B_32) / 1e9 == pytest.approx(0.116, abs=0.0005)
    parts = components(VIT_B_32, 1000, 0)
    assert (parts.exit_head + parts.class_products) / 1e6 == pytest.approx(1.5, abs=0.05)


def test_an_ssa_head_is_what_torch_counts() -> None:
    head, products = nn.Sequential(nn.Linear(768, 768), nn.GELU(), nn.Linear(768, 512)), nn.Linear(512, 1000)
    parts = components(VIT_B_32, 1000, POLICIES["learned-gate"].macs(VIT_B_32, ("confidence", "margin", "sav")))
    assert parts.exit_head == head_exit_macs(VIT_B_32) == _counted(head, torch.zeros(1, 768))
    assert parts.class_products == _counted(products, torch.zeros(1, 512))
    # SAV squares every feature of every patch; the gate has three products.
    assert parts.gate == 49 * 768 + 3


# Stem 1*4*2 = 8. Block: 2*2*6 + 2*2*2*2 + 2*2*2 + 2*2*2*3 = 24 + 16 + 8 + 24 = 72. Head 2*5 = 10. An exit's head:
# 2*2 + 2*5 = 14; products with 7 classes: 5*7 = 35. The whole tower: 8 + 3*72 + 10 = 234.
SMALL = TowerShape(depth=3, tokens=2, width=2, hidden=3, patch=4, embedding=5, projected=True)
FULL = 234 + 35


def test_components_by_hand() -> None:
    assert (stem_macs(SMALL), block_macs(SMALL), head_macs(SMALL), tower_macs(SMALL)) == (8, 72, 10, 234)
    parts = components(SMALL, 7, gate=5)
    assert parts == Components(stem=8, blocks=(72, 72, 72), own_head=10, exit_head=14, class_products=35, gate=5)


def test_exit_costs_by_hand() -> None:
    costs = exit_costs(components(SMALL, 7, gate=5), [1, 2])
    assert costs.full == FULL
    assert costs.leaving.tolist() == [8 + 72 + 54, 8 + 144 + 108, FULL + 108]
    assert (costs.blocks.tolist(), costs.full_blocks) == ([72, 144, 216], 216)


def test_a_head_refitted_at_full_depth_costs_an_exits_head_instead_of_the_own_one() -> None:
    parts = components(SMALL, 7, gate=5)
    own, refitted = (exit_costs(parts, [1, 2], refitted=refitted) for refitted in (False, True))
    assert refitted.leaving.tolist() == [*own.leaving[:-1], own.leaving[-1] - 10 + 14]
    assert refitted.full == own.full == FULL  # still compared with the model as it is


def test_a_static_exit_has_one_head_one_place_and_no_gate() -> None:
    for layer in (1, 2, 3):
        costs = static_costs(components(SMALL, 7, gate=5), layer)
        assert costs.leaving.tolist() == [8 + layer * 72 + 14 + 35]
        assert (costs.blocks.tolist(), costs.full, costs.full_blocks) == ([layer * 72], FULL, 216)


def small_tower(shape: TowerShape = SMALL, parameters: int = 1000) -> Any:
    """All that coverage asks of a tower: its sizes, its blocks' number and its parameters'."""
    return SimpleNamespace(shape=shape, blocks=[None] * shape.depth, parameters=lambda: iter([torch.zeros(parameters)]))


# MACs of the parts of SMALL's block: QKV 24, products 16, projection 8, MLP 12 + 12. Weights: 12, none, 4, 6 + 6.
MIXED: list[BlockBits] = [
    {"qkv": (4, 8), "products": (8, 8), "fc1": (8, 4)},
    {"proj": (2, 3), "fc2": (32, 32)},
    {},
]


def test_the_coverage_of_mixed_bits_by_hand() -> None:
    found = coverage_of(small_tower(), MIXED)
    assert found.block_bops == (24 * 32 + 16 * 64 + 12 * 32 + (8 + 12) * 1024, 8 * 6 + 64 * 1024, 72 * 1024)
    assert (found.stem_bops, found.head_bops) == (8 * 1024, 10 * 1024)
    assert found.parameters == (12 + 6 + 4) / 1000
    only_inputs: list[BlockBits] = [{**bits, "fc2": (32, 8)} for bits in MIXED]
    assert coverage_of(small_tower(), only_inputs).parameters == found.parameters
    assert found.macs == (24 + 16 + 12 + 8) / 234  # the products are reached too
    assert found.weight_bits == (24 * 4 + 12 * 8 + 8 * 2) / 44  # but have no weights
    assert found.activation_bits == (24 * 8 + 12 * 4 + 8 * 3) / 44


def test_coverage_survives_the_header_of_a_file() -> None:
    found = coverage_of(small_tower(), MIXED)
    assert TypeAdapter(Coverage).validate_python(json.loads(json.dumps(asdict(found)))) == found


def test_coverage_refuses_too_few_or_too_many_blocks_and_bits_that_reach_no_linear() -> None:
    for number in (2, 4):
        with pytest.raises(ValueError, match="zip"):
            coverage_of(small_tower(), [{"qkv": (4, 4)}] * number)
    for nothing in ({}, {"products": (4, 4)}, {"qkv": (32, 32)}):
        with pytest.raises(ValueError, match="quantizes no Linear"):
            coverage_of(small_tower(), [nothing] * 3)  # type: ignore[list-item]


@settings(max_examples=examples(13))
@given(shapes, pairs)
def test_a_block_with_the_same_bits_everywhere_costs_macs_times_both(shape: TowerShape, pair: tuple[int, int]) -> None:
    assert block_bops(shape, dict.fromkeys(PARTS, pair)) == block_macs(shape) * pair[0] * pair[1]
    assert block_bops(shape, {}) == block_macs(shape) * 1024


@settings(max_examples=examples(13))
@given(shapes, blocks)
def test_a_block_of_mixed_bits_saves_the_sum_of_what_its_parts_save(shape: TowerShape, bits: BlockBits) -> None:
    each = [block_macs(shape) * 1024 - block_bops(shape, {part: pair}) for part, pair in bits.items()]
    assert block_bops(shape, bits) == block_macs(shape) * 1024 - sum(each)


@settings(max_examples=examples(13))
@given(shapes, blocks, st.sampled_from(PARTS), st.integers(0, 1))
def test_one_bit_less_costs_less(shape: TowerShape, bits: BlockBits, part: Part, factor: int) -> None:
    before = bits.get(part, (FLOAT_BITS, FLOAT_BITS))
    fewer = (before[0] - (factor == 0), before[1] - (factor == 1))
    assert block_bops(shape, {**bits, part: fewer}) < block_bops(shape, bits)


@settings(max_examples=examples(13))
@given(shapes, st.integers(2, 8), st.integers(2, 8))
def test_bits_that_are_the_same_everywhere_are_their_own_mean(shape: TowerShape, weights: int, acts: int) -> None:
    found = coverage_of(small_tower(shape), [dict.fromkeys(PARTS, (weights, acts))] * shape.depth)
    assert (found.weight_bits, found.activation_bits) == (weights, acts)
    assert found.macs == pytest.approx(shape.depth * block_macs(shape) / tower_macs(shape))


def test_a_whole_tower_in_32_bits_is_not_quantized_and_in_16_it_is() -> None:
    full, half = whole_tower(SMALL, 32), whole_tower(SMALL, 16)
    assert (full.parameters, full.macs, full.weight_bits, full.activation_bits) == (0.0, 0.0, 32, 32)
    assert (half.parameters, half.macs, half.weight_bits, half.activation_bits) == (1.0, 1.0, 16, 16)
    assert (full.stem_bops, full.block_bops, full.head_bops) == (8 * 1024, (72 * 1024,) * 3, 10 * 1024)
    assert (half.stem_bops, half.block_bops, half.head_bops) == (8 * 256, (72 * 256,) * 3, 10 * 256)


# With MIXED, the blocks have 22,656, 65,584 and 73,728 BOPs.


def test_bit_operations_by_hand() -> None:
    bops = bit_operations(components(SMALL, 7, gate=5), coverage_of(small_tower(), MIXED))
    assert bops.blocks == (22_656, 65_584, 73_728)
    assert (bops.stem, bops.own_head, bops.exit_head, bops.class_products, bops.gate) == tuple(
        1024 * macs for macs in (8, 10, 14, 35, 5)
    )


def test_bit_operations_of_exits_in_blocks_of_unlike_bits_by_hand() -> None:
    bops = bit_operations(components(SMALL, 7, gate=5), coverage_of(small_tower(), MIXED))
    costs = exit_costs(bops, [1, 2])
    assert costs.blocks.tolist() == [22_656, 88_240, 161_968]
    assert costs.leaving.tolist() == [22_656 + 62 * 1024, 88_240 + 116 * 1024, 161_968 + 161 * 1024]
    assert (costs.full_blocks, costs.full) == (161_968, 161_968 + 53 * 1024)
    static = static_costs(bops, 2)
    assert (static.leaving.tolist(), static.blocks.tolist()) == ([88_240 + 57 * 1024], [88_240])
    assert (static.full_blocks, static.full) == (costs.full_blocks, costs.full)


@settings(max_examples=examples(13))
@given(shapes, st.integers(1, 1000), st.integers(0, 99), st.integers(2, FLOAT_BITS))
def test_a_whole_tower_costs_its_bits_squared_and_what_exits_add_1024(
    shape: TowerShape, classes: int, gate: int, bits: int
) -> None:
    macs = components(shape, classes, gate)
    bops = bit_operations(macs, whole_tower(shape, bits))
    for part in ("stem", "own_head"):
        assert getattr(bops, part) == bits**2 * getattr(macs, part)
    assert bops.blocks == tuple(bits**2 * block for block in macs.blocks)
    for part in ("exit_head", "class_products", "gate"):
        assert getattr(bops, part) == 1024 * getattr(macs, part)


@pytest.mark.parametrize("reading", ["all_linears", "mlp_only"])
def test_bit_operations_of_a_quantizer_are_those_of_the_linears_that_it_covers(tower: Any, reading: str) -> None:
    covers = DynamicInt8(scheme="dynamic-int8", reading=reading).coverage(tower, {})
    names = ROLES if reading == "all_linears" else ("fc1", "fc2")
    x = torch.zeros(1, tower.shape.tokens, 1)
    for block, bops in zip(tower.blocks, covers.block_bops, strict=True):
        reached = [getattr(block, name) for name in names]
        quantized = sum(_counted(linear, x.expand(-1, -1, linear.in_features)) for linear in reached)
        whole = _counted(block, x.expand(-1, -1, tower.shape.width))
        assert bops == quantized * 8 * 7 + (whole - quantized) * 1024


@settings(max_examples=examples(13))
@given(shapes, st.lists(blocks, min_size=12, max_size=12), st.integers(0, 99), st.data())
def test_what_two_exits_differ_by_is_the_blocks_between_them_and_one_exit(
    shape: TowerShape, bits: list[BlockBits], gate: int, data: st.DataObject
) -> None:
    reached: list[BlockBits] = [{**one, "fc2": (4, 4)} for one in bits[: shape.depth]]
    coverage = coverage_of(small_tower(shape), reached)
    parts = bit_operations(components(shape, 7, gate), coverage)
    layers = sorted(data.draw(st.sets(st.integers(1, shape.depth), min_size=1)))
    costs = exit_costs(parts, layers)
    between = [sum(coverage.block_bops[a:b]) for a, b in pairwise([0, *layers, shape.depth])]
    assert np.diff(costs.blocks, prepend=0.0) == pytest.approx(between)
    each = 1024 * (head_exit_macs(shape) + 7 * shape.embedding + gate)
    assert np.diff(costs.leaving[:-1], prepend=coverage.stem_bops) == pytest.approx(np.add(between[:-1], each))
    assert costs.full_blocks == pytest.approx(sum(coverage.block_bops))


@settings(max_examples=examples(17))
@given(shapes, st.integers(1, 1000), st.integers(0, 99), st.data())
def test_leaving_later_costs_more(shape: TowerShape, classes: int, gate: int, data: st.DataObject) -> None:
    layers = sorted(data.draw(st.sets(st.integers(1, shape.depth - 1), min_size=1)))
    parts = components(shape, classes, gate)
    costs = exit_costs(parts, layers)
    assert (np.diff(costs.leaving) > 0).all()
    assert (np.diff(costs.blocks) > 0).all()
    # Nobody leaving saves nothing and pays for every head.
    each = parts.exit_head + parts.class_products + parts.gate
    assert costs.leaving[-1] - costs.full == pytest.approx(len(layers) * each)
    assert costs.blocks[-1] == costs.full_blocks


@settings(max_examples=examples(10))
@given(shapes)
def test_no_exit_at_all_costs_full_depth(shape: TowerShape) -> None:
    costs = exit_costs(components(shape, 10, gate=3), [])
    assert costs.leaving.tolist() == [costs.full]
    assert costs.full == tower_macs(shape) + linear_macs(1, shape.embedding, 10)


def test_a_blocks_cost_grows_with_every_size() -> None:
    for name in ("tokens", "width", "hidden"):
        assert block_macs(replace(VIT_B_32, **{name: getattr(VIT_B_32, name) + 1})) > block_macs(VIT_B_32)
