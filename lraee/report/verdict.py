"""The answer in plain words, computed from the tables: true whichever way the data went."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import pandas as pd

from lraee.names import FP32
from lraee.report.tables import ReportTables
from lraee.report.wording import (
    NBSP,
    NO_FINDING,
    RANDOM_WEIGHTS,
    accuracy,
    difference,
    mcnemar,
    names,
    number,
    percent,
    points,
)


class Outcome(StrEnum):
    """What a 95 % interval says about a difference."""

    ABOVE = "above zero"
    BELOW = "below zero"
    UNDECIDED = "undecided"
    UNCHANGED = "no change"
    UNKNOWN = "not measured"


def outcome(low: float, high: float) -> Outcome:
    """Read an interval: the sign where it excludes 0, ``UNCHANGED`` where it is exactly [0, 0], else ``UNDECIDED``."""
    if math.isnan(low) or math.isnan(high):
        return Outcome.UNKNOWN
    if low == high == 0:
        return Outcome.UNCHANGED
    return Outcome.ABOVE if low > 0 else Outcome.BELOW if high < 0 else Outcome.UNDECIDED


@dataclass(frozen=True)
class QuantizerVerdict:
    """What was found for one quantizer: one plain sentence, and the numbers behind it as labelled sentences."""

    quantizer: str
    exit: Outcome
    control: Outcome
    attributable: Outcome
    refit: Outcome
    best: Outcome
    exits_over_refit: Outcome
    summary: str
    findings: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Verdict:
    """The whole answer: the lead, what backs it up over all quantizers, and one entry a quantizer.

    ``refits`` says, for each quantizer under which a refitted head at full depth beats every exit, what to do instead.
    Where the model's weights are random the lead says that alone, nothing is advised, and the rest is marked.
    """

    lead: str
    refits: tuple[str, ...]
    support: tuple[str, ...]
    quantizers: tuple[QuantizerVerdict, ...]


def _interval(row: pd.Series[Any] | None, name: str) -> Outcome:
    """Outcome of the difference ``name`` of a row with ``<name>_low`` and ``<name>_high``; UNKNOWN without a row."""
    if row is None:
        return Outcome.UNKNOWN
    return outcome(float(row[f"{name}_low"]), float(row[f"{name}_high"]))


def _difference(row: pd.Series[Any], name: str) -> str:
    return difference(float(row[name]), float(row[f"{name}_low"]), float(row[f"{name}_high"]))


def _full_depth(row: pd.Series[Any] | None, reference: pd.Series[Any] | None) -> str:
    """What quantization costs with no exit at all."""
    if row is None:
        return "Its accuracy at full depth was not measured."
    own = accuracy(row["top1"], row["top1_low"], row["top1_high"], row["n"])
    if reference is None:
        return f"Full depth scores {own}; FP32 was not measured, so the cost of quantization is unknown."
    fp32 = accuracy(reference["top1"], reference["top1_low"], reference["top1_high"], reference["n"])
    reading = {
        Outcome.ABOVE: "quantization alone raised accuracy",
        Outcome.BELOW: "quantization costs accuracy",
        Outcome.UNDECIDED: "the interval includes 0, so no cost is shown",
        Outcome.UNCHANGED: "no image changed sides",
        Outcome.UNKNOWN: "the difference was not measured",
    }[_interval(row, "difference")]
    change = _difference(row, "difference")
    return f"Full depth scores {own}, in FP32 {fp32}: {change}, {mcnemar(row['mcnemar_p'])}; {reading}."


def _compute(row: pd.Series[Any]) -> str:
    """Compute saved, or used on top where heads and gates cost more than the exits save."""
    saved = float(row["saved"])
    return f"{percent(saved, 1)} of the compute saved" if saved >= 0 else f"{percent(-saved, 1)} more compute used"


def _exit(row: pd.Series[Any] | None, subject: str) -> str:
    """What the headline early exit does to one arm, against the same arm's own full depth."""
    if row is None:
        return f"{subject} was not run."
    reading = {
        Outcome.ABOVE: "a gain",
        Outcome.BELOW: "a loss",
        Outcome.UNDECIDED: "undecided, because the interval includes 0",
        Outcome.UNCHANGED: "no change",
        Outcome.UNKNOWN: "not decidable without an interval",
    }[_interval(row, "margin")]
    change = _difference(row, "margin")
    return f"{subject} changes accuracy by {change}, {mcnemar(row['mcnemar_p'])}, with {_compute(row)}: {reading}."


