"""Settings of what is measured; apart from the measuring, because they must load without torch."""

from typing import Annotated

from pydantic import Field

from lraee.settings import PositiveInt, Settings


class NoiseSettings(Settings):
    """The profile is taken on the first `images` of the `fit` split; `kappa` is the pruning rule's factor.

    At most 1, so that the candidate with the highest INR is always kept.
    """

    images: PositiveInt = 512
    kappa: float = Field(default=0.5, ge=0.0, le=1.0)


class LatencySettings(Settings):
    """Time what is exported on the first `images` of the test split, `rounds` times, in batches of several sizes.

    Once on one thread and once on as many as the run was given cores, while nothing else of the workflow runs.
    """

    images: PositiveInt = 128
    rounds: PositiveInt = 2
    batches: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 8, 32)
