"""The sizes of a vision tower; free of torch, so that costs can be counted without it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TowerShape:
    """Sizes that the closed-form cost needs. `tokens` counts [CLS]; `patch` is one patch's input size (3 p^2)."""

    depth: int
    tokens: int
    width: int
    hidden: int
    patch: int
    embedding: int
    projected: bool
    """Whether the head multiplies by a width x embedding matrix."""
