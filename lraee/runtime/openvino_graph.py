"""An exported tower as OpenVINO graphs, built from its tensors: nothing is traced, so nothing is guessed.

Linears multiply bytes between FakeQuantize nodes that hold the exported scales. On CPUs without VNNI OpenVINO adds
pairs of such products in 16 bits that saturate (255 * 127 * 2 > 32767), and answers wrong without a word. So extreme
codes are tried first, as for torch's kernels (`lraee.quantize.kernels`); where they fail, the same rounded values are
multiplied in float32, which is faster than bytes there as well.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from openvino import opset15 as ops
from torch import Tensor, nn

from lraee.io import file_sha256
from lraee.models.assembly import QuickGelu
from lraee.models.shape import TowerShape
from lraee.models.tower import Block, Head, Stem, Tower
from lraee.quantize.activation_grids import AffineGrid, StaticGrid
from lraee.quantize.grids import SMALLEST_SCALE
from lraee.quantize.layers import QuantizedLinear
from lraee.runtime.exits import ExitHead
from lraee.runtime.graph_cache import core, kept_or_compiled, name_of

Node: TypeAlias = Any

_OWN_CODE = file_sha256(__file__)
"""Graphs that other code built are not taken for this one's."""

_LEVELS = 256
"""Of every FakeQuantize node: OpenVINO multiplies bytes only where there are as many levels as a byte has."""


def _settings(threads: int) -> dict[str, Any]:
    # In float32 where not in bytes: unasked, OpenVINO computes in bfloat16 where it can.
    return {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}


def compiled(model: openvino.Model, threads: int) -> openvino.CompiledModel:
    """Compile for the CPU."""
    return core().compile_model(model, "CPU", _settings(threads))


class Graph:
    """A graph of one input, batches first. Single images have one of their own, whose sizes are known when compiling.

    A small graph takes half the time so. Each of the two is built and compiled when first needed, and kept for other
    processes where `parts` say what it is made of.
    """

    def __init__(self, build: Callable[[], openvino.Model], threads: int, parts: Sequence[object] = ()) -> None:
        self._build, self._threads, self._parts = build, threads, parts
        self._requests: dict[bool, openvino.InferRequest] = {}

    def __call__(self, x: Tensor) -> tuple[NDArray[Any], ...]:
        """Run it, and take all results at once."""
        single = len(x) == 1
        if single not in self._requests:
            self._requests[single] = self._request(single)
        request = self._requests[single]
        # Inputs that are given to `infer`, and results looked up one by one, each take as long as a small graph.
        request.set_input_tensor(openvino.Tensor(x.contiguous().numpy(), shared_memory=True))
        results: tuple[NDArray[Any], ...] = request.infer().to_tuple()
        return results

    def _request(self, single: bool) -> openvino.InferRequest:
        def build() -> openvino.Model:
            model = self._build()
            if single:
                model.reshape([1, *list(model.input().partial_shape)[1:]])
            return model

        if not self._parts:
            return compiled(build(), self._threads).create_infer_request()
        name = name_of(*self._parts, single, self._threads, _OWN_CODE)
        return kept_or_compiled(name, _settings(self._threads), build).create_infer_request()


def segment(tower: Tower, span: tuple[int, int], size: tuple[int, int], head: ExitHead | None = None) -> openvino.Model:
    """Blocks first + 1 .. last of a tower that `rebuild` made, for batches of any size; `span` is (first, last).

    With the stem before block 1, pixels (B, 3, H, W) of `size` in; states (B, 1 + N, d) elsewhere. Out comes the state,
    or behind the last block embeddings (B, e); then with an exit's `head` its logits (B, K), class (B,), and every one
    of SIGNALS (B,), in order.
    """
    first, last = span
    if first == 0:
        given = ops.parameter([-1, 3, *size], np.float32)
        z = _stem(given, tower.stem)  # type: ignore[arg-type]
    else:
        z = given = ops.parameter([-1, tower.shape.tokens, tower.shape.width], np.float32)
    for block in tower.blocks[first:last]:
        z = _block(z, block)  # type: ignore[arg-type]
    if last == tower.shape.depth:
        z = _head(z, tower.head)  # type: ignore[arg-type]
    return openvino.Model([z, *(_exit(z, head, tower.shape) if head else [])], [given])


