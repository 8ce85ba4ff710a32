"""SmoothQuant: outliers of the activations move into the weights before both are quantized."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lraee.quantize.block_scheme import BitsScheme
from lraee.quantize.schemes import (
    SCHEMES,
    ActivationSpec,
    Batches,
    LinearRecipe,
    Part,
    QuantizerState,
    Role,
    WeightSpec,
)
from lraee.settings import PositiveInt

if TYPE_CHECKING:
    from lraee.models.tower import Block, Tower


@SCHEMES.register("smoothquant")
class SmoothQuant(BitsScheme):
    """SmoothQuant (Xiao et al., ICML 2023, arXiv 2211.10438) of every Linear; attention's products stay in FP32.

    The inputs X of `qkv` and `fc1`, which come from a LayerNorm, are divided by a factor for each channel j, and column
    j of the Linear's weights W (out, in) is multiplied by it, which leaves the product as it is:

        s_j = max|X_j|^alpha / max|W_j|^(1 - alpha),    Y = (X diag(1/s)) (diag(s) W^T)

    with maxima over the calibration set and over the outputs. The LayerNorm's gain and bias are divided by s. Weights
    are then rounded per output channel, activations per tensor with static ranges that `observer` chooses.

    alpha is one of `alphas` (the paper: 0.5): the one whose embeddings of the first `images` calibration images lie
    nearest to those in FP32, in squared distance. It is one number for the whole network, as in the paper; the
    embedding's error then counts what the blocks do to each other, which a block's own error would not. 64 images
    suffice to tell a handful of numbers apart; each alpha costs three passes over them. The state holds what was chosen
    as `blocks.<index>.alpha`.

    The published code rounds weights and activations symmetrically at 8 bits; here activations have a zero point.
    """

    scheme: Literal["smoothquant"]
    alphas: Annotated[tuple[Annotated[float, Field(ge=0.0, le=1.0)], ...], Field(min_length=1)] = (
        0.3, 0.4, 0.5, 0.6, 0.7, 0.8
    )  # fmt: skip
    observer: Literal["min-max", "mse"] = "min-max"
    images: PositiveInt = 64

    @property
    def description(self) -> str:
        alphas = ", ".join(map(str, self.alphas))
        return (
            f"W{self.weight_bits}A{self.activation_bits} SmoothQuant, alpha of {alphas}: weights per channel, "
            f"activations per tensor, static {self.observer} ranges"
        )

    def bits_of(self, part: Part) -> tuple[int, int] | None:
        return None if part == "products" else super().bits_of(part)

    def recipe(self, role: Role) -> LinearRecipe:
        """Return how a Linear behind the smoothing is quantized, the same in every role."""
        return LinearRecipe(
            weights=WeightSpec(bits=self.weight_bits, granularity="channel"),
            activations=ActivationSpec(bits=self.activation_bits, observer=self.observer),
        )

    def calibrate(self, tower: "Tower", batches: Batches) -> QuantizerState:
        from lraee.quantize.smoothquant import calibrate

        return calibrate(tower, self.recipe, self.alphas, self.images, batches)

    def block(self, block: "Block", state: QuantizerState) -> "Block":
        from lraee.quantize.smoothquant import quantized_block

        return quantized_block(block, self.recipe, state)
