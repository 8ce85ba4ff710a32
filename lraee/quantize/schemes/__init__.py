"""Quantization schemes by name; one file each.

A scheme owns its work: it calibrates itself on an FP32 tower, applies what it found, and says how much of the tower it
reaches. Most say only which Linear gets which bits, ranges and observer (a `LinearRecipe`) and leave the rest to
`lraee.quantize.linear_scheme`. Nothing here needs torch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

from pydantic import Field

from lraee.quantize.operating_point import OperatingPoint
from lraee.registry import Registry
from lraee.settings import Bits, Settings

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from lraee.models.tower import Tower

Role = Literal["qkv", "proj", "fc1", "fc2"]
"""A Linear's place in a block: attention input, attention output, first and second MLP layer."""

Part = Literal["qkv", "proj", "fc1", "fc2", "products"]
"""What multiplies in a block: its Linears, and attention's two products (queries x keys, weights x values)."""

Batches: TypeAlias = "Callable[[], Iterable[Tensor]]"
"""Starts a pass over the calibration set: batches of pixels (B, 3, H, W)."""

QuantizerState: TypeAlias = "dict[str, Tensor]"
"""What a scheme's calibration found, by names of the scheme's choice."""


class WeightSpec(Settings):
    """Symmetric weight quantization: one scale a tensor, or one an output channel."""

    bits: Bits = 8
    granularity: Literal["tensor", "channel"] = "tensor"


class ActivationSpec(Settings):
    """Affine per-tensor activation quantization.

    `dynamic` takes the range of each image's own activations when it runs; `static` takes it from the `quant` split
    through an observer. `percentile` is the share, in %, that the percentile observer keeps on either side;
    `best-percentile` takes of 99.9, 99.99 and 99.999 the one with the smallest squared error.
    """

    bits: Bits = 8
    range: Literal["static", "dynamic"] = "static"
    observer: Literal["min-max", "percentile", "mse", "best-percentile"] = "min-max"
    percentile: float = Field(default=99.99, gt=50.0, le=100.0)


class LinearRecipe(Settings):
    """How one Linear is quantized."""

    weights: WeightSpec
    activations: ActivationSpec


@dataclass(frozen=True)
class Coverage:
    """What a scheme really quantizes, and the bit operations (BOPs) of an image that this leaves in the vision tower.

    `parameters` and `macs` are shares of the tower's. The bits are means over the MACs of the quantized Linears.
    `block_bops` has one entry a block; stem and head are those of the model as it is.
    """

    parameters: float
    macs: float
    weight_bits: float
    activation_bits: float
    stem_bops: float
    block_bops: tuple[float, ...]
    head_bops: float


class Scheme(Settings, ABC):
    """Base of every scheme's settings. A subclass adds `scheme: Literal["<its name>"]`."""

    @property
    @abstractmethod
    def description(self) -> str:
        """One line for the report."""

    def needs(self) -> list[OperatingPoint]:
        """Name the fitted exits of other quantizers that must be known before this one is calibrated."""
        return []

    def told(self, utilisation: "Mapping[str, pd.DataFrame]") -> Self:
        """Return the scheme with what it needs: by quantizer, which share of the images executes each block."""
        return self

    @abstractmethod
    def calibrate(self, tower: "Tower", batches: Batches) -> QuantizerState:
        """Fit the scheme to an FP32 tower; the tower stays as it is."""

    def calibrate_resumably(self, tower: "Tower", batches: Batches, checkpoint: Path) -> QuantizerState:
        """Calibrate, and where that takes long, go on from what an interrupted calibration kept in `checkpoint`.

        The path must name all that the calibration depends on. Most schemes keep nothing.
        """
        return self.calibrate(tower, batches)

    @abstractmethod
    def apply(self, tower: "Tower", state: QuantizerState) -> "Tower":
        """Return a quantized copy of an FP32 tower; it takes and yields float32, like the tower itself."""

    @abstractmethod
    def coverage(self, tower: "Tower", state: QuantizerState) -> Coverage:
        """Measure what the scheme, calibrated to `state`, reaches in an FP32 tower; ValueError if that is nothing."""


SCHEMES: Registry[type[Scheme]] = Registry("quantization scheme", __name__)