def of_seeds(row: pd.Series[Any]) -> str:
    """Whose mean the margins of an attribution row are, in brackets; empty where one seed ran."""
    seeds = int(row["seeds"])
    return f" (mean of {seeds} seeds)" if seeds > 1 else ""


def _attribution(row: pd.Series[Any] | None) -> str:
    """How much of the effect disappears when the quantization does."""
    result = _interval(row, "attributable")
    if row is None or result is Outcome.UNKNOWN:
        return "How much of this quantization explains was not measured."
    reading = {
        Outcome.ABOVE: "the interval excludes 0, so early exit does more for the quantized model than for FP32",
        Outcome.BELOW: "the interval excludes 0, so early exit does less for the quantized model than for FP32",
        Outcome.UNDECIDED: "the interval includes 0, so it is not shown that quantization plays a part",
        Outcome.UNCHANGED: "both arms moved by exactly the same amount",
    }[result]
    change = _difference(row, "attributable")
    return f"Margin under the quantizer minus margin in FP32{of_seeds(row)}: {change}; {reading}."


def _refit(row: pd.Series[Any] | None) -> str:
    """Whether a head that merely learned to live with the noise does as well with no exit."""
    result = _interval(row, "routed_minus_refit")
    if row is None or result is Outcome.UNKNOWN:
        return "No head was refitted at full depth, so a gain by head training alone cannot be excluded."
    reading = {
        Outcome.ABOVE: "routing is better than that head, so early exit adds something that refitting does not",
        Outcome.BELOW: "that head is better than routing, so this accuracy needs no early exit",
        Outcome.UNDECIDED: "the interval includes 0, so early exit is not shown to add accuracy to refitting",
        Outcome.UNCHANGED: "the two are right on the same number of images",
    }[result]
    head = f"A fresh head refitted at full depth{_label(row)}"
    change = _difference(row, "routed_minus_refit")
    return f"{head} scores {_refit_accuracy(row)}; routed minus refitted: {change}; {reading}."


def _label(row: pd.Series[Any]) -> str:
    """Which head was refitted, in brackets; empty where that is not recorded."""
    label = str(row["best_full_depth_refit_label"]).strip()
    return f" ({label})" if label else ""


def _refit_accuracy(row: pd.Series[Any]) -> str:
    name = "best_full_depth_refit"
    return accuracy(row[name], row[f"{name}_low"], row[f"{name}_high"], row["n"])


def _on_refit(row: pd.Series[Any] | None) -> str:
    """What routing whose full-depth answer comes from the refitted head saves, and what it costs against that head."""
    result = _interval(row, "on_refit_minus_refit")
    if row is None or result is Outcome.UNKNOWN:
        return "Routing on top of that head was not measured, or saved less compute than the headline."
    saved = float(row["on_refit_saved"])
    compute = f"saves {percent(saved, 1)} of the compute" if saved >= 0 else f"uses {percent(-saved, 1)} more compute"
    reading = {
        Outcome.ABOVE: "a further gain",
        Outcome.BELOW: "a loss",
        Outcome.UNDECIDED: "no change is shown, because the interval includes 0",
        Outcome.UNCHANGED: "no change",
    }[result]
    change = _difference(row, "on_refit_minus_refit")
    return f"Routing on top of that head {compute} and changes its accuracy by {change}: {reading}."


def _instead(quantizer: str, row: pd.Series[Any]) -> str:
    """What beats every exit under a quantizer, and what exits can still save on top of it."""
    return (
        f"Under {quantizer} a head refitted at full depth{_label(row)}, with no exit, scores {_refit_accuracy(row)}; "
        f"the best configuration with exits minus that head: {_difference(row, 'best_minus_refit')}. {_on_refit(row)}"
    )


