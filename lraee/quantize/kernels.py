"""Exact products of unsigned activation codes with signed weight codes, by the fastest kernel that is exact here.

oneDNN multiplies bytes. CPUs without VNNI (x86 before 2019 or so) add pairs of these products in 16 bits that saturate:
255 * 127 * 2 > 32767, while 7-bit codes stay below. So the kernel is chosen by trying extreme codes on the CPU at hand,
never by timing: which one runs does not depend on chance, and every one returns the same float32 to the bit, the exact
integer rounded once. torch's other INT8 kernels (FBGEMM) saturate in the same cases and were slower where they do not.
"""

from abc import ABC, abstractmethod
from functools import cache
from itertools import product

import torch
from torch import Tensor

_EXACT = 2**24
"""Float32 holds every integer up to here, so sums that stay below are exact in any order."""


def exact_parts(weight_codes: Tensor, largest_code: int) -> list[Tensor]:
    """Split weight codes (out, in) along `in` into as few equal parts as keep sums of products of each below 2^24.

    Codes 0 .. largest_code: no sum over some of a row's products can pass that times the row's positive, or negative,
    weights.
    """
    codes, inner = weight_codes.to(torch.int32), weight_codes.shape[1]
    for count in range(1, inner + 1):
        length = -(-inner // count)
        sums = [
            int(side.clamp_min(0).sum(dim=1).max()) for part in codes.split(length, dim=1) for side in (part, -part)
        ]
        if max(sums) * largest_code < _EXACT:
            return list(weight_codes.split(length, dim=1))
    raise AssertionError("a single product of two bytes is below 2^24")


class Product(ABC):
    """Multiplies codes 0 .. 2^code_bits - 1 with weight codes (out, in), int8; exact, rounded to float32 once."""

    def __init__(self, weight_codes: Tensor, code_bits: int) -> None:
        parts = exact_parts(weight_codes, 2**code_bits - 1)
        self.code_bits = code_bits
        self._lengths = [part.shape[1] for part in parts]
        self._packed = [self.pack(part.contiguous()) for part in parts]
        self._row_sums = weight_codes.sum(dim=1, dtype=torch.int32)

    def __deepcopy__(self, memo: dict[int, object]) -> "Product":
        """Itself: it never changes, and torch cannot copy what oneDNN packed."""
        return self

    @abstractmethod
    def pack(self, weight_codes: Tensor) -> Tensor:
        """Bring weight codes into the form that `multiply` takes."""

    @abstractmethod
    def multiply(self, codes: Tensor, packed: Tensor) -> Tensor:
        """Multiply codes (..., in) with packed weight codes: float32 (..., out)."""

    def convert(self, codes: Tensor) -> Tensor:
        """Bring integer-valued float32 codes, which may be overwritten, into the type that `multiply` takes."""
        return codes

    def __call__(self, codes: Tensor, zero_point: Tensor) -> Tensor:
        """(codes - zero_point) @ weight_codes.T, float32 (..., out), of integer-valued float32 codes (..., in).

        The zero point broadcasts against the codes, and has one value for all of `in`. `codes` may be overwritten.
        """
        codes = self.convert(codes)
        if len(self._packed) == 1:
            # Both terms and their difference are integers below 2^24.
            return self.multiply(codes, self._packed[0]).sub_(zero_point * self._row_sums)
        total = -(zero_point.to(torch.int32) * self._row_sums)
        for piece, packed in zip(codes.split(self._lengths, dim=-1), self._packed, strict=True):
            total = total + self.multiply(piece.contiguous(), packed).to(torch.int32)
        return total.float()


class FloatProduct(Product):
    """The product in float32: for every device, and for CPUs whose byte products saturate."""

    def pack(self, weight_codes: Tensor) -> Tensor:
        return weight_codes.float()

    def multiply(self, codes: Tensor, packed: Tensor) -> Tensor:
        return codes @ packed.mT


class OneDnnProduct(Product):
    """The product in bytes, by oneDNN; exact where `onednn_is_exact` says so."""

    def __init__(self, weight_codes: Tensor, code_bits: int) -> None:
        super().__init__(weight_codes, code_bits)
        self._scales = torch.ones(len(weight_codes))
        self._zero_points = torch.zeros(len(weight_codes), dtype=torch.int64)

    def pack(self, weight_codes: Tensor) -> Tensor:
        return torch.ops.onednn.qlinear_prepack(weight_codes, None)

    def convert(self, codes: Tensor) -> Tensor:
        return _to_bytes(codes, self.code_bits)

    def multiply(self, codes: Tensor, packed: Tensor) -> Tensor:
        return torch.ops.onednn.qlinear_pointwise(
            codes, 1.0, 0, packed, self._scales, self._zero_points, None, 1.0, 0, torch.float32, "none", [], ""
        )


def _to_bytes(codes: Tensor, bits: int) -> Tensor:
    """Turn codes 0 .. 2^bits - 1 from float32 into uint8; by way of int8, to which torch converts several at once."""
    if bits < 8:
        return codes.to(torch.int8).view(torch.uint8)
    return codes.sub_(128).to(torch.int8).view(torch.uint8).bitwise_xor_(128)


@cache
def onednn_is_exact(code_bits: int, low: int, high: int, outputs: int, inputs: int) -> bool:
    """Try weight codes low .. high (outputs, inputs) and activation codes at their extremes: is each product exact?"""
    generator = torch.Generator().manual_seed(0)
    mixed = torch.where(torch.rand(outputs, inputs, generator=generator) < 0.5, low, high).to(torch.int8)
    limit = 2**code_bits - 1
    # A row is all low, all high or mixed; where there are fewer rows than that, each is tried as all three.
    for turn, rows in product(range(3 if outputs < 3 else 1), (1, 64)):
        weights = mixed.clone()
        weights[turn::3], weights[(turn + 1) % 3 :: 3] = low, high
        codes = torch.where(torch.rand(rows, inputs, generator=generator) < 0.5, 0, limit).float()
        codes[0::2] = limit
        expected = (codes.double() @ weights.double().mT).float()
        try:
            found = OneDnnProduct(weights, code_bits)(codes, torch.zeros(()))
        except (RuntimeError, AttributeError):  # oneDNN, or these operators, are not in this build of torch
            return False
        if not torch.equal(found, expected):
            return False
    return True


def exact_product(weight_codes: Tensor, code_bits: int) -> Product:
    """Choose the kernel for weight codes (out, in), int8, on their device and activation codes of `code_bits` bits."""
    low, high = int(weight_codes.min()), int(weight_codes.max())
    if weight_codes.device.type == "cpu" and onednn_is_exact(code_bits, low, high, *weight_codes.shape):
        return OneDnnProduct(weight_codes, code_bits)
    return FloatProduct(weight_codes, code_bits)
