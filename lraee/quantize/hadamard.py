"""Linears whose inputs are rotated by a Hadamard matrix before they are rounded."""

import torch
from scipy.linalg import hadamard
from torch import Tensor, nn

from lraee.models.tower import ROLES, Block, Tower, sharing_copy
from lraee.quantize.activation_grids import DynamicGrid
from lraee.quantize.grids import quantize_weight, weight_scale
from lraee.quantize.layers import QuantizedLinear
from lraee.quantize.schemes import QuantizerState


class Rotation(nn.Module):
    """Multiplies vectors (..., width) by H = diag(H_n, H_n, ...): orthonormal, symmetric, its own inverse.

    H_n is Sylvester's Hadamard matrix over sqrt(n), n the largest power of two that divides the width. It is the
    Kronecker product of two smaller ones, H_a and H_b, so that a vector of n, read as a matrix (a, b), is multiplied by
    H_a from the left and by H_b from the right: a + b products a value instead of n.
    """

    left: Tensor
    right: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        exponent = (width & -width).bit_length() - 1
        self.register_buffer("left", _orthonormal(exponent // 2))
        self.register_buffer("right", _orthonormal(exponent - exponent // 2))

    def forward(self, x: Tensor) -> Tensor:
        parts = x.unflatten(-1, (-1, len(self.left), len(self.right)))
        return (self.left @ parts @ self.right).flatten(-3)


def _orthonormal(exponent: int) -> Tensor:
    return torch.tensor(hadamard(2**exponent), dtype=torch.float32) / 2 ** (exponent / 2)


def rotated_weight(linear: nn.Module) -> Tensor:
    """W H^T of a Linear's weights W (out, in); TypeError where it is none."""
    if not isinstance(linear, nn.Linear):
        raise TypeError(f"a {type(linear).__name__} cannot be rotated, only a Linear")
    return Rotation(linear.in_features).to(linear.weight.device)(linear.weight.detach())


def calibrate(tower: Tower, bits: int) -> QuantizerState:
    """Fit the scale of every Linear's rotated weights: `blocks.<index>.<role>.weight_scale`, (out,)."""
    return {
        f"blocks.{index}.{role}.weight_scale": weight_scale(rotated_weight(getattr(block, role)), bits, True)
        for index, block in enumerate(tower.blocks)
        for role in ROLES
    }


def quantized_block(block: Block, state: QuantizerState, weight_bits: int, activation_bits: int) -> Block:
    """Copy an FP32 block with every Linear behind a rotation and quantized; KeyError where the state lacks a scale."""
    result = sharing_copy(block)
    for role in ROLES:
        linear: nn.Linear = getattr(block, role)
        weight = rotated_weight(linear)
        scale = state[f"{role}.weight_scale"].to(weight.device)
        codes = quantize_weight(weight, scale, weight_bits)
        quantized = QuantizedLinear(codes, scale, linear.bias, DynamicGrid(activation_bits))
        result.set_submodule(role, nn.Sequential(Rotation(linear.in_features).to(weight.device), quantized))
    return result
