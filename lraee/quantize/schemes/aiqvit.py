"""AIQViT-style: a low-rank product beside every quantized weight makes up for the error; a clipped grid for softmax."""

from typing import TYPE_CHECKING, Literal

from lraee.models.shape import TowerShape
from lraee.quantize.block_scheme import BitsScheme
from lraee.quantize.schemes import SCHEMES, ActivationSpec, Batches, LinearRecipe, QuantizerState, WeightSpec
from lraee.settings import PositiveInt

if TYPE_CHECKING:
    from lraee.models.tower import Block, Tower


@SCHEMES.register("aiqvit")
class AiqVit(BitsScheme):
    """In the manner of AIQViT (Jiang et al., AAAI 2025, arXiv 2502.04628), in closed form; products are quantized too.

    Beside the quantized product Q(x) of every Linear (weights per output channel, inputs per tensor) run two thin
    matrices in FP32, A (rank, in) and B (out, rank):

        y = Q(x) + B A x,    A, B = argmin E |W x + b - Q(x) - B A x|^2

    over the inputs x of the FP32 network. With S = E[x x^T] + 0.01 mean(diag) I = L L^T (the damping is GPTQ's) and
    C = E[(W x + b - Q(x)) x^T], the minimum is the best approximation of that rank to C L^-T, by its singular values,
    times L^-1 (reduced-rank regression). It makes up for the rounding of weights and, so far as that is linear in x,
    of inputs.

    Softmax is rounded to even steps on [0, c]: what lies above is cut to c, so that steps are finer. c = 2^(-k/3),
    k = 0..20, is the one with the smallest squared rounding error, for each head. Queries, keys, values and inputs of
    Linears have one range each, with the smallest squared error.

    The compensation costs rank * (in + out) multiply-accumulates in FP32 a token and Linear: they count in the BOPs
    (not in the shares), where at few bits they weigh much. `images` is how many calibration images
    compensation and c are fitted on (ranges see all): they have thousands of tokens for a few directions.

    Where we differ: the paper learns A, B and softmax's interval by gradient descent on each block's output error, with
    a curriculum, and finds the ranks by differentiable architecture search; its code is not public. Here every Linear
    has the same rank, nothing is learned step by step, and the interval begins at 0, so that small weights, which are
    many, do not all grow.
    """

    scheme: Literal["aiqvit"]
    rank: PositiveInt = 8
    images: PositiveInt = 256

    @property
    def description(self) -> str:
        return (
            f"W{self.weight_bits}A{self.activation_bits} AIQViT-style: weights per channel with compensation of rank "
            f"{self.rank}, activations per tensor, static mse ranges, clipped softmax"
        )

    def recipe(self) -> LinearRecipe:
        """Return how every Linear is quantized before it is compensated."""
        return LinearRecipe(
            weights=WeightSpec(bits=self.weight_bits, granularity="channel"),
            activations=ActivationSpec(bits=self.activation_bits, observer="mse"),
        )

    def calibrate(self, tower: "Tower", batches: Batches) -> QuantizerState:
        from lraee.quantize.low_rank import calibrate

        return calibrate(tower, self.recipe(), self.rank, self.images, batches)

    def block(self, block: "Block", state: QuantizerState) -> "Block":
        from lraee.quantize.low_rank import quantized_block

        return quantized_block(block, self.recipe(), state)

    def added_macs(self, shape: TowerShape) -> int:
        width, hidden = shape.width, shape.hidden
        linears = ((width, 3 * width), (width, width), (width, hidden), (hidden, width))
        return shape.tokens * self.rank * sum(inputs + outputs for inputs, outputs in linears)
