"""CPT-V (arXiv 2211.09643; Evol-Q, arXiv 2308.10814): the weight scales of any quantizer, searched so that the
quantized network tells images apart as the FP32 one does.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field

from lraee.quantize.block_scheme import EqualBlocksScheme, VariableBits
from lraee.quantize.schemes import SCHEMES, Batches, Part, QuantizerState, Role, Scheme
from lraee.registry import Named
from lraee.settings import PositiveInt

if TYPE_CHECKING:
    from lraee.models.shape import TowerShape
    from lraee.models.tower import Block, Tower

Fitness = Literal["contrastive", "mse", "cosine"]
Search = Literal["evolution", "random"]

ROLES: tuple[Role, ...] = ("qkv", "proj")
"""The Linears whose scales are searched."""
STEP = 0.5
"""By how many codes a mutation moves the largest weight at most, where no epsilon is given."""


def _searchable(start: Scheme) -> EqualBlocksScheme:
    if not isinstance(start, EqualBlocksScheme) or not any(map(start.bits_of, ROLES)):
        raise ValueError(f"{start.description!r} has no scales of attention's weights to search; start from another")
    if isinstance(start, CptV):
        raise ValueError("the start is the result of a search: search longer instead, with more passes")
    return start


@SCHEMES.register("cpt-v")
class CptV(EqualBlocksScheme, VariableBits):
    """A search over the scales of attention's weights that `start` found; everything else of the start stays.

    Fitness, lower is better, on the final embeddings q of the quantized and k of the FP32 model, both of unit length:
    2T * cross-entropy(q k^T / T, diagonal), T = 3, meaned over batches of 100 images, the last of which may be smaller.
    `mse` and `cosine` (1 - cosine) compare each q with its own k: the reconstruction losses that it is compared with.

    Search: blocks from the last to the first, `passes` times over. A block's scales s, of qkv and of proj, per tensor
    or per channel, are `population` times in a population; each of `cycles` evaluations draws `sample` members with
    replacement, mutates the fittest of them, and the worst member is dropped. `random`, the control, mutates the
    start's scales instead, and keeps the best seen: as many evaluations in the same order, but none builds on another.

    Where we differ from the published code:
    - it keeps the network that is best on the *validation* set; we choose by the fitness alone, on unlabelled images of
      the `quant` split;
    - it adds U(-e, e) to a scale, e = 1e-4 at 8 bits and 1e-3 at 3 and 4 bits, whatever the weights' size. We multiply
      by 1 + U(-epsilon, epsilon): unless it is given, `epsilon` moves the code of the largest weight, 2^(bits - 1), by
      half a code at most. So much was chosen by the fitness of calibration images: on the embedded CLIP (weights per
      channel, activations of 8 bits, 100 images, 36 evaluations, one seed) it fell, in 1e-4, at W8 by 3.7, 5.4, 3.6 and
      2.0 with epsilon 0.001, 0.003, 0.01 and 0.03, by 2.9 with the published e; at W4 by 9, 24, 55 and 103 with 0.003,
      0.01, 0.03 and 0.1, by 76 with the published e; at W3 by 35, 97 and 108 with 0.02, 0.06 and 0.15, by 31 with it;
    - the output is the embedding, for classifiers too, where the published code takes the logits;
    - for 10 passes it takes 1,000 images: 360 evaluations of a network of 12 blocks. Ours are fewer by default: an
      evaluation runs a block and those after it, so 36 of them cost about 20 runs of the network over `images`.

    The contrastive fitness is not least where q = k: what lies apart in k is rewarded for lying further apart. An 8-bit
    start may already be better by it than the FP32 model itself, and the search then follows something else than
    quantization's error.
    """

    scheme: Literal["cpt-v"]
    start: Annotated[EqualBlocksScheme, Named(SCHEMES, "scheme"), AfterValidator(_searchable)]
    fitness: Fitness = "contrastive"
    search: Search = "evolution"
    images: int = Field(default=300, ge=2, le=1000)
    passes: PositiveInt = 1
    cycles: PositiveInt = 3
    population: PositiveInt = 15
    sample: PositiveInt = 10
    epsilon: float | None = Field(default=None, gt=0.0, lt=1.0)
    seed: int = Field(default=0, ge=0)

    @property
    def step(self) -> float:
        """The largest relative change of a scale by one mutation."""
        if self.epsilon is not None:
            return self.epsilon
        bits = [found[0] for role in ROLES if (found := self.start.bits_of(role))]
        return STEP / 2.0 ** (max(bits) - 1)

    @property
    def description(self) -> str:
        return (
            f"{self.start.description}; scales of attention's weights by CPT-V "
            f"({self.fitness} fitness, {self.search}, {self.passes} x {self.cycles} evaluations a block)"
        )

    def bits_of(self, part: Part) -> tuple[int, int] | None:
        return self.start.bits_of(part)

    def calibrate(self, tower: "Tower", batches: Batches) -> QuantizerState:
        from lraee.quantize.cpt_v import calibrate

        return calibrate(tower, self, batches)

    def calibrate_resumably(self, tower: "Tower", batches: Batches, checkpoint: Path) -> QuantizerState:
        from lraee.quantize.cpt_v import calibrate

        return calibrate(tower, self, batches, checkpoint)

    def block(self, block: "Block", state: QuantizerState) -> "Block":
        return self.start.block(block, state)

    def apply(self, tower: "Tower", state: QuantizerState) -> "Tower":
        return self.start.apply(tower, state)

    def added_macs(self, shape: "TowerShape") -> int:
        return self.start.added_macs(shape)

    def at_bits(self, bits: int) -> Self:
        if not isinstance(self.start, VariableBits):
            raise ValueError(
                f"the bits of {self.start.description!r} are fixed; start from a scheme with bits to choose"
            )
        return self.model_copy(update={"start": self.start.at_bits(bits)})
