"""A quantized tower as tensors and a description, and back: what an exported folder holds of the network.

No scheme and no FP32 weights are needed to rebuild it: a quantized Linear is its integer codes, scales and range.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from lraee.models.assembly import Assembly, plain_linear, put_together, take_apart
from lraee.models.tower import ROLES, Block, Mix, Tower
from lraee.quantize.activation_grids import AffineGrid, DynamicGrid, StaticGrid
from lraee.quantize.layers import QuantizedLinear
from lraee.quantize.schemes import Role
from lraee.settings import Bits


class Network(Assembly):
    """Beside what every tower has, the bits of the inputs of each quantized Linear; a missing role is in FP32."""

    activation_bits: dict[Role, Bits]


def describe(tower: Tower) -> tuple[Network, dict[str, Tensor]]:
    """Take a quantized tower apart; ValueError names what an exported folder cannot hold."""
    # A CPU with bfloat16 products has plain Linears in such a tower, too.
    if torch.bfloat16 in {tensor.dtype for tensor in tower.state_dict().values()}:
        raise ValueError("a network in bfloat16 cannot be exported; choose a quantizer of the Linears")
    assembly, tensors = take_apart(tower)
    bits = {role: found for role in ROLES if (found := _input_bits(tower, role))}
    return Network(**dict(assembly), activation_bits=bits), tensors


def rebuild(network: Network, tensors: Mapping[str, Tensor]) -> Tower:
    """Put a tower together again; KeyError, RuntimeError or ValueError where tensors and description do not agree."""
    return put_together(network, tensors, partial(_linear, network))


def _input_bits(tower: Tower, role: Role) -> int | None:
    """The bits of a role's inputs in every block, None in FP32; ValueError where a block cannot be exported."""
    kinds: set[tuple[type[nn.Module], int | None]] = set()
    for index in range(tower.shape.depth):
        block: Block = tower.blocks[index]  # type: ignore[assignment]
        linear = getattr(block, role)
        if type(block.mix) is not Mix:
            raise ValueError("quantized products of attention cannot be exported; choose a quantizer of the Linears")
        if isinstance(linear, QuantizedLinear) and isinstance(linear.grid, StaticGrid | DynamicGrid):
            kinds.add((type(linear.grid), linear.grid.bits))
        elif type(linear) is nn.Linear:
            kinds.add((nn.Linear, None))
        else:
            raise ValueError(f"a {type(linear).__name__} ({role}) cannot be exported; choose another quantizer")
    if len(kinds) != 1:
        raise ValueError(f"{role} differs from block to block, which an export cannot hold")
    return kinds.pop()[1]


def _linear(network: Network, tensors: Mapping[str, Tensor], name: str, role: Role) -> nn.Module:
    bits = network.activation_bits.get(role)
    if bits is None:
        return plain_linear(tensors, name, role)
    bias, scale = tensors.get(f"{name}.bias"), tensors.get(f"{name}.grid.scale")
    grid: AffineGrid
    grid = DynamicGrid(bits) if scale is None else StaticGrid(bits, scale, tensors[f"{name}.grid.zero_point"])
    parameter = None if bias is None else nn.Parameter(bias)
    return QuantizedLinear(tensors[f"{name}.weight_codes"], tensors[f"{name}.weight_scale"], parameter, grid)
