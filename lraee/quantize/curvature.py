"""How much each output inside a block matters to the embedding: the diagonal of a Gauss-Newton matrix.

With J the Jacobian of an image's normalised embedding e with respect to the outputs o of a product, a small change of o
changes the squared distance of e by about |J do|^2, whose diagonal part is sum_i diag(J^T J)_i do_i^2. For a random
direction r of +-1 the gradient g = J^T r has E[g_i^2] = diag(J^T J)_i: one backward pass estimates it without bias.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from lraee.models.tower import Block, Tower

Product = Literal["qkv", "logits", "mixed", "proj", "fc1", "fc2"]
"""What a block multiplies: its Linears, Q K^T (not yet divided by sqrt(d)), and attention's weights times V."""

Outputs: TypeAlias = dict[Product, Tensor]
"""Of the Linears (B, T, out), of Q K^T (B, heads, T, T), of weights times V (B, heads, T, d)."""


def product_outputs(block: Block, z: Tensor) -> tuple[Outputs, Tensor]:
    """Run a block on z (B, T, width) with attention written out: what its products yield, and its output."""
    qkv = block.qkv(block.norm1(z))
    q, k, v = block.split(qkv)
    logits = q @ k.mT
    mixed = torch.softmax(logits / q.shape[-1] ** 0.5, dim=-1) @ v
    proj = block.proj(mixed.transpose(1, 2).flatten(2))
    z = z + block.scale1(proj)
    fc1 = block.fc1(block.norm2(z))
    fc2 = block.fc2(block.act(fc1))
    outputs: Outputs = {"qkv": qkv, "logits": logits, "mixed": mixed, "proj": proj, "fc1": fc1, "fc2": fc2}
    return outputs, z + block.scale2(fc2)


def embedding_gradients(tower: Tower, states: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Gradients (B, T, width) at z_1 .. z_depth of the normalised embedding along one random direction an image.

    `states` are z_0 .. z_depth; backward runs a block at a time, so that no more than one block's graph is held.
    """
    with torch.enable_grad():
        z = states[-1].detach().requires_grad_()
        embedding = functional.normalize(tower.head(z), dim=-1)
        direction = torch.randint(2, embedding.shape, generator=generator).mul(2).sub(1).to(embedding)
        gradients = [torch.autograd.grad(embedding, z, direction)[0]]
        for block, state in zip(reversed(tower.blocks), reversed(states[1:-1]), strict=False):
            z = state.detach().requires_grad_()
            gradients.append(torch.autograd.grad(block(z), z, gradients[-1])[0])
    return gradients[::-1]


@dataclass(frozen=True)
class Goal:
    """What an FP32 block's products yield, and how much each number of it matters: weights of the same shapes."""

    outputs: Outputs
    weights: Outputs


def goal_of(block: Block, z: Tensor, gradient: Tensor) -> Goal:
    """Run an FP32 block on z (B, T, width); `gradient` is the embedding's at the block's output."""
    with torch.enable_grad():
        outputs, after = product_outputs(block, z.detach().requires_grad_())
        found = torch.autograd.grad(after, list(outputs.values()), gradient)
    return Goal(
        outputs={name: output.detach() for name, output in outputs.items()},
        weights={name: gradient.square() for name, gradient in zip(outputs, found, strict=True)},
    )
