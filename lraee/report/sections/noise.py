"""Where quantization noise accumulates, and what a noisy layer does as an exit."""

from __future__ import annotations

import pandas as pd

from lraee.report import figures, layers
from lraee.report.content import ARM, Block, N, panels, rounded, with_arm
from lraee.report.datatables import Column, build
from lraee.report.tables import ReportTables
from lraee.report.wording import number


def noise(tables: ReportTables) -> Block:
    """Noise-to-signal and information-to-noise by layer."""
    table = tables.noise
    kappa = float(tables.provenance.get("kappa", float("nan")))
    columns = [
        Column("quantizer", "Quantizer"), Column("tokens", "Tokens"), Column("layer", "Blocks", "layer"),
        Column("nsr", "NSR, %", "percent", True), Column("inr", "INR", "ratio"),
        Column("sqnr_db", "SQNR, dB", "number"), Column("cosine", "Cosine", "ratio"), N,
        Column("candidate", "Candidate", "flag"), Column("pathological", "Dropped", "flag"),
    ]  # fmt: skip
    return Block(
        "fig-noise",
        "Top: NSR, the size of the quantization error relative to the block's own update, with 95 % intervals. Bottom: "
        "INR, the signal's energy over the error's variance. Grey bands are candidate exits; the dashed line is the "
        f"rule's bound (κ = {number(kappa)} times the candidates' mean INR over all tokens); one below it is dropped. "
        "Axes differ between quantizers.",
        panels(tables, "noise", "Quantization noise by layer, as NSR in percent and INR on a logarithmic axis,",
               lambda name, theme: figures.noise(table[table["quantizer"] == name], name, kappa, theme)),
        build("data-noise", "Noise by layer", table, columns),
    )  # fmt: skip


def activations(tables: ReportTables) -> Block:
    """Activation peaks, cosine and mean squared error by layer, over all tokens."""
    rows = tables.noise[tables.noise["tokens"] == "all"]
    shown = rows[["quantizer", "layer", "n", "peak", "peak_quantized", "cosine", "mse", "inr", "candidate",
                  "pathological"]]  # fmt: skip
    columns = [
        Column("quantizer", "Quantizer"), Column("layer", "Blocks", "layer"), N,
        Column("peak", "Peak, FP32", "ratio"), Column("peak_quantized", "Peak, quantized", "ratio"),
        Column("cosine", "Cosine", "ratio"), Column("mse", "MSE", "ratio"), Column("inr", "INR", "ratio"),
        Column("candidate", "Candidate", "flag"), Column("pathological", "Dropped", "flag"),
    ]  # fmt: skip
    return Block(
        "fig-activations",
        "By blocks executed, over all tokens: the largest absolute activation of an image (mean over images; "
        "logarithmic axis), the cosine between quantized and FP32 state, and the mean squared quantization error per "
        "element (logarithmic axis). Grey bands are candidate exits; a vertical line marks one that the INR rule "
        "drops. Means over the images of the noise profile (n in the data), shown without intervals; axes differ "
        "between quantizers.",
        panels(tables, "activations", "Activation peak, cosine and mean squared error by layer",
               lambda name, theme: layers.activations(rows[rows["quantizer"] == name], name, theme)),
        build("data-activations", "Activations and error by layer", shown, columns),
    )  # fmt: skip


_SIDE = ["quantizer", "precision", "threshold", "n", "top1", "top1_low", "top1_high", "saved"]


def toggled(tables: ReportTables) -> pd.DataFrame:
    """Accuracy over all global thresholds with and without each candidate layer that was toggled, one row a threshold.

    ``difference`` is with minus without; ``in_headline`` tells whether the headline has the layer.
    """
    parts = []
    for (quantizer, precision), arm in tables.sweep.groupby(["quantizer", "precision"], sort=False):
        headline = tables.headline(str(quantizer), str(precision))
        own = arm if headline is None else arm[arm["policy"] == headline["policy"]]
        base = own[own["is_base"]]
        for other, rows in own[~own["is_base"]].groupby("layers", sort=False):
            parts += [_toggle(base, rows, str(other))] if len(base) else []
    found = [part for part in parts if part is not None]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["quantizer", "precision", "layer"])


def _toggle(base: pd.DataFrame, rows: pd.DataFrame, layers_of: str) -> pd.DataFrame | None:
    """One toggled layer against the headline's layers; None where more than one layer differs."""
    ours, theirs = set(str(base["layers"].iloc[0]).split(",")), set(layers_of.split(","))
    layer = ours ^ theirs
    if len(layer) != 1:
        return None
    included = theirs > ours
    with_it, without = (rows, base) if included else (base, rows)
    merged = with_it[_SIDE].merge(without[_SIDE], on=_SIDE[:4], suffixes=("", "_without"))
    names = {name: f"{name}_with" for name in ("top1", "top1_low", "top1_high", "saved")}
    merged = merged.assign(difference=merged["top1"] - merged["top1_without"]).rename(columns=names)
    return merged.rename(columns={
        "top1_low_without": "top1_without_low", "top1_high_without": "top1_without_high",
        "top1_low_with": "top1_with_low", "top1_high_with": "top1_with_high",
    }).assign(layer=int(layer.pop()), in_headline=not included)  # fmt: skip


def toggles(tables: ReportTables) -> Block:
    """What each candidate layer costs or brings over the sweep of thresholds."""
    rows = toggled(tables)
    columns = [
        *ARM, Column("layer", "Layer", "layer"), Column("in_headline", "In the headline", "flag"),
        Column("threshold", "Threshold τ", "number"), Column("top1_with", "Top-1 with it", "percent", True),
        Column("top1_without", "Top-1 without it", "percent", True), N,
        Column("difference", "With minus without, points", "points"),
        Column("saved_with", "Compute saved with it", "percent1"),
        Column("saved_without", "Compute saved without it", "percent1"),
    ]  # fmt: skip
    return Block(
        "fig-toggles",
        "Accuracy with a candidate layer among the exits minus accuracy without it, over one threshold τ for all "
        "exits (nothing is chosen here). Dashed: a layer that the headline does not have. Both accuracies, with "
        "95 % intervals and n, are in the data; the two sides also differ in compute. Axes differ between quantizers.",
        panels(tables, "toggles", "Accuracy with each candidate layer minus without it, over the threshold,",
               lambda name, theme: layers.toggles(rows[rows["quantizer"] == name], name, theme)),
        build("data-toggles", "Each candidate layer with and without", rounded(with_arm(rows)), columns),
    )  # fmt: skip
