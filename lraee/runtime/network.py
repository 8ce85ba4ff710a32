"""A quantized tower as tensors and a description, and back: what an exported folder holds of the network.

No scheme and no FP32 weights are needed to rebuild it: a quantized Linear is its integer codes, scales and range.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lraee.models.shape import TowerShape
from lraee.models.tower import ROLES, Block, Head, Mix, Stem, Tower
from lraee.quantize.activation_grids import AffineGrid, DynamicGrid, StaticGrid
from lraee.quantize.layers import QuantizedLinear
from lraee.quantize.schemes import Role
from lraee.settings import Bits, Settings

Activation = Literal["gelu", "quick-gelu"]


class QuickGelu(nn.Module):
    """x * sigmoid(1.702 x), the activation of OpenAI's CLIP."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class LayerScale(nn.Module):
    """A factor for each channel."""

    def __init__(self, gamma: Tensor) -> None:
        super().__init__()
        self.gamma = nn.Parameter(gamma)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


ACTIVATIONS: dict[Activation, type[nn.Module]] = {"gelu": nn.GELU, "quick-gelu": QuickGelu}


class Network(Settings):
    """What the tensors do not say: sizes, attention's heads, the activation, the LayerNorms' epsilon, and the bits that
    the inputs of each quantized Linear have; a role that is missing there is in FP32.
    """

    shape: TowerShape
    heads: int
    activation: Activation
    epsilon: float
    activation_bits: dict[Role, Bits]


def describe(tower: Tower) -> tuple[Network, dict[str, Tensor]]:
    """Take a quantized tower apart; ValueError names what an exported folder cannot hold."""
    # A CPU with bfloat16 products has plain Linears in such a tower, too.
    if torch.bfloat16 in {tensor.dtype for tensor in tower.state_dict().values()}:
        raise ValueError("a network in bfloat16 cannot be exported; choose a quantizer of the Linears")
    first = _block(tower, 0)
    epsilons = {module.eps for module in tower.modules() if isinstance(module, nn.LayerNorm)}
    if len(epsilons) != 1:
        raise ValueError(f"the network's LayerNorms have several epsilons ({sorted(epsilons)}), an export holds one")
    network = Network(
        shape=tower.shape,
        heads=first.heads,
        activation=_activation(first.act),
        epsilon=epsilons.pop(),
        activation_bits={role: bits for role in ROLES if (bits := _input_bits(tower, role))},
    )
    tensors = {name: tensor.detach().clone() for name, tensor in tower.state_dict().items()}
    return network, tensors


def rebuild(network: Network, tensors: Mapping[str, Tensor]) -> Tower:
    """Put a tower together again; KeyError, RuntimeError or ValueError where tensors and description do not agree."""
    own = dict(tensors)
    stem_norm = _norm(own, "stem.norm", network.epsilon)
    stem = Stem(_patches(own), own["stem.cls"], own["stem.positions"], stem_norm)
    blocks = [_rebuilt_block(network, own, f"blocks.{index}") for index in range(network.shape.depth)]
    head = Head(_norm(own, "head.norm", network.epsilon), own.get("head.projection"))
    tower = Tower(stem, blocks, head, network.shape)
    tower.load_state_dict(own, strict=True)
    return tower.eval().requires_grad_(False)


def _block(tower: Tower, index: int) -> Block:
    block: Block = tower.blocks[index]  # type: ignore[assignment]
    return block


def _activation(module: nn.Module) -> Activation:
    """Tell the activation by what it does: every library has classes of its own."""
    x = torch.linspace(-6, 6, 97)
    for name, known in ACTIVATIONS.items():
        if torch.allclose(module(x), known()(x), atol=1e-6):
            return name
    raise ValueError(f"the activation {type(module).__name__} cannot be exported, only {', '.join(ACTIVATIONS)}")


def _input_bits(tower: Tower, role: Role) -> int | None:
    """The bits of a role's inputs in every block, None in FP32; ValueError where a block cannot be exported."""
    kinds: set[tuple[type[nn.Module], int | None]] = set()
    for index in range(tower.shape.depth):
        block = _block(tower, index)
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


def _patches(tensors: Mapping[str, Tensor]) -> nn.Conv2d:
    weight = tensors["stem.patches.weight"]
    width, channels, *side = weight.shape
    bias = "stem.patches.bias" in tensors
    return nn.Conv2d(channels, width, tuple(side), stride=tuple(side), bias=bias)  # type: ignore[arg-type]


def _norm(tensors: Mapping[str, Tensor], name: str, epsilon: float) -> nn.Module:
    weight = tensors.get(f"{name}.weight")
    return nn.Identity() if weight is None else nn.LayerNorm(len(weight), epsilon)


def _scale(tensors: Mapping[str, Tensor], name: str) -> nn.Module:
    gamma = tensors.get(f"{name}.gamma")
    return nn.Identity() if gamma is None else LayerScale(gamma)


def _rebuilt_block(network: Network, tensors: Mapping[str, Tensor], name: str) -> Block:
    linears: dict[str, Any] = {role: _linear(network, tensors, f"{name}.{role}", role) for role in ROLES}
    return Block(
        norm1=_norm(tensors, f"{name}.norm1", network.epsilon),
        norm2=_norm(tensors, f"{name}.norm2", network.epsilon),
        act=ACTIVATIONS[network.activation](),
        heads=network.heads,
        scale1=_scale(tensors, f"{name}.scale1"),
        scale2=_scale(tensors, f"{name}.scale2"),
        **linears,
    )


def _linear(network: Network, tensors: Mapping[str, Tensor], name: str, role: Role) -> nn.Module:
    bias, bits = tensors.get(f"{name}.bias"), network.activation_bits.get(role)
    if bits is None:
        outputs, inputs = tensors[f"{name}.weight"].shape
        return nn.Linear(inputs, outputs, bias=bias is not None)
    scale = tensors.get(f"{name}.grid.scale")
    grid: AffineGrid
    grid = DynamicGrid(bits) if scale is None else StaticGrid(bits, scale, tensors[f"{name}.grid.zero_point"])
    parameter = None if bias is None else nn.Parameter(bias)
    return QuantizedLinear(tensors[f"{name}.weight_codes"], tensors[f"{name}.weight_scale"], parameter, grid)
