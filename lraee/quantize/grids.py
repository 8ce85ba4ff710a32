"""Integer grids: scales, zero points, codes, and products that are exact in the integers."""

import torch
from torch import Tensor

_EXACT = 2**24
"""Float32 holds every integer up to here, so sums that stay below are exact in any order."""
_SMALLEST_SCALE = torch.finfo(torch.float32).eps


def weight_scale(weight: Tensor, bits: int, per_channel: bool) -> Tensor:
    """Symmetric min-max scale of a weight matrix (out, in): shape (1,) or (out,).

    PyTorch's default weight observer: the largest magnitude lies at half the number of steps, (2^bits - 1) / 2.
    """
    largest = weight.abs().amax(dim=1) if per_channel else weight.abs().amax().reshape(1)
    return (largest / ((2**bits - 1) / 2)).clamp_min(_SMALLEST_SCALE)


def quantize_weight(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Signed codes -2^(bits-1) .. 2^(bits-1)-1 of a weight matrix, as integer-valued float32."""
    limit = 2 ** (bits - 1)
    return torch.round(weight / scale[:, None]).clamp(-limit, limit - 1)


def affine_parameters(low: Tensor, high: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Scale and zero point of an unsigned affine grid that covers [low, high] and holds 0 exactly; elementwise."""
    low, high = low.clamp_max(0.0), high.clamp_min(0.0)
    scale = ((high - low) / (2**bits - 1)).clamp_min(_SMALLEST_SCALE)
    zero_point = torch.round(-low / scale).clamp(0, 2**bits - 1)
    return scale, zero_point


def quantize_affine(values: Tensor, scale: Tensor, zero_point: Tensor, bits: int) -> Tensor:
    """Unsigned codes 0 .. 2^bits - 1, as integer-valued float32."""
    return (values / scale).round_().add_(zero_point).clamp_(0, 2**bits - 1)


def exact_product(codes: Tensor, weight_codes: Tensor, code_limit: int, weight_limit: int) -> Tensor:
    """Exact integer product of codes (..., in) with weight codes (out, in): (..., out), rounded to float32 once.

    The limits bound the magnitudes. Where `in` products of that size could pass 2^24, the sum is split into parts that
    cannot, added as int32.
    """
    length = max(1, (_EXACT - 1) // (code_limit * weight_limit))
    if codes.shape[-1] <= length:
        return codes @ weight_codes.mT
    parts = zip(codes.split(length, dim=-1), weight_codes.split(length, dim=-1), strict=True)
    total: Tensor | None = None
    for part, weight_part in parts:
        product = (part @ weight_part.mT).to(torch.int32)
        total = product if total is None else total.add_(product)
    assert total is not None
    return total.float()
