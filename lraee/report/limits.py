"""What the numbers do not say, worded from the data so that it holds for every experiment."""

from __future__ import annotations

import json

from lraee.report.tables import ReportTables
from lraee.report.wording import count


def _splits(tables: ReportTables) -> str:
    """How the images were divided."""
    sizes = tables.provenance.get("n_by_split")
    given = f" ({', '.join(f'{name} {count(n)}' for name, n in sizes.items())})" if isinstance(sizes, dict) else ""
    return (
        f"Disjoint splits were used{given}: quantizer calibration, head fitting, gate fitting and threshold selection "
        "each had their own images, and the test images served only for the numbers shown. Points called "
        "Pareto-optimal were chosen on the select split. Comparing many points on one test split still invites "
        "picking the luckiest; the headline was fixed in the configuration beforehand."
    )


def _supervision(tables: ReportTables) -> str:
    """Whether labels were needed."""
    rows = tables.points[tables.points["headline"]]
    kinds = sorted(set(rows["supervision"]))
    return (
        "Heads and gates marked hard or distilled are fitted with labels, so their accuracy is not zero-shot and the "
        "margin over a zero-shot full depth includes what the labels teach; only label-free rows do without. "
        f"Supervision of the headline: {', '.join(map(str, kinds)) or 'not recorded'}."
    )


def _named(tables: ReportTables, key: str) -> str:
    """What the provenance records under a key, in brackets; empty where it records nothing."""
    item = tables.provenance.get(key)
    return "" if item is None else f" ({item if isinstance(item, str) else json.dumps(item)})"


def limits(tables: ReportTables) -> list[str]:
    """The limits of this experiment, as sentences for a reader."""
    provenance = tables.provenance
    model, data = _named(tables, "model"), _named(tables, "data")
    n = tables.points["n"]
    images = count(n.min()) if n.nunique() <= 1 else f"{count(n.min())} to {count(n.max())}"
    return [
        "Quantization is simulated: values are rounded to the grid of the quantizer and computed in floating point. "
        "Integer kernels may round differently.",
        "Compute is counted in multiply-accumulate operations (MACs). MACs are not time: a saved share of MACs is no "
        "promise of a faster run.",
        f"One model{model} and one data set{data}; nothing here shows that other models or data behave alike.",
        f"Test images: {images if len(tables.points) else 'none'}. Effects smaller than the intervals shown cannot be "
        "seen with that many.",
        f"One seed ({provenance.get('seed', 'not recorded')}): intervals cover the choice of test images, not the "
        "randomness of fitting heads and gates.",
        "Intervals and p-values (McNemar's exact test) are not corrected for the number of comparisons in this report.",
        _supervision(tables),
        _splits(tables),
    ]
