"""ERQ: errors reduced by ridge regressions, on top of RepQ-ViT."""

from typing import TYPE_CHECKING, Literal

from lraee.quantize.block_scheme import BitsScheme
from lraee.quantize.schemes import SCHEMES, Batches, QuantizerState
from lraee.settings import PositiveInt

if TYPE_CHECKING:
    from lraee.models.tower import Block, Tower


@SCHEMES.register("erq")
class Erq(BitsScheme):
    """ERQ (Zhong et al., ICML 2024, arXiv 2407.06794).

    Activations as in RepQ-ViT. Then for each Linear, with clean inputs X, rounded inputs X^ and n rows:
    - the activations' error goes into the weights by ridge regression: W' = W + D, where D minimises
      ||X W^T - X^ (W + D)^T||^2 / n + lambda ||D||^2, so with C = X^^T X^ / n,
      D^T = (C + lambda I)^-1 X^^T (X - X^) W^T / n;
    - weights are rounded half of the columns left at a time: roundings up or down are changed where this lowers
      e C_11 e^T for the half's errors e; then the columns still to come take (C_22 + lambda I)^-1 C_21 e^T off; and so
      on until none is left.

    `images`: the regressions use no more images than this, for the sake of time, which grows with them; 512 images of
    50 tokens are eight rows for each of the 3072 inputs of ViT-B/32's widest Linear.

    Where we differ from the published code. There X is the clean network's input and X^ the same rounded; here X^ comes
    from the network quantized up to there, so that its earlier errors are reduced too. Moments are centred, with the
    bias as best fits at the end (there: a penalised weight of a constant input), so a mean error counts nothing while
    rounding. A change of rounding is chosen by the exact decrease (there: by the gradient, which may choose one that
    increases it, and then repeats itself). n lambda is 2,000 times C's mean diagonal, so it weighs as much as 2,000
    rows (there: 2,000, the default, whatever the scale of the inputs).
    """

    scheme: Literal["erq"]
    images: PositiveInt = 512

    @property
    def description(self) -> str:
        return (
            f"W{self.weight_bits}A{self.activation_bits}: ERQ, RepQ-ViT with errors regressed into the weights, "
            "attention's products quantized"
        )

    def calibrate(self, tower: "Tower", batches: Batches) -> QuantizerState:
        from lraee.quantize import erq

        return erq.calibrate(tower, self.weight_bits, self.activation_bits, self.images, batches)

    def block(self, block: "Block", state: QuantizerState) -> "Block":
        from lraee.quantize import repq_vit

        return repq_vit.quantized(block, state, self.weight_bits, self.activation_bits)