def _best(row: pd.Series[Any] | None, control: pd.Series[Any] | None) -> str:
    """What the best routed configuration of the grid does, chosen on other images than those it is measured on."""
    if row is None:
        return "No routed configuration saves as much compute as the headline."
    label = f"{row['policy']}, {row['aggregation']} {row['supervision']}, {row['threshold_rule']} thresholds"
    if row["headline"]:
        return "Of the routed configurations that save as much compute, the headline is the best on the select split."
    found = _exit(row, f"Best on the select split among those that save as much compute ({label}): it")
    return found if control is None else f"{found} In FP32 the same configuration: {_difference(control, 'margin')}."


def _effect(row: pd.Series[Any] | None, subject: str, name: str = "margin") -> str:
    """A few words on what early exit does to one arm, by a margin of its row."""
    if row is None:
        return f"{subject} was not measured"
    change = f"{number(100 * abs(float(row[name])))}{NBSP}points"
    return {
        Outcome.ABOVE: f"{subject} gains {change}",
        Outcome.BELOW: f"{subject} loses {change}",
        Outcome.UNDECIDED: f"{subject} is undecided ({points(float(row[name]))}{NBSP}points, interval includes 0)",
        Outcome.UNCHANGED: f"{subject} changes nothing",
        Outcome.UNKNOWN: f"{subject} has no interval",
    }[_interval(row, name)]


def _summary(own: pd.Series[Any] | None, control: pd.Series[Any] | None, attribution: pd.Series[Any] | None) -> str:
    """The finding for one quantizer in one sentence."""
    compute = "" if own is None else f" with {_compute(own)}"
    if attribution is None:
        parts = [_effect(own, "Early exit") + compute, _effect(control, "in FP32 it")]
    else:
        gain = _effect(attribution, f"Early exit{of_seeds(attribution)}")
        parts = [gain + compute, _effect(attribution, "in FP32 it", "fp32_margin")]
    explained = _interval(attribution, "attributable")
    if attribution is not None and explained is not Outcome.UNKNOWN:
        share = f"{points(float(attribution['attributable']))}{NBSP}points"
        excludes = "includes" if explained in (Outcome.UNDECIDED, Outcome.UNCHANGED) else "excludes"
        parts.append(f"attributable to quantization: {share} (interval {excludes} 0)")
    refit = {
        Outcome.ABOVE: "a head refitted at full depth, with no exit, does not reach the same accuracy",
        Outcome.BELOW: "a head refitted at full depth, with no exit, does better",
        Outcome.UNDECIDED: "a head refitted at full depth, with no exit, cannot be told apart from it",
        Outcome.UNCHANGED: "a head refitted at full depth, with no exit, does exactly as well",
    }
    return "; ".join([*parts, *filter(None, [refit.get(_interval(attribution, "routed_minus_refit"))])]) + "."


def _quantizer(tables: ReportTables, quantizer: str) -> QuantizerVerdict:
    """All findings for one quantizer."""
    own, control = tables.headline(quantizer, quantizer), tables.headline(quantizer, FP32)
    attribution = tables.row("attribution", quantizer)
    best = tables.best_of_grid(quantizer)
    control_of_best = None if best is None else tables.counterpart(best)
    return QuantizerVerdict(
        quantizer=quantizer,
        exit=_interval(own if attribution is None else attribution, "margin"),
        control=_interval(control, "margin") if attribution is None else _interval(attribution, "fp32_margin"),
        attributable=_interval(attribution, "attributable"),
        refit=_interval(attribution, "routed_minus_refit"),
        best=_interval(best, "margin"),
        exits_over_refit=_interval(attribution, "best_minus_refit"),
        summary=_summary(own, control, attribution),
        findings=(
            ("Quantization", _full_depth(tables.row("quantizers", quantizer), tables.row("quantizers", FP32))),
            ("Early exit", _exit(own, "The headline of the first seed")),
            ("FP32 control", _exit(control, "The same procedure without quantization")),
            ("Attributable", _attribution(attribution)),
            ("Refitted head", _refit(attribution)),
            ("On the refit", _on_refit(attribution)),
            ("Best of grid", _best(best, control_of_best)),
        ),
    )


def _with(parts: list[QuantizerVerdict], question: str, answer: Outcome) -> list[str]:
    """Names of the quantizers whose ``question`` came out as ``answer``."""
    return [part.quantizer for part in parts if getattr(part, question) is answer]


