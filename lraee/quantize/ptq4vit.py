"""PTQ4ViT (arXiv 2111.12293): symmetric and twin uniform grids, scales searched by a weighted output error."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lraee.models.tower import ROLES, Block, Tower, sharing_copy
from lraee.quantize.activation_grids import AffineGrid, Grid, StaticGrid, static_grid
from lraee.quantize.blocks import with_prefix
from lraee.quantize.calibrate import first_states
from lraee.quantize.curvature import Goal, embedding_gradients, goal_of
from lraee.quantize.grids import SMALLEST_SCALE, quantize_weight
from lraee.quantize.layers import QuantizedLinear, QuantizedMix, SimulatedLinear
from lraee.quantize.scale_search import Factor, Search
from lraee.quantize.schemes import Batches, QuantizerState, Role
from lraee.quantize.trace import PRODUCT_SITES, Site
from lraee.quantize.twin_grids import GeluGrid, SoftmaxGrid, lowest_value

PARTS: dict[Role, int] = {"qkv": 3, "proj": 1, "fc1": 1, "fc2": 1}
"""Into how many parts with a scale of their own a weight matrix falls."""

FRACTIONS = torch.linspace(0.01, 1.2, 100)
"""Scales are looked for among these fractions of the one that just covers all values."""

SPLITS = 2.0 ** -torch.arange(20)
_FIRST_SPLIT = 7
"""The power of two next to 0.01, where the published search starts."""


@dataclass(frozen=True)
class Bits:
    """Bits of weights and of activations."""

    weights: int
    activations: int


def calibrate(tower: Tower, bits: Bits, images: int, batches: Batches) -> QuantizerState:
    """Find the scales of every block, on what the FP32 blocks before it yield, towards FP32 outputs.

    The state holds `<role>.weight_scale` (out,); `<site>.input_scale` and `.input_zero_point` of symmetric grids, ()
    or for `q`, `k` and `v` by head (heads, 1, 1); `fc2.input_scale` () of the positive range; `softmax.split` ().
    ValueError where there is no image.
    """
    generator = torch.Generator().manual_seed(0)
    state: QuantizerState = {}
    with torch.no_grad():
        states = [torch.cat(first_states(tower, batches, images))]
        for block in tower.blocks:
            states.append(block(states[-1]))
        gradients = embedding_gradients(tower, states, generator)
        for index, block in enumerate(tower.blocks):
            goal = goal_of(block, states[index], gradients[index])  # type: ignore[arg-type]
            search = BlockSearch(block, goal, bits, generator)  # type: ignore[arg-type]
            state |= with_prefix(search.run(states[index]), index)
    return state


class BlockSearch:
    """Finds one block's scales while the block runs, each on what its quantized modules before it yield."""

    def __init__(self, block: Block, goal: Goal, bits: Bits, generator: torch.Generator) -> None:
        self.block, self.goal, self.bits, self.generator = block, goal, bits, generator
        self.state: QuantizerState = {}

    def run(self, z: Tensor) -> QuantizerState:
        """Find all scales from what goes into the block, z (B, T, width)."""
        block = self.block
        mixed = self._mixed(*block.split(self._linear("qkv", block.norm1(z))))
        z = z + block.scale1(self._linear("proj", mixed.transpose(1, 2).flatten(2)))
        self._linear("fc2", block.act(self._linear("fc1", block.norm2(z))))
        return self.state

    def _linear(self, role: Role, x: Tensor) -> Tensor:
        """Find the scales of a Linear and of its input x (B, T, in); what it then yields."""
        linear, bits, parts = getattr(self.block, role), self.bits, PARTS[role]
        rows, outputs = x.flatten(0, 1)[None, None], self.goal.outputs[role]
        inputs = _above(rows, bits.activations, self.block.act) if role == "fc2" else _symmetric(rows, bits.activations)
        weight = _symmetric(linear.weight.unflatten(0, (parts, -1))[None], bits.weights)
        outputs = outputs if linear.bias is None else outputs - linear.bias
        scale, weight_scale = self._found(
            inputs, weight, _by_part(outputs, parts), _by_part(self.goal.weights[role], parts)
        )
        self._keep(role, scale.squeeze())
        self.state[f"{role}.weight_scale"] = weight_scale.flatten().repeat_interleave(linear.out_features // parts)
        return quantized_linear(self.block, role, self.state, bits)(x)

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Find the scales of attention's factors (B, heads, T, d); what its products then yield, of the same shape."""
        bits, outputs, weights = self.bits.activations, self.goal.outputs, self.goal.weights
        found = self._found(_symmetric(q, bits), _symmetric(k, bits), outputs["logits"], weights["logits"])
        self._keep("q", found[0])
        self._keep("k", found[1])
        q_grid, k_grid = grid(self.block, "q", self.state, bits), grid(self.block, "k", self.state, bits)
        attention = torch.softmax(q_grid(q) @ k_grid(k).mT / q.shape[-1] ** 0.5, dim=-1)
        found = self._found(_of_softmax(attention, bits), _symmetric(v.mT, bits), outputs["mixed"], weights["mixed"])
        self.state["softmax.split"] = found[0].squeeze()
        self._keep("v", found[1])
        return quantized_mix(self.block, self.state, bits)(q, k, v)

    def _found(self, left: Factor, right: Factor, outputs: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        return Search(left, right, outputs, weights).sampled(self.generator).scales()

    def _keep(self, site: Site, scale: Tensor) -> None:
        self.state[f"{site}.input_scale"] = scale
        if site != "fc2":
            self.state[f"{site}.input_zero_point"] = scale.new_tensor(_middle(self.bits.activations))


def quantized(block: Block, state: QuantizerState, bits: Bits) -> Block:
    """Copy an FP32 block with Linears and attention's products quantized; KeyError where the state lacks a scale."""
    result = sharing_copy(block)
    for role in ROLES:
        result.set_submodule(role, quantized_linear(block, role, state, bits))
    result.mix = quantized_mix(block, state, bits.activations)
    return result


def quantized_linear(block: Block, role: Role, state: QuantizerState, bits: Bits) -> QuantizedLinear | SimulatedLinear:
    """Quantize one Linear of an FP32 block: with exact integer products, where its input's grid is uniform."""
    linear, inputs = getattr(block, role), grid(block, role, state, bits.activations)
    scale = state[f"{role}.weight_scale"].to(linear.weight.device)
    codes = quantize_weight(linear.weight, scale, bits.weights)
    if isinstance(inputs, AffineGrid):
        return QuantizedLinear(codes, scale, linear.bias, inputs)
    return SimulatedLinear(codes * scale[:, None], linear.bias, inputs)


def quantized_mix(block: Block, state: QuantizerState, bits: int) -> QuantizedMix:
    """Attention's products with all four factors rounded."""
    return QuantizedMix({site: grid(block, site, state, bits) for site in PRODUCT_SITES})


def grid(block: Block, site: Site, state: QuantizerState, bits: int) -> Grid:
    """Build the grid of a site: twin behind softmax and behind the activation function, symmetric elsewhere."""
    device = next(block.parameters()).device
    if site == "softmax":
        return SoftmaxGrid(bits, state["softmax.split"].to(device))
    if site == "fc2":
        return GeluGrid(bits, state["fc2.input_scale"].to(device), lowest_value(block.act))
    return static_grid(state, site, bits, device)


def _symmetric(values: Tensor, bits: int) -> Factor:
    """A factor (B, G, rows, n) on codes -2^(bits-1) .. 2^(bits-1)-1 times a scale for each of G."""
    zero_point = values.new_tensor(_middle(bits))
    return _scaled(values, values.abs(), bits, lambda scale: StaticGrid(bits, scale, zero_point))


def _above(values: Tensor, bits: int, act: nn.Module) -> Factor:
    """What an activation function yields: only the scale of its positive values is looked for."""
    lowest = lowest_value(act)
    return _scaled(values, values, bits, lambda scale: GeluGrid(bits, scale, lowest))


def _scaled(values: Tensor, reaching: Tensor, bits: int, of_scale: Callable[[Tensor], Grid]) -> Factor:
    """A factor whose scale is looked for around that which just covers what is `reaching` farthest."""
    largest = reaching.amax(dim=(0, 2, 3))[:, None, None]
    whole = (largest / (_middle(bits) - 0.5)).clamp_min(SMALLEST_SCALE)
    return Factor(values, of_scale, whole, FRACTIONS.to(whole)[:, None, None, None] * whole)


def _of_softmax(values: Tensor, bits: int) -> Factor:
    """Attention's weights: what is looked for is the split of their twin ranges."""
    splits = SPLITS.to(values)[:, None, None, None]
    return Factor(values, lambda split: SoftmaxGrid(bits, split), splits[_FIRST_SPLIT], splits)


def _by_part(outputs: Tensor, parts: int) -> Tensor:
    """What a Linear yields, (B, T, out), as a product of (1, parts, B * T, out / parts)."""
    return outputs.flatten(0, 1).unflatten(1, (parts, -1)).transpose(0, 1)[None]


def _middle(bits: int) -> float:
    """The zero point of a symmetric grid, and the number of its negative codes."""
    return 2.0 ** (bits - 1)
