"""Hadamard rotation of every Linear's input, as BitSkip and QuaRot have it."""

from typing import TYPE_CHECKING, Literal

from lraee.quantize.block_scheme import BitsScheme
from lraee.quantize.schemes import SCHEMES, Batches, Part, QuantizerState

if TYPE_CHECKING:
    from lraee.models.tower import Block, Tower


@SCHEMES.register("bitskip-hadamard")
class BitSkipHadamard(BitsScheme):
    """BitSkip's H-BitLinear (arXiv 2510.23766), after training; the idea is also in QuaRot (arXiv 2404.00456).

    The input x of every Linear is multiplied by an orthonormal Hadamard matrix H before it is rounded, which spreads an
    outlier over all channels; the weights W (out, in) are multiplied by its inverse, so that nothing changes in FP32:

        y = W x = (W H^T) (H x),    quantized:  Q_w(W H^T) Q_a(H x)

    H is block-diagonal where the width is no power of two, of the largest one that divides it (768 = 3 x 256).
    Attention's products stay in FP32. No image is needed: weights take their largest magnitude per output channel,
    activations the range of each image when it runs.

    A token of a Linear with `in` inputs and blocks of n = a * b (a = b, or 2 a = b) costs in * (a + b) further
    multiply-accumulates in FP32 (768 inputs: 768 * 32); a fast transform would take in * log2(n) additions. Neither is
    in the BOPs of `coverage`, which counts the network's own products.

    Where we differ: BitSkip trains a language model from scratch with ternary weights and rounds activations by the
    largest magnitude of each token; here a trained network's weights are rounded to 2 to 8 bits, and activations, with
    a zero point, by the range of each image, over its tokens. QuaRot moves most rotations into the weights before,
    which a LayerNorm's centring and biases do not allow as they are, and rounds weights by GPTQ.
    """

    scheme: Literal["bitskip-hadamard"]

    @property
    def description(self) -> str:
        return (
            f"W{self.weight_bits}A{self.activation_bits} BitSkip-style Hadamard rotation of every Linear's input: "
            "weights per channel, activations per image, dynamic ranges"
        )

    def bits_of(self, part: Part) -> tuple[int, int] | None:
        return None if part == "products" else super().bits_of(part)

    def calibrate(self, tower: "Tower", batches: Batches) -> QuantizerState:
        from lraee.quantize.hadamard import calibrate

        return calibrate(tower, self.weight_bits)

    def block(self, block: "Block", state: QuantizerState) -> "Block":
        from lraee.quantize.hadamard import quantized_block

        return quantized_block(block, state, self.weight_bits, self.activation_bits)
