"""PTQ4ViT: twin uniform grids behind softmax and GELU, scales searched by a Hessian-weighted output error."""

from typing import TYPE_CHECKING, Literal

from lraee.quantize.block_scheme import BitsScheme
from lraee.quantize.schemes import SCHEMES, Batches, QuantizerState
from lraee.settings import PositiveInt

if TYPE_CHECKING:
    from lraee.models.tower import Block, Tower


@SCHEMES.register("ptq4vit")
class Ptq4Vit(BitsScheme):
    """PTQ4ViT (Yuan et al., ECCV 2022, arXiv 2111.12293): every Linear and both products of attention, k bits.

    Symmetric grids, x^ = s * clip(round(x / s), -2^(k-1), 2^(k-1) - 1): a scale s for each weight matrix (qkv has
    three), each Linear's inputs, and each head's Q, K and V. Twin uniform grids, a range bit and k - 1 bits of value:
    behind softmax steps of split / (2^(k-1) - 1) up to a split among 2^0 .. 2^-19 and of 1 / (2^(k-1) - 1) up to 1;
    behind GELU a step s above 0 and |min GELU| / 2^(k-1) below. Each product O = A B gets the scales that minimise
    sum_i (dL/dO_i)^2 (O^_i - O_i)^2, among 100 fractions 0.01 .. 1.2 of the scale that covers all values, in at most
    three alternating rounds (fewer where a round changes nothing). `images` calibration images, as published: a search
    tries some 600 products a Linear.

    Where we differ from the published code:
    - It takes dL/dO from the KL divergence between the FP32 model's output and itself, whose gradient is zero. Ours is
      the diagonal of the Gauss-Newton matrix of the normalised embedding (`lraee.quantize.curvature`), which is not;
      the gradient at a quantized network would be zero in the first block, and elsewhere sees only the one direction in
      which that network already errs.
    - It adds the two ranges behind softmax; ours are piecewise, every value goes to its nearest. While it searches the
      split it leaves V unrounded; ours is rounded.
    - GELU's minimum is the block's own activation's, so that QuickGELU has its own.
    - It searches every product on FP32 factors. Ours takes a block's inputs from the FP32 network, and inside the block
      what its quantized modules yield: of 400 development pictures ViT-Ti/16 has 62.5, 56.5 and 10.0 % right at 8, 6
      and 4 bits (FP32 61.5), with FP32 factors everywhere 62.0, 49.2 and 6.5. Were blocks searched on what quantized
      blocks yield, it would be 57.8, 54.5 and 1.0: where noise drowns the goal, what is clipped nearly away comes
      closest to it.
    - Errors are summed over at most 256 rows and 256 columns, drawn by their weight (`lraee.quantize.scale_search`).
    - Patch embedding and head stay in FP32.
    """

    scheme: Literal["ptq4vit"]
    images: PositiveInt = 32

    @property
    def description(self) -> str:
        return (
            f"W{self.weight_bits}A{self.activation_bits}: PTQ4ViT, twin uniform activations, attention's products too; "
            f"scales by Hessian-weighted output error on {self.images} images"
        )

    def calibrate(self, tower: "Tower", batches: Batches) -> QuantizerState:
        from lraee.quantize.ptq4vit import Bits, calibrate

        return calibrate(tower, Bits(self.weight_bits, self.activation_bits), self.images, batches)

    def block(self, block: "Block", state: QuantizerState) -> "Block":
        from lraee.quantize.ptq4vit import Bits, quantized

        return quantized(block, state, Bits(self.weight_bits, self.activation_bits))
