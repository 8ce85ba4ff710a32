"""A vision transformer as stem / blocks / head, with attention made of plain Linears.

Both open_clip's and timm's transformers are rebuilt in this one form, so that quantizers see every weight matrix
(open_clip keeps QKV in a bare Parameter that tools walking `nn.Linear` miss) and features are taken at one place.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from lraee.models.shape import TowerShape
from lraee.quantize.schemes import Role

ROLES: tuple[Role, ...] = ("qkv", "proj", "fc1", "fc2")


Module = TypeVar("Module", bound=nn.Module)

_CPU_VALUES = 8 * 50 * 3072
"""Hidden values in flight on a CPU: they stay in its cache, and no tensor is large enough to be mapped anew each time.

Eight images of ViT-B/32, and more of a narrower network.
"""


class Stem(nn.Module):
    """Patch embedding: pixels (B, 3, H, W) to z_0 (B, 1 + N, d), with [CLS] in front."""

    def __init__(self, patches: nn.Conv2d, cls: Tensor, positions: Tensor, norm: nn.Module) -> None:
        super().__init__()
        self.patches, self.norm = patches, norm
        self.cls, self.positions = (nn.Parameter(tensor.detach()) for tensor in (cls, positions))

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patches(pixels).flatten(2).transpose(1, 2)
        cls = self.cls.expand(pixels.shape[0], 1, -1)
        return self.norm(torch.cat([cls, patches], dim=1) + self.positions)


class Head(nn.Module):
    """The embedding (B, e) of z_depth, read off [CLS]; `projection` is (d, e), or None where e is d."""

    def __init__(self, norm: nn.Module, projection: Tensor | None) -> None:
        super().__init__()
        self.norm = norm
        self.projection = None if projection is None else nn.Parameter(projection.detach())

    def forward(self, z: Tensor) -> Tensor:
        cls = self.norm(z[:, 0])
        return cls if self.projection is None else cls @ self.projection


class Mix(nn.Module):
    """Attention's two products, softmax(Q K^T / sqrt(d)) V, of all heads: (B, heads, T, d) each."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v)


class Block(nn.Module):
    """One pre-norm transformer block: z + proj(mix(qkv(norm1(z)))), then + fc2(act(fc1(norm2(.)))).

    `scale1` and `scale2` are LayerScale modules, or identities.
    """

    def __init__(
        self,
        norm1: nn.Module,
        qkv: nn.Module,
        proj: nn.Module,
        norm2: nn.Module,
        fc1: nn.Module,
        act: nn.Module,
        fc2: nn.Module,
        heads: int,
        scale1: nn.Module,
        scale2: nn.Module,
    ) -> None:
        super().__init__()
        self.norm1, self.qkv, self.mix, self.proj, self.scale1 = norm1, qkv, Mix(), proj, scale1
        self.norm2, self.fc1, self.act, self.fc2, self.scale2 = norm2, fc1, act, fc2, scale2
        self.heads = heads

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turn what `qkv` yields, (B, T, 3 * width), into Q, K and V by head: (B, heads, T, d)."""
        q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def attention(self, x: Tensor) -> Tensor:
        return self.proj(self.mix(*self.split(self.qkv(x))).transpose(1, 2).flatten(2))

    def forward(self, z: Tensor) -> Tensor:
        z = z + self.scale1(self.attention(self.norm1(z)))
        return z + self.scale2(self.fc2(self.act(self.fc1(self.norm2(z)))))


class Tower(nn.Module):
    """stem: pixels (B, 3, H, W) to z_0 (B, 1 + N, d); blocks 1..depth; head: z_depth to embeddings (B, e)."""

    def __init__(self, stem: nn.Module, blocks: list[Block], head: nn.Module, shape: TowerShape) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.head = head
        self.shape = shape

    @property
    def device(self) -> torch.device:
        """Where the weights are: pixels are brought there, and what comes out stays there."""
        return next(self.parameters()).device

    def at_once(self, otherwise: int) -> int:
        """How many images to run together: on a CPU few, on another device `otherwise`."""
        on_cpu = _CPU_VALUES // (self.shape.tokens * self.shape.hidden)
        return max(1, on_cpu if self.device.type == "cpu" else otherwise)

    def states(self, pixels: Tensor) -> Iterator[Tensor]:
        """Yield z_0, z_1 .. z_depth, each (B, 1 + N, d), one at a time."""
        z = self.stem(pixels.to(self.device))
        yield z
        for block in self.blocks:
            z = block(z)
            yield z

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the embedding (B, e), not normalised."""
        z = self.stem(pixels.to(self.device))
        for block in self.blocks:
            z = block(z)
        return self.head(z)


@dataclass(frozen=True)
class ClassEmbeddings:
    """The K classes as rows (K, e), and how an image embedding is scored against them.

    A CLIP (`cosine`) compares directions: scale * cos(image, class). A plain classifier scores image . row + bias.
    """

    rows: Tensor
    bias: Tensor
    scale: float
    cosine: bool

    def place(self, embeddings: Tensor) -> Tensor:
        """Bring raw embeddings (..., e) into the space of comparison: unit length for a CLIP, unchanged otherwise."""
        return functional.normalize(embeddings, dim=-1) if self.cosine else embeddings

    def logits(self, embeddings: Tensor) -> Tensor:
        """Score raw embeddings (..., e): (..., K)."""
        return self.score(self.place(embeddings))

    def score(self, placed: Tensor) -> Tensor:
        """Score embeddings (..., e) that `place` brought there: (..., K)."""
        return self.scale * placed @ self.rows.mT + self.bias

    def distance(self, placed: Tensor, targets: Tensor) -> Tensor:
        """Distance of embeddings (..., n, e), brought there by `place`, to raw target embeddings (n, e): (..., n).

        1 - cosine, or for a classifier the relative squared error: a cosine leaves the length free, which a
        classifier's logits depend on.
        """
        if self.cosine:
            return 1.0 - (placed * self.place(targets)).sum(-1)
        return (placed - targets).square().sum(-1) / targets.square().sum(-1).mean()


def sharing_copy(module: Module) -> Module:
    """Copy a tower or block, to replace some of its modules; the parameters stay those of the original."""
    return copy.deepcopy(module, {id(parameter): parameter for parameter in module.parameters()})


def linear_from(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Wrap an existing (out, in) weight matrix and bias in a Linear."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight.data = weight.detach()
    if bias is not None:
        linear.bias.data = bias.detach()
    return linear


@torch.inference_mode()
def check_rebuilt(tower: Tower, original: Callable[[Tensor], Tensor], side: tuple[int, int]) -> None:
    """Compare a rebuilt tower with its original on one random picture of `side` px; ValueError where they differ."""
    pixels = torch.randn(1, 3, *side, generator=torch.Generator().manual_seed(0))
    expected = original(pixels)
    difference = (tower(pixels) - expected).abs().max() / expected.abs().max()
    if not difference < 1e-4:
        raise ValueError(f"the rebuilt tower differs from the original by {difference:.1e}: an unsupported variant")
