"""A search for the scales of a product's two factors by the weighted error of what it yields.

All products are of one form, left (B, G, rows, n) times the transpose of right (B, G, columns, n), where B or G of a
factor may be 1: a Linear has B = 1, its tokens as rows, and in G the parts of its weight matrix that have a scale of
their own; attention has images in B and heads in G.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lraee.quantize.activation_grids import Grid

ROUNDS = 3
ROWS = 256
COLUMNS = 256
"""How much of a product errors are summed over: with 32 images ViT-B/32 has 1,600 rows of up to 3,072 columns."""


@dataclass(frozen=True)
class Factor:
    """One factor: its values, the grid of a scale, the scale now (G, 1, 1), and those to choose from (n, G, 1, 1)."""

    values: Tensor
    grid: Callable[[Tensor], Grid]
    scale: Tensor
    candidates: Tensor

    def rounded(self) -> Tensor:
        return self.grid(self.scale)(self.values)

    def tried(self) -> Iterator[Tensor]:
        """Yield the values rounded with each candidate."""
        return (self.grid(scale)(self.values) for scale in self.candidates)


@dataclass(frozen=True)
class Search:
    """A product whose scales are looked for: both factors, what it should yield, and how much each number matters."""

    left: Factor
    right: Factor
    target: Tensor
    weight: Tensor

    def sampled(self, generator: torch.Generator) -> "Search":
        """Keep at most ROWS rows (over all B) and COLUMNS columns (of each of B and G), drawn by their weight.

        The weights of what is drawn are divided by how often it is expected, so that errors stay unbiased.
        """
        rows, factors = drawn(self.weight.sum(dim=(1, 3)), max(1, ROWS // len(self.weight)), generator)
        at, scaled = rows[:, None, :, None], factors[:, None, :, None]
        left, target, weight = (t.take_along_dim(at, 2) for t in (self.left.values, self.target, self.weight))
        weight = weight * scaled
        columns, factors = drawn(weight.sum(dim=2), COLUMNS, generator)
        at, scaled = columns[:, :, None], factors[:, :, None]
        return Search(
            replace(self.left, values=left),
            replace(self.right, values=self.right.values.take_along_dim(columns[..., None], 2)),
            target.take_along_dim(at, 3),
            weight.take_along_dim(at, 3) * scaled,
        )

    def scales(self) -> tuple[Tensor, Tensor]:
        """Choose the right factor's scale, then the left's, in at most ROUNDS rounds; the left's and the right's."""
        left, right = self.left, self.right
        for _ in range(ROUNDS):
            before = left.scale, right.scale
            fixed = left.rounded()
            right = self._best(right, (fixed @ rounded.mT for rounded in right.tried()))
            fixed = right.rounded()
            left = self._best(left, (rounded @ fixed.mT for rounded in left.tried()))
            if torch.equal(left.scale, before[0]) and torch.equal(right.scale, before[1]):
                break
        return left.scale, right.scale

    def _best(self, factor: Factor, products: Iterable[Tensor]) -> Factor:
        """The factor with the scales of least error; a scale answers for the part of the product that it reaches."""
        errors = [
            ((product - self.target).square_() * self.weight).sum_to_size(factor.scale.shape) for product in products
        ]
        best = torch.stack(errors).argmin(dim=0, keepdim=True)
        return replace(factor, scale=factor.candidates.gather(0, best)[0])


def drawn(weights: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw `count` of n with replacement, in proportion to weights (..., n); or all n once, where they are no more.

    Returns indices and factors (..., count): sums over what is drawn, times its factors, are unbiased for sums over n.
    """
    *batch, n = weights.shape
    if n <= count:
        return torch.arange(n, device=weights.device).expand(*batch, n), weights.new_ones(*batch, n)
    # The smallest positive number makes the draw uniform where nothing has any weight.
    chances = weights.double().cpu().reshape(-1, n) + torch.finfo(torch.float64).tiny
    chances /= chances.sum(dim=1, keepdim=True)
    picks = torch.multinomial(chances, count, replacement=True, generator=generator)
    factors = 1.0 / (count * chances.gather(1, picks))
    return picks.reshape(*batch, count).to(weights.device), factors.reshape(*batch, count).to(weights)
