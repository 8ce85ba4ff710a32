"""Function-preserving changes of a block in FP32: a LayerNorm gives up a scale and an offset to the Linear behind it.

SmoothQuant's migration (offset zero) and RepQ-ViT's reparameterisation are both of this form.
"""

from torch import Tensor, nn

from lraee.models.tower import Block, linear_from, sharing_copy
from lraee.quantize.schemes import QuantizerState

FOLDED = {"norm1": "qkv", "norm2": "fc1"}
"""Each LayerNorm of a block, and the Linear that reads it."""


def reparameterised(block: Block, state: QuantizerState) -> Block:
    """Copy a block with LayerNorms that yield y / divisor + offset, and Linears that undo it: the same function.

    `state` may hold `norm1.divisor`, `norm1.offset` and the same of `norm2`, (width,) each; without a divisor the
    LayerNorm stays.
    """
    result = sharing_copy(block)
    for name, reader in FOLDED.items():
        divisor = state.get(f"{name}.divisor")
        if divisor is not None:
            norm, linear = getattr(block, name), getattr(block, reader)
            offset = state.get(f"{name}.offset", divisor.new_zeros(len(divisor)))
            divisor, offset = divisor.to(linear.weight.device), offset.to(linear.weight.device)
            result.set_submodule(name, _divided(norm, divisor, offset))
            result.set_submodule(reader, _undoing(linear, divisor, offset))
    return result


def _divided(norm: nn.Module, divisor: Tensor, offset: Tensor) -> nn.LayerNorm:
    """A LayerNorm whose output is that of `norm` divided by `divisor`, plus `offset`."""
    if not isinstance(norm, nn.LayerNorm):
        raise TypeError(f"a {type(norm).__name__} cannot be reparameterised, only a LayerNorm")
    result = nn.LayerNorm(norm.normalized_shape, norm.eps).to(divisor.device)
    result.weight.data, result.bias.data = norm.weight / divisor, norm.bias / divisor + offset
    return result.requires_grad_(False)


def _undoing(linear: nn.Linear, divisor: Tensor, offset: Tensor) -> nn.Linear:
    """A Linear that does to y / divisor + offset what `linear` does to y."""
    weight = linear.weight * divisor
    bias = weight.new_zeros(len(weight)) if linear.bias is None else linear.bias
    return linear_from(weight, bias - weight @ offset).requires_grad_(False)
