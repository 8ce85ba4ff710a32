"""Numbers as readers see them: percent, points, intervals and p-values, with typographic minus and hard spaces."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from lraee.metrics.statistics import wilson
from lraee.names import FP32

NBSP = "\u00a0"
MINUS = "\u2212"
MISSING = "–"
RANDOM_WEIGHTS = (
    "The model's weights are random: its own accuracy is chance, what a head scores it learned here from random "
    "features, and no number is a finding about early exit or quantization. All that this run shows is that it runs."
)
NO_FINDING = "With random weights, so no finding: "


def number(value: float, digits: int = 2, signed: bool = False) -> str:
    """A decimal number with a typographic minus; a dash for NaN; no sign on what rounds to zero."""
    if not math.isfinite(value):
        return MISSING if math.isnan(value) else ("∞" if value > 0 else f"{MINUS}∞")
    text = f"{abs(value):,.{digits}f}"
    if float(text.replace(",", "")) == 0:
        return text
    return f"{MINUS if value < 0 else '+' if signed else ''}{text}"


def significant(value: float, digits: int = 3) -> str:
    """A positive quantity that spans magnitudes, to some significant digits, without exponent up to a million."""
    if not math.isfinite(value) or value == 0:
        return number(value, 0)
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}".replace("-", MINUS)
    return number(value, max(0, digits - 1 - math.floor(math.log10(abs(value)))))


def percent(share: float, digits: int = 2) -> str:
    """A share (0..1) in percent: ``0.587 -> 58.70 %``."""
    return MISSING if math.isnan(share) else f"{number(100 * share, digits)}{NBSP}%"


def points(share: float) -> str:
    """A difference of shares in signed percentage points, without the unit: ``0.0237 -> +2.37``."""
    return number(100 * share, 2, signed=True)


def percent_interval(low: float, high: float) -> str:
    """The interval of a share, in percent, without the unit: ``[57.7, 59.7]`` with two decimals."""
    return MISSING if math.isnan(low) or math.isnan(high) else f"[{number(100 * low)}, {number(100 * high)}]"


def points_interval(low: float, high: float) -> str:
    """The interval of a difference of shares, in signed points, without the unit."""
    return MISSING if math.isnan(low) or math.isnan(high) else f"[{points(low)}, {points(high)}]"


def accuracy(value: float, low: float, high: float, n: float) -> str:
    """An accuracy with everything a reader needs: ``58.72 % (95 % interval [57.75, 59.68], n = 10,000)``."""
    interval = f"95{NBSP}% interval {percent_interval(low, high)}"
    return f"{percent(value)} ({interval}, n{NBSP}={NBSP}{count(n)})"


def difference(value: float, low: float, high: float) -> str:
    """A difference with unit and interval: ``+2.37 points (95 % interval [+1.70, +3.04])``."""
    return f"{points(value)}{NBSP}points (95{NBSP}% interval {points_interval(low, high)})"


def count(value: float) -> str:
    """A whole number with thousands separators; a dash for NaN."""
    return number(value, 0)


def bits(value: float) -> str:
    """Bits: 4 as ``4``; a mean that is no whole number with one decimal, as ``4.4``."""
    return number(value, 0 if float(value).is_integer() else 1)


def bit_pair(weights: float, activations: float) -> str:
    """Bits of weights and activations: ``W4A8``, ``W4.4A8``."""
    return f"W{bits(weights)}A{bits(activations)}"


def p_value(value: float) -> str:
    """A p-value with its relation: ``= 0.012`` or ``< 0.001``; a dash for NaN."""
    if math.isnan(value):
        return MISSING
    return f"<{NBSP}0.001" if value < 0.001 else f"={NBSP}{value:.3f}"


def wilson_bounds(share: float, n: float) -> tuple[float, float]:
    """95 % Wilson interval of a share of ``n`` images; NaN where there are none."""
    if math.isnan(share) or n <= 0:
        return math.nan, math.nan
    return wilson(round(share * n), int(n))[1:]


def mcnemar(value: float) -> str:
    """A named p-value for running text."""
    return f"McNemar exact p{NBSP}{p_value(value)}" if not math.isnan(value) else "McNemar exact p not available"


def names(items: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "none"


def arm_label(precision: str) -> str:
    """The arm as named in figures and tables: the quantizer's own name, or the control."""
    return "FP32 control" if precision == FP32 else precision


def slugs(items: Iterable[str]) -> dict[str, str]:
    """A unique ASCII identifier for each name, safe in anchors and file names, stable for the same list."""
    result: dict[str, str] = {}
    for item in items:
        base = re.sub(r"[^a-z0-9]+", "-", item.lower()).strip("-")[:40] or "unnamed"
        taken = set(result.values())
        slug = next(s for s in (base, *(f"{base}-{i}" for i in range(2, len(taken) + 3))) if s not in taken)
        result.setdefault(item, slug)
    return result
