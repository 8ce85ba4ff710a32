"""Settings of the exit heads; apart from them, because they must load without torch."""

from typing import Annotated, Literal

from pydantic import Field

from lraee.settings import PositiveInt, Settings

Aggregation = Literal["ssa", "cls"]
Supervision = Literal["distilled", "hard", "label-free"]
Schedule = Literal["constant", "linear"]


class HeadSettings(Settings):
    """How heads are trained; the paper's values are the defaults (3 epochs, Adam 5e-4, batch 64).

    A `linear` schedule lets the learning rate fall to zero by the end: a higher rate then needs fewer epochs.
    """

    aggregations: Annotated[list[Aggregation], Field(min_length=1)]
    supervisions: Annotated[list[Supervision], Field(min_length=1)]
    epochs: PositiveInt = 3
    learning_rate: float = Field(default=5e-4, gt=0.0)
    schedule: Schedule = "constant"
    batch: PositiveInt = 64
