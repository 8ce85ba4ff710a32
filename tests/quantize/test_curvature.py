from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lraee.quantize.curvature import Outputs, embedding_gradients, goal_of, product_outputs


def _states(tower: Any, pixels: Tensor) -> list[Tensor]:
    return list(tower.states(pixels))


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_attention_written_out_is_the_block(tower: Any, pixels: Tensor) -> None:
    states = _states(tower, pixels)
    for block, z, expected in zip(tower.blocks, states[:-1], states[1:], strict=True):
        outputs, after = product_outputs(block, z)
        torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(outputs["qkv"], block.qkv(block.norm1(z)))
        mixed = block.mix(*block.split(outputs["qkv"]))
        torch.testing.assert_close(outputs["mixed"], mixed, rtol=1e-4, atol=1e-5)


def test_a_walk_back_by_blocks_is_the_gradient_of_the_whole(tower: Any, pixels: Tensor) -> None:
    found = embedding_gradients(tower, _states(tower, pixels), _generator())
    z = tower.stem(pixels).requires_grad_()
    states = [z]
    for block in tower.blocks:
        states.append(block(states[-1]))
    embedding = functional.normalize(tower.head(states[-1]), dim=-1)
    direction = torch.randint(2, embedding.shape, generator=_generator()).mul(2).sub(1).float()
    expected = torch.autograd.grad(embedding, states[1:], direction)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_weights_are_the_diagonal_of_the_gauss_newton_matrix(tower: Any, pixels: Tensor) -> None:
    block, states = tower.blocks[-1], _states(tower, pixels[:2])

    def embedding_of(fc2: Tensor) -> Tensor:
        z = states[-1] - product_outputs(block, states[-2])[0]["fc2"] + fc2
        return functional.normalize(tower.head(z), dim=-1)

    fc2 = product_outputs(block, states[-2])[0]["fc2"]
    jacobian: Any = torch.autograd.functional.jacobian(embedding_of, fc2)
    # Embeddings of one image do not depend on another: (B, e, B, T, width) summed over its first B.
    expected = jacobian.square().sum(dim=(0, 1))
    draws = []
    for seed in range(400):
        gradients = embedding_gradients(tower, states, _generator(seed))
        draws.append(goal_of(block, states[-2], gradients[-1]).weights["fc2"])
    mean = torch.stack(draws).mean(dim=0)
    assert (mean - expected).norm() < 0.15 * expected.norm()
    assert mean.sum() == pytest.approx(float(expected.sum()), rel=0.05)


def test_no_weights_vanish_where_the_published_ones_do(tower: Any, pixels: Tensor) -> None:
    states = _states(tower, pixels)
    gradients = embedding_gradients(tower, states, _generator())
    target = tower.head(states[-1])
    for block, z, gradient in zip(tower.blocks, states, gradients, strict=False):
        weights: Outputs = goal_of(block, z, gradient).weights
        assert all(float(w.sum()) > 1e-9 for w in weights.values())
        assert all(w.shape == output.shape for w, output in zip(
            weights.values(), product_outputs(block, z)[0].values(), strict=True
        ))  # fmt: skip
    z = states[-1].detach().requires_grad_()
    divergence = functional.kl_div(
        tower.head(z).log_softmax(-1), target.softmax(-1), reduction="batchmean"
    )  # fmt: skip
    published = torch.autograd.grad(divergence, z)[0].square().sum()
    assert float(published) < 1e-9 * float(gradients[-1].square().sum())
