"""Settings of the noise profile; apart from it, because they must load without torch."""

from pydantic import Field

from lraee.settings import PositiveInt, Settings


class NoiseSettings(Settings):
    """The profile is taken on the first `images` of the `fit` split; `kappa` is the pruning rule's factor.

    At most 1, so that the candidate with the highest INR is always kept.
    """

    images: PositiveInt = 512
    kappa: float = Field(default=0.5, ge=0.0, le=1.0)
