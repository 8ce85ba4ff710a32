"""Quantization schemes by name; one file each.

A scheme says which Linear gets which bits, ranges and observer (a `LinearRecipe`); `lraee.quantize.layers` carries it
out. Nothing here needs torch.
"""

from abc import ABC, abstractmethod
from typing import Literal

from pydantic import Field

from lraee.registry import Registry
from lraee.settings import Bits, Settings

Role = Literal["qkv", "proj", "fc1", "fc2"]
"""A Linear's place in a block: attention input, attention output, first and second MLP layer."""


class WeightSpec(Settings):
    """Symmetric weight quantization: one scale a tensor, or one an output channel."""

    bits: Bits = 8
    granularity: Literal["tensor", "channel"] = "tensor"


class ActivationSpec(Settings):
    """Affine per-tensor activation quantization.

    `dynamic` takes the range of each image's own activations when it runs; `static` takes it from the `quant` split
    through an observer. `percentile` is the share, in %, that the percentile observer keeps on either side.
    """

    bits: Bits = 8
    range: Literal["static", "dynamic"] = "static"
    observer: Literal["min-max", "percentile", "mse"] = "min-max"
    percentile: float = Field(default=99.99, gt=50.0, le=100.0)


class LinearRecipe(Settings):
    """How one Linear is quantized."""

    weights: WeightSpec
    activations: ActivationSpec


class Scheme(Settings, ABC):
    """Base of every scheme's settings. A subclass adds `scheme: Literal["<its name>"]`."""

    @abstractmethod
    def recipe(self, role: Role) -> LinearRecipe | None:
        """Return how the Linear in `role` is quantized, in every block; None leaves it in FP32."""

    @property
    @abstractmethod
    def description(self) -> str:
        """One line for the report."""


SCHEMES: Registry[type[Scheme]] = Registry("quantization scheme", __name__)
