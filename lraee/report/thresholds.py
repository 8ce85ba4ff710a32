"""The thresholds of an operating point, as the table ``points`` records them."""

from __future__ import annotations

import json

from lraee.report.wording import number, significant


def by_layer(layers: str, thresholds: str) -> dict[str, float]:
    """Thresholds by exit layer, from ``"8,10"`` and a JSON list with one a layer (``"inf"``: nobody leaves there)."""
    values = json.loads(thresholds or "[]")
    return {layer: float(value) for layer, value in zip(layers.split(","), values, strict=True)} if values else {}


def in_words(layers: str, thresholds: str) -> str:
    """The same for a reader: ``8: 0.512, 10: ∞``."""
    shown = by_layer(layers, thresholds).items()
    return ", ".join(f"{layer}: {number(value) if abs(value) >= 1 else significant(value)}" for layer, value in shown)
