"""A tower as a description and tensors, and back: no code of the library that it came from is needed again."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from lraee.models.shape import TowerShape
from lraee.models.tower import ROLES, Block, Head, Stem, Tower
from lraee.quantize.schemes import Role
from lraee.settings import Settings

Activation = Literal["gelu", "gelu-tanh", "quick-gelu"]
Linears = Callable[[Mapping[str, Tensor], str, Role], nn.Module]
"""Makes the Linear of a name ("blocks.3.fc1") and role that fits the tensors, which are filled in afterwards."""


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


ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu-tanh": partial(nn.GELU, approximate="tanh"),
    "quick-gelu": QuickGelu,
}


class Assembly(Settings):
    """What the tensors do not say: sizes, attention's heads, the activation, and the LayerNorms' epsilon."""

    shape: TowerShape
    heads: int
    activation: Activation
    epsilon: float


def take_apart(tower: Tower) -> tuple[Assembly, dict[str, Tensor]]:
    """Describe a tower and copy its tensors; ValueError names what a description cannot hold."""
    epsilons = {module.eps for module in tower.modules() if isinstance(module, nn.LayerNorm)}
    if len(epsilons) != 1:
        raise ValueError(f"the network's LayerNorms have several epsilons ({sorted(epsilons)}), a file holds one")
    first: Block = tower.blocks[0]  # type: ignore[assignment]
    assembly = Assembly(
        shape=tower.shape, heads=first.heads, activation=_activation(first.act), epsilon=epsilons.pop()
    )  # fmt: skip
    return assembly, {name: tensor.detach().clone() for name, tensor in tower.state_dict().items()}


def plain_linear(tensors: Mapping[str, Tensor], name: str, role: Role) -> nn.Module:
    """Make a Linear in FP32."""
    outputs, inputs = tensors[f"{name}.weight"].shape
    return nn.Linear(inputs, outputs, bias=f"{name}.bias" in tensors)


def put_together(assembly: Assembly, tensors: Mapping[str, Tensor], linear: Linears = plain_linear) -> Tower:
    """Build a tower; KeyError, RuntimeError or ValueError where tensors and description do not agree."""
    own = dict(tensors)
    stem = Stem(_patches(own), own["stem.cls"], own["stem.positions"], _norm(own, "stem.norm", assembly.epsilon))
    blocks = [_block(assembly, own, f"blocks.{index}", linear) for index in range(assembly.shape.depth)]
    head = Head(_norm(own, "head.norm", assembly.epsilon), own.get("head.projection"))
    tower = Tower(stem, blocks, head, assembly.shape)
    tower.load_state_dict(own, strict=True)
    return tower.eval().requires_grad_(False)


def _activation(module: nn.Module) -> Activation:
    """Tell the activation by what it does: every library has classes of its own."""
    x = torch.linspace(-6, 6, 97)
    for name, known in ACTIVATIONS.items():
        if torch.allclose(module(x), known()(x), atol=1e-6):
            return name
    raise ValueError(f"the activation {type(module).__name__} is none of {', '.join(ACTIVATIONS)}")


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


def _block(assembly: Assembly, tensors: Mapping[str, Tensor], name: str, linear: Linears) -> Block:
    linears = {role: linear(tensors, f"{name}.{role}", role) for role in ROLES}
    return Block(
        norm1=_norm(tensors, f"{name}.norm1", assembly.epsilon),
        norm2=_norm(tensors, f"{name}.norm2", assembly.epsilon),
        act=ACTIVATIONS[assembly.activation](),
        heads=assembly.heads,
        scale1=_scale(tensors, f"{name}.scale1"),
        scale2=_scale(tensors, f"{name}.scale2"),
        **linears,
    )
