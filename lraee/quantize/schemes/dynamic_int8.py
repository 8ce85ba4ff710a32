"""PyTorch's dynamic INT8 quantization, the scheme of the LRA-EE paper, in both readings.

`quantize_dynamic` as PyTorch ships it: int8 weights, one symmetric min-max scale a tensor; activations quantized on the
fly, affine, with the range reduced to 7 bits. Called on an open_clip model it reaches the MLPs only, because attention
keeps its QKV weights in a bare Parameter: that reading is `mlp_only`. `all_linears` is what the paper's text says.
"""

from typing import Literal

from lraee.quantize.linear_scheme import LinearScheme
from lraee.quantize.schemes import SCHEMES, ActivationSpec, LinearRecipe, Role, WeightSpec


@SCHEMES.register("dynamic-int8")
class DynamicInt8(LinearScheme):
    """`reading` says which Linears it reaches."""

    scheme: Literal["dynamic-int8"]
    reading: Literal["mlp_only", "all_linears"]

    def recipe(self, role: Role) -> LinearRecipe | None:
        if self.reading == "mlp_only" and role not in ("fc1", "fc2"):
            return None
        return LinearRecipe(weights=WeightSpec(bits=8), activations=ActivationSpec(bits=7, range="dynamic"))

    @property
    def description(self) -> str:
        reached = {"mlp_only": "the MLPs only", "all_linears": "every Linear of the blocks"}[self.reading]
        return f"PyTorch dynamic INT8 (weights 8 bits per tensor, activations 7 bits per image), {reached}"
