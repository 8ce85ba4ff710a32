"""Costs beside torch's own counter, with attention as plain products.

The counter sees convolutions and matrix products. Excluded on both sides: biases, LayerNorm, softmax, GELU, additions.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lraee.metrics.compute import (
    block_macs,
    exit_costs,
    exit_macs,
    head_macs,
    linear_macs,
    static_cost,
    stem_macs,
    tower_macs,
)
from lraee.models.shape import TowerShape

VIT_B_32 = TowerShape(depth=12, tokens=50, width=768, hidden=3072, patch=3072, embedding=512, projected=True)
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
    assert exit_macs(VIT_B_32, 1000, gated=False) / 1e6 == pytest.approx(1.5, abs=0.05)


def test_an_ssa_head_is_what_torch_counts() -> None:
    head = nn.Sequential(nn.Linear(768, 768), nn.GELU(), nn.Linear(768, 512), nn.Linear(512, 1000))
    plain = _counted(head, torch.zeros(1, 768))
    assert exit_macs(VIT_B_32, 1000, gated=False) == plain
    # SAV squares every feature of every patch; the gate has three products.
    assert exit_macs(VIT_B_32, 1000, gated=True) == plain + 49 * 768 + 3


def test_exit_costs_by_hand() -> None:
    # Stem 1*4*2 = 8. Block: 2*2*6 + 2*2*2*2 + 2*2*2 + 2*2*2*3 = 24 + 16 + 8 + 24 = 72. Head 2*5 = 10.
    shape = TowerShape(depth=3, tokens=2, width=2, hidden=3, patch=4, embedding=5, projected=True)
    assert (stem_macs(shape), block_macs(shape), head_macs(shape)) == (8, 72, 10)
    # One exit: 2*2 + 2*5 + 5*7 = 49; gated + 1*2 + 3 = 54.
    costs = exit_costs(shape, 7, [1, 2], gated=True)
    full = 8 + 3 * 72 + 10 + 5 * 7
    assert costs.full == full
    assert costs.leaving.tolist() == [8 + 72 + 54, 8 + 144 + 108, full + 108]
    assert costs.saved(np.array([1.0, 0.0, 0.0])) == pytest.approx(1 - 134 / full)
    assert costs.saved(np.array([0.0, 0.0, 1.0])) == pytest.approx(-108 / full)
    assert static_cost(shape, 7, 2) == 8 + 144 + 49


@settings(deadline=None, max_examples=50)
@given(shapes, st.integers(1, 1000), st.booleans(), st.data())
def test_leaving_later_costs_more_and_shares_are_averaged(
    shape: TowerShape, classes: int, gated: bool, data: st.DataObject
) -> None:
    layers = sorted(data.draw(st.sets(st.integers(1, shape.depth - 1), min_size=1)))
    costs = exit_costs(shape, classes, layers, gated)
    assert (np.diff(costs.leaving) > 0).all()
    # Nobody leaving saves nothing and pays for every head.
    stay = np.zeros(len(layers) + 1)
    stay[-1] = 1.0
    assert costs.saved(stay) == pytest.approx(-len(layers) * exit_macs(shape, classes, gated) / costs.full)
    shares = np.asarray(data.draw(st.lists(st.floats(0.01, 1.0), min_size=len(layers) + 1, max_size=len(layers) + 1)))
    shares = shares / shares.sum()
    each = [costs.saved(row) for row in np.eye(len(shares))]
    assert costs.saved(shares) == pytest.approx(float(np.dot(shares, each)))


@settings(deadline=None, max_examples=30)
@given(shapes)
def test_no_exit_at_all_costs_full_depth(shape: TowerShape) -> None:
    costs = exit_costs(shape, 10, [], gated=True)
    assert costs.leaving.tolist() == [costs.full]
    assert costs.full == tower_macs(shape) + linear_macs(1, shape.embedding, 10)


def test_a_blocks_cost_grows_with_every_size() -> None:
    for name in ("tokens", "width", "hidden"):
        assert block_macs(replace(VIT_B_32, **{name: getattr(VIT_B_32, name) + 1})) > block_macs(VIT_B_32)
