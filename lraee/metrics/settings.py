"""Settings of what is measured; apart from the measuring, because they must load without torch."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from lraee.settings import PositiveInt, Settings

PeerName = Literal["onnxruntime-int8", "openvino-fp32", "openvino-nncf-int8", "torch-dynamic-int8", "torch-fp32"]
"""The peers of `lraee/runtime/peers`, listed because looking them up there takes torch."""


class NoiseSettings(Settings):
    """The profile is taken on the first `images` of the `fit` split; `kappa` is the pruning rule's factor.

    At most 1, so that the candidate with the highest INR is always kept.
    """

    images: PositiveInt = 512
    kappa: float = Field(default=0.5, ge=0.0, le=1.0)


class LatencySettings(Settings):
    """Time what is exported on the first `images` of the test split, `rounds` times, in batches of several sizes.

    Once on one thread and once on as many as the run was given cores, while nothing else of the workflow runs. Of
    `peers` those take part that are installed; torch in FP32, which all are compared with, always does.
    """

    images: PositiveInt = 128
    rounds: PositiveInt = 2
    batches: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 8, 32)
    peers: tuple[PeerName, ...] = get_args(PeerName)
