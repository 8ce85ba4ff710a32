"""RepQ-ViT: complex quantizers for calibration, folded into simple ones."""

from typing import TYPE_CHECKING, Literal

from lraee.quantize.block_scheme import BitsScheme
from lraee.quantize.schemes import SCHEMES, Batches, QuantizerState

if TYPE_CHECKING:
    from lraee.models.tower import Block, Tower


@SCHEMES.register("repq-vit")
class RepQVit(BitsScheme):
    """RepQ-ViT (Li et al., ICCV 2023, arXiv 2212.08254).

    - What a LayerNorm yields gets a scale s_c and a zero point z_c for each channel c, which become one pair s~, z~
      (their means) by changing the LayerNorm and the Linear behind it: with r = s / s~ and b = s~ (z~ - z),
      gamma <- gamma / r, beta <- beta / r - b, W <- W r, bias <- bias + W r b. In FP32 this is the same function.
    - Softmax lies on a grid of log-sqrt2: code = clip(round(-2 log2(x / delta))).
    - Every range, weights' (asymmetric, one an output channel) and activations', is of the cuts at 99.9, 99.99 and
      99.999 % the one with the smallest squared error; delta too. Queries, keys and values are quantized as well.

    Where we differ from the published code. Its z~ is a mean and not rounded, so its codes are no integers: ours is.
    Its log grid has 2^bits + 1 values: ours has 2^bits, the last code being zero. It observes each activation behind
    layers that are quantized already, on 32 images; we observe the FP32 network, on all calibration images: with 32
    of 50 tokens each, the three cuts of a channel lie among its three largest values. It also quantizes patch embedding
    and classifier, which stay in FP32 here.
    """

    scheme: Literal["repq-vit"]

    @property
    def description(self) -> str:
        return (
            f"W{self.weight_bits}A{self.activation_bits}: RepQ-ViT, LayerNorm channels folded, log-sqrt2 softmax, "
            "attention's products quantized"
        )

    def calibrate(self, tower: "Tower", batches: Batches) -> QuantizerState:
        from lraee.quantize import repq_vit

        return repq_vit.calibrate(tower, self.weight_bits, self.activation_bits, batches)

    def block(self, block: "Block", state: QuantizerState) -> "Block":
        from lraee.quantize import repq_vit

        return repq_vit.quantized(block, state, self.weight_bits, self.activation_bits)