def _exit(z: Node, head: ExitHead, shape: TowerShape) -> list[Node]:
    ends = [_constant([start]) for start in (0, 1, shape.tokens)]
    step, patch_axis, last = _constant([1]), _constant([1]), _constant([1])
    patches = ops.slice(z, ends[1], ends[2], step, patch_axis)
    centre = ops.reduce_mean(patches, patch_axis, keep_dims=True)
    deviation = ops.subtract(patches, centre)
    sav = ops.reduce_mean(ops.reduce_sum(ops.multiply(deviation, deviation), _constant([2])), last)
    # Features are kept in float16, and heads were fitted to that.
    cls, mean = (
        _in_half(ops.squeeze(x, patch_axis)) for x in (ops.slice(z, ends[0], ends[1], step, patch_axis), centre)
    )
    x = mean if head.aggregation == "ssa" else cls
    logits = _logits(x, head)
    certainty = ops.squeeze(ops.matmul(x, _constant(head.probe.weights.mT), False, False), last)
    certainty = ops.add(certainty, _constant(head.probe.bias[0]))
    energy = ops.reduce_sum(ops.multiply(mean, mean), last)
    return [logits, *_summary(logits, len(head.classes.rows)), certainty, sav, energy]


def _in_half(x: Node) -> Node:
    """Round to the 11 bits that float16 keeps, by Veltkamp's splitting: OpenVINO drops conversions there and back."""
    large = ops.multiply(x, _constant(torch.tensor(2.0**13 + 1)))
    return ops.subtract(large, ops.subtract(large, x))


def _logits(x: Node, head: ExitHead) -> Node:
    p = {name: t.squeeze() for name, t in head.head.parameters.items()}
    x = ops.mvn(x, _constant([-1]), normalize_variance=True, eps=1e-5, eps_mode="inside_sqrt")
    x = ops.add(ops.multiply(x, _constant(p["norm"][0])), _constant(p["norm"][1]))
    hidden = ops.gelu(ops.add(ops.matmul(x, _constant(p["w1"]), False, False), _constant(p["b1"])), "erf")
    embedding = ops.add(ops.matmul(hidden, _constant(p["w2"]), False, False), _constant(p["b2"]))
    classes = head.classes
    if classes.cosine:
        embedding = ops.normalize_l2(embedding, _constant([1]), 1e-24, "max")
    product = ops.matmul(embedding, _constant(classes.scale * classes.rows), False, True)
    return ops.add(product, _constant(classes.bias))


def _summary(logits: Node, classes: int) -> list[Node]:
    """Class, confidence, margin and entropy, as `summarise` has them."""
    last = _constant([1])
    logs = ops.log_softmax(logits, -1)
    probabilities = ops.exp(logs)
    values, places = ops.topk(probabilities, ops.constant(min(2, classes)), 1, "max", "value").outputs()
    best = ops.squeeze(ops.slice(values, _constant([0]), _constant([1]), last, last), last)
    second = ops.reduce_sum(ops.slice(values, _constant([1]), _constant([2]), last, last), last)
    prediction = ops.squeeze(ops.slice(places, _constant([0]), _constant([1]), last, last), last)
    spread = ops.negative(ops.reduce_sum(ops.multiply(probabilities, logs), last))
    entropy = ops.divide(spread, _constant(torch.tensor(math.log(max(2, classes)))))
    return [prediction, best, ops.subtract(best, second), entropy]


@cache
def bytes_are_exact() -> bool:
    """Try a product of the largest codes: does OpenVINO multiply bytes without saturation on this CPU?"""
    weights = torch.full((64, 64), 127, dtype=torch.int8)
    grid = StaticGrid(8, torch.ones(1), torch.zeros(1))
    given = ops.parameter([-1, 64], np.float32)
    extreme = QuantizedLinear(weights, torch.ones(1), None, grid)
    product = compiled(openvino.Model([_quantized(given, extreme, in_bytes=True)], [given]), 1)
    found = product([np.full((8, 64), 255, dtype=np.float32)])[0]
    return bool((found == 255 * 127 * 64).all())


def _constant(values: Tensor | list[int]) -> Node:
    if isinstance(values, Tensor):
        return ops.constant(values.detach().float().contiguous().numpy())
    return ops.constant(values)


def _fake_quantize(x: Node, low: Tensor, high: Tensor) -> Node:
    ends = _constant(low), _constant(high)
    return ops.fake_quantize(x, *ends, *ends, _LEVELS)


def _linear(x: Node, linear: nn.Module) -> Node:
    if isinstance(linear, QuantizedLinear):
        product = _quantized(x, linear, bytes_are_exact())
    else:
        product = ops.matmul(x, _constant(linear.weight), transpose_a=False, transpose_b=True)  # type: ignore[arg-type]
    return product if linear.bias is None else ops.add(product, _constant(linear.bias))  # type: ignore[arg-type]


