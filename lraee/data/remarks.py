"""Remarks on images: what was left out of an experiment, what was converted, and why."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

Outcome = Literal["skipped", "converted"]


class Remark(NamedTuple):
    """One thing to know about one image; an image may have several.

    `reason` is a short phrase that is the same for the same cause, with a detail of this image after a colon.
    """

    sample: int
    location: str
    outcome: Outcome
    reason: str


def cause(reason: str) -> str:
    """Return the part of a reason that is the same for all images of the same cause."""
    return reason.partition(":")[0]


def told(causes: Counter[tuple[Outcome, str]]) -> str:
    """Word a count of remarks for a log: `skipped: 2 × truncated file, 1 × empty file; converted: nothing`."""
    parts: dict[str, list[str]] = {"skipped": [], "converted": []}
    for (outcome, reason), count in causes.most_common():
        parts[outcome].append(f"{count:,} × {reason}")
    return "; ".join(f"{outcome}: {', '.join(counts) or 'nothing'}" for outcome, counts in parts.items())


def count_causes(remarks: Iterable[Remark]) -> Counter[tuple[Outcome, str]]:
    """Count remarks by outcome and cause."""
    return Counter((remark.outcome, cause(remark.reason)) for remark in remarks)
