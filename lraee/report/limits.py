"""What the numbers do not say, worded from the data so that it holds for every experiment."""

from __future__ import annotations

import json

from lraee.report.tables import ReportTables
from lraee.report.wording import RANDOM_WEIGHTS, bit_pair, count


def _splits(tables: ReportTables) -> str:
    """How the images were divided."""
    sizes = tables.images_by_split
    given = f" ({', '.join(f'{name} {count(n)}' for name, n in sizes.items())})" if sizes else ""
    return (
        f"Disjoint splits were used{given}: quantizer calibration, head fitting, gate fitting and threshold selection "
        "each had their own images, and the test images served only for the numbers shown. Points called "
        "Pareto-optimal were chosen on the select split. The oracle alone uses test labels. Comparing many points on "
        "one test split still invites picking the luckiest; the headline was fixed in the configuration beforehand."
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


def _seeds(tables: ReportTables) -> str:
    """How many seeds there are, and what they vary."""
    seeds = int(tables.seeds["seed"].nunique()) if len(tables.seeds) else 1
    covers = "Intervals cover the choice of test images, not the randomness of fitting heads and gates"
    if seeds < 2:
        seed = tables.provenance.get("seed", "not recorded")
        return f"{covers}, which was done with one seed only ({seed})."
    return (
        f"{covers}. The headline alone is refitted with {seeds} seeds: the margins in the verdict and of the FP32 "
        "control are means over them, with intervals that hold both. All other points come from the first seed, and "
        "the test images, the network and the quantizer's calibration images are the same throughout."
    )


def _bits(tables: ReportTables) -> str:
    """Which bits were simulated, and what that leaves out."""
    own = tables.quantizers[tables.quantizers["weight_bits"] < 32]
    pairs = own[["weight_bits", "activation_bits"]].drop_duplicates().itertuples(index=False, name=None)
    bits = sorted({bit_pair(weights, activations) for weights, activations in pairs})
    given = f" (here {', '.join(bits)})" if bits else ""
    return (
        f"Quantization is simulated{given}: values are rounded to the grid of the quantizer and computed in floating "
        "point. Integer kernels may round differently, and bit operations are counted, not run. Heads and gates are "
        "not quantized."
    )


def _comparisons(tables: ReportTables) -> str:
    """What is corrected for many comparisons, and what is not."""
    return (
        "Intervals are for one comparison at a time. The p-values in columns marked Holm are corrected, those of "
        "operating points over all routed and static points of the experiment; all other p-values are not."
    )


def _risk(tables: ReportTables) -> str:
    """What the guarantees of risk-controlled thresholds do not say."""
    return (
        "Each guarantee of risk-controlled thresholds is for one configuration and one level at a time, for images "
        "from the same source as those that chose them; taken together they are weaker, and picking the best of them "
        "afterwards has no guarantee."
    )


def limits(tables: ReportTables) -> list[str]:
    """The limits of this experiment, as sentences for a reader."""
    model, data = _named(tables, "model"), _named(tables, "data")
    n = tables.points["n"]
    images = count(n.min()) if n.nunique() <= 1 else f"{count(n.min())} to {count(n.max())}"
    told = [
        _bits(tables),
        "Compute is counted in multiply-accumulate operations (MACs) and bit operations (BOPs). Time is not measured: "
        "a saved share of MACs is no promise of a faster run.",
        f"One model{model} and one data set{data}; nothing here shows that other models or data behave alike.",
        f"Test images: {images if len(tables.points) else 'none'}. Effects smaller than the intervals shown cannot be "
        "seen with that many.",
        _seeds(tables),
        _comparisons(tables),
        _supervision(tables),
        _splits(tables),
    ]
    if (tables.points["study"] == "risk").any():
        told.append(_risk(tables))
    return [RANDOM_WEIGHTS, *told] if tables.random_weights else told