def _tally(parts: list[QuantizerVerdict], question: str) -> str:
    """Every outcome that occurred with its quantizers: ``above zero under a and b, undecided under c``."""
    found = [(answer, _with(parts, question, answer)) for answer in Outcome]
    if len(parts) > 1 and any(len(under) == len(parts) for _, under in found):
        return f"{getattr(parts[0], question)} under every quantizer"
    return "; ".join(f"{answer} under {names(under)}" for answer, under in found if under)


def _lost(parts: list[QuantizerVerdict]) -> str:
    """The lead where the headline loses everywhere; another configuration of the grid may still gain."""
    loss = "Early exit makes the quantized model less accurate than its own full depth"
    gaining = _with(parts, "best", Outcome.ABOVE)
    if gaining:
        return f"{loss} in the headline configuration; under {names(gaining)} another configuration of the grid gains."
    return f"{loss}: no rescue here."


def _lead(parts: list[QuantizerVerdict]) -> str:
    """What to remember, over all quantizers: the effect of early exit, and whether a refitted head beats every exit."""
    beaten = _with(parts, "exits_over_refit", Outcome.BELOW)
    if not beaten:
        return _effect_over_all(parts)
    under = "every quantizer" if len(beaten) == len(parts) > 1 else names(beaten)
    return (
        f"{_effect_over_all(parts)} Under {under} a head refitted at full depth, with no exit at all, is more accurate "
        "than the best configuration with exits."
    )


def _effect_over_all(parts: list[QuantizerVerdict]) -> str:
    """What early exit does to the quantized models, in one sentence."""
    exits, explained = {part.exit for part in parts}, {part.attributable for part in parts}
    if exits == {Outcome.ABOVE}:
        gain = "Early exit makes the quantized model more accurate than its own full depth"
        if explained == {Outcome.ABOVE}:
            return f"{gain}, and more so than it does for FP32: quantization explains at least part of the gain."
        if Outcome.ABOVE in explained:
            return f"{gain}; whether quantization explains any of it depends on the quantizer."
        if explained == {Outcome.BELOW}:
            return f"{gain}, but it does even more for FP32: quantization does not explain the gain."
        return f"{gain}, but it is not shown that quantization is the reason."
    if len(exits) > 1:
        return "It depends on the quantizer whether early exit changes the accuracy of the quantized model."
    return {
        Outcome.BELOW: _lost(parts),
        Outcome.UNDECIDED: "Undecided: this experiment shows neither a gain nor a loss from early exit.",
        Outcome.UNCHANGED: "The headline early exit changed the accuracy of no quantized model.",
        Outcome.UNKNOWN: "The effect of early exit was not measured.",
    }[exits.pop() if exits else Outcome.UNKNOWN]


def judge(tables: ReportTables) -> Verdict:
    """Read the verdict off the tables: a gain or a loss is claimed only where the 95 % interval excludes 0.

    A model with random weights gets no verdict.
    """
    parts = [_quantizer(tables, quantizer) for quantizer in tables.quantizer_names()]
    support = (
        f"Headline early exit minus own full depth: {_tally(parts, 'exit')}.",
        f"The same on the FP32 control: {_tally(parts, 'control')}.",
        f"Attributable to quantization: {_tally(parts, 'attributable')}.",
        f"Routed minus a head refitted at full depth: {_tally(parts, 'refit')}.",
        f"Best configuration with exits minus that head: {_tally(parts, 'exits_over_refit')}.",
        f"Best routed configuration of the grid (chosen on the select split, saving at least as much) minus own full "
        f"depth: {_tally(parts, 'best')}.",
    )
    if tables.random_weights:
        marked = tuple(replace(part, summary=f"{NO_FINDING}{part.summary}") for part in parts)
        return Verdict(RANDOM_WEIGHTS, (), tuple(f"{NO_FINDING}{text}" for text in support if parts), marked)
    rows = [(name, tables.row("attribution", name)) for name in _with(parts, "exits_over_refit", Outcome.BELOW)]
    refits = tuple(_instead(name, row) for name, row in rows if row is not None)
    return Verdict(lead=_lead(parts), refits=refits, support=support if parts else (), quantizers=tuple(parts))
