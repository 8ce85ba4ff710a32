"""Integer grids: scales, zero points and codes."""

import torch
from torch import Tensor

SMALLEST_SCALE = torch.finfo(torch.float32).eps


def weight_scale(weight: Tensor, bits: int, per_channel: bool) -> Tensor:
    """Symmetric min-max scale of a weight matrix (out, in): shape (1,) or (out,).

    PyTorch's default weight observer: the largest magnitude lies at half the number of steps, (2^bits - 1) / 2.
    """
    largest = weight.abs().amax(dim=1) if per_channel else weight.abs().amax().reshape(1)
    return (largest / ((2**bits - 1) / 2)).clamp_min(SMALLEST_SCALE)


def quantize_weight(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Signed codes -2^(bits-1) .. 2^(bits-1)-1 of a weight matrix, as int8."""
    limit = 2 ** (bits - 1)
    return torch.round(weight / scale[:, None]).clamp(-limit, limit - 1).to(torch.int8)


def affine_parameters(low: Tensor, high: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Scale and zero point of an unsigned affine grid that covers [low, high] and holds 0 exactly; elementwise."""
    low, high = low.clamp_max(0.0), high.clamp_min(0.0)
    scale = ((high - low) / (2**bits - 1)).clamp_min(SMALLEST_SCALE)
    zero_point = torch.round(-low / scale).clamp(0, 2**bits - 1)
    return scale, zero_point


def quantize_affine(values: Tensor, scale: Tensor, zero_point: Tensor, bits: int) -> Tensor:
    """Unsigned codes 0 .. 2^bits - 1, as integer-valued float32.

    The one definition of a code: divide, round a half to the even multiple of the scale, add the zero point, clamp.
    """
    return (values / scale).round_().add_(zero_point).clamp_(0, 2**bits - 1)
