"""FQ-ViT: power-of-two factors and log2 softmax."""

from typing import TYPE_CHECKING, Literal

from lraee.quantize.block_scheme import BitsScheme
from lraee.quantize.schemes import SCHEMES, Batches, QuantizerState

if TYPE_CHECKING:
    from lraee.models.tower import Block, Tower


@SCHEMES.register("fq-vit")
class FQVit(BitsScheme):
    """FQ-ViT (Lin et al., IJCAI 2022, arXiv 2111.13824).

    - Power-of-two factor: with s = (max - min) / (2^bits - 1) / 8 and z of the whole tensor, each channel c is rounded
      with the scale 2^(a_c) s, a_c in 0 .. 3 that leaves the smallest squared error, and the common z.
    - Softmax lies on a grid of log2: code = clip(round(-log2 x)).
    - Other activations: per tensor, OMSE (both ends of the range shrunk together). Weights: per output channel,
      asymmetric, min-max; the bias is lessened by the mean error (W^ - W) E[x] that rounded weights make on the
      calibration images.

    Where we differ from the paper and its code. The paper puts the factor on the *input* of each LayerNorm, which it
    computes in integers, and rounds the LayerNorm's output per tensor. Our residual stream and LayerNorms stay in FP32,
    and the factor is on the LayerNorm's *output*, which feeds the Linear. Softmax is computed in FP32 from rounded
    queries and keys, each with its own range (there: integer arithmetic on rounded logits, one range for queries, keys
    and values). The published log2 grid has 2^bits + 1 values: ours has 2^bits, the last code being zero. The factors
    are chosen on all calibration images (there: on the last batch). Bias correction is from the variant on which CPT-V
    builds. Patch embedding and classifier stay in FP32.
    """

    scheme: Literal["fq-vit"]

    @property
    def description(self) -> str:
        return (
            f"W{self.weight_bits}A{self.activation_bits}: FQ-ViT, power-of-two factors on LayerNorm outputs, "
            "log2 softmax, attention's products quantized"
        )

    def calibrate(self, tower: "Tower", batches: Batches) -> QuantizerState:
        from lraee.quantize import fq_vit

        return fq_vit.calibrate(tower, self.weight_bits, self.activation_bits, batches)

    def block(self, block: "Block", state: QuantizerState) -> "Block":
        from lraee.quantize import fq_vit

        return fq_vit.quantized(block, state, self.weight_bits, self.activation_bits)