def _quantized(x: Node, linear: QuantizedLinear, in_bytes: bool) -> Node:
    scale = linear.weight_scale.expand(linear.out_features)[:, None]
    weight = _constant(linear.weight_codes * scale)
    if in_bytes:
        weight = _fake_quantize(weight, -128 * scale, 127 * scale)
    return ops.matmul(_rounded(x, linear.grid), weight, transpose_a=False, transpose_b=True)


def _rounded(x: Node, grid: AffineGrid) -> Node:
    """Round to a grid's values; fewer bits than eight are a part of a byte's values."""
    if not isinstance(grid, StaticGrid):
        return _rounded_by_image(x, grid.bits)
    scale, zero_point = grid.scale, grid.zero_point
    if grid.bits < 8:
        low, high = (_constant((code - zero_point) * scale) for code in (0, 2**grid.bits - 1))
        x = ops.minimum(ops.maximum(x, low), high)
    return _fake_quantize(x, -zero_point * scale, (_LEVELS - 1 - zero_point) * scale)


def _rounded_by_image(x: Node, bits: int) -> Node:
    """As DynamicGrid and `affine_parameters` do; FakeQuantize takes constant ranges only."""
    last, axes, zero = _constant(torch.tensor(2.0**bits - 1)), _constant([1, 2]), _constant(torch.tensor(0.0))
    low = ops.minimum(ops.reduce_min(x, axes, keep_dims=True), zero)
    high = ops.maximum(ops.reduce_max(x, axes, keep_dims=True), zero)
    scale = ops.maximum(ops.divide(ops.subtract(high, low), last), _constant(torch.tensor(SMALLEST_SCALE)))
    zero_point = ops.minimum(ops.round(ops.divide(ops.negative(low), scale), "half_to_even"), last)
    codes = ops.add(ops.round(ops.divide(x, scale), "half_to_even"), zero_point)
    return ops.multiply(ops.subtract(ops.minimum(ops.maximum(codes, zero), last), zero_point), scale)


def _norm(x: Node, norm: nn.Module) -> Node:
    if isinstance(norm, nn.Identity):
        return x
    centred = ops.mvn(x, _constant([-1]), normalize_variance=True, eps=norm.eps, eps_mode="inside_sqrt")
    return ops.add(ops.multiply(centred, _constant(norm.weight)), _constant(norm.bias))  # type: ignore[arg-type]


def _scaled(x: Node, scale: nn.Module) -> Node:
    return x if isinstance(scale, nn.Identity) else ops.multiply(x, _constant(scale.gamma))  # type: ignore[arg-type]


def _stem(pixels: Node, stem: Stem) -> Node:
    conv = stem.patches
    x = ops.convolution(pixels, _constant(conv.weight), list(conv.stride), [0, 0], [0, 0], [1, 1])
    if conv.bias is not None:
        x = ops.add(x, _constant(conv.bias[None, :, None, None]))
    patches = ops.transpose(ops.reshape(x, _constant([0, conv.out_channels, -1]), True), _constant([0, 2, 1]))
    images = ops.gather(ops.shape_of(pixels), _constant([0]), _constant([0]))
    target = ops.concat([images, _constant([1, conv.out_channels])], 0)
    cls = ops.broadcast(_constant(stem.cls.reshape(1, 1, -1)), target)
    return _norm(ops.add(ops.concat([cls, patches], 1), _constant(stem.positions)), stem.norm)


def _attention(x: Node, block: Block) -> Node:
    split = ops.reshape(_linear(x, block.qkv), _constant([0, 0, 3, block.heads, -1]), True)
    parts = ops.split(ops.transpose(split, _constant([2, 0, 3, 1, 4])), ops.constant(0), 3).outputs()
    mixed = ops.scaled_dot_product_attention(*(ops.squeeze(part, _constant([0])) for part in parts))
    merged = ops.reshape(ops.transpose(mixed, _constant([0, 2, 1, 3])), _constant([0, 0, -1]), True)
    return _linear(merged, block.proj)


def _block(z: Node, block: Block) -> Node:
    z = ops.add(z, _scaled(_attention(_norm(z, block.norm1), block), block.scale1))
    hidden = _linear(_norm(z, block.norm2), block.fc1)
    return ops.add(z, _scaled(_linear(_activated(hidden, block.act), block.fc2), block.scale2))


def _activated(x: Node, act: nn.Module) -> Node:
    if isinstance(act, QuickGelu):
        return ops.swish(x, _constant(torch.tensor(1.702)))
    return ops.gelu(x, "tanh" if getattr(act, "approximate", "none") == "tanh" else "erf")


def _head(z: Node, head: Head) -> Node:
    cls = _norm(ops.gather(z, ops.constant(0), ops.constant(1)), head.norm)
    if head.projection is None:
        return cls
    return ops.matmul(cls, _constant(head.projection), transpose_a=False, transpose_b=False)
