"""The ten questions that the paper leaves open, each answered for every quantizer in words that the data choose."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lraee.report.intervals import standard_deviation
from lraee.report.sections.controls import with_bits
from lraee.report.sections.statistics import holm_rows, optimism
from lraee.report.tables import ReportTables
from lraee.report.verdict import Outcome, of_seeds, outcome
from lraee.report.wording import (
    NBSP,
    NO_FINDING,
    count,
    difference,
    mcnemar,
    names,
    number,
    percent,
    percent_interval,
    points,
    wilson_bounds,
)

NOT_MEASURED = "This was not measured."
Row = pd.Series  # of one table


@dataclass(frozen=True)
class Answer:
    """What was found for one quantizer: the outcome that the short answer counts, and the sentences."""

    outcome: Outcome
    text: str


@dataclass(frozen=True)
class Question:
    """A question with its short answer over all quantizers, one text a quantizer, and where the evidence stands."""

    number: int
    title: str
    short: str
    answers: tuple[tuple[str, str], ...]
    remark: str
    links: tuple[tuple[str, str], ...]


Words = dict[Outcome, str]
_MISSING = Answer(Outcome.UNKNOWN, NOT_MEASURED)


def _measured(row: Row[Any], name: str) -> str:
    """A difference of a row with its interval."""
    return difference(float(row[name]), float(row[f"{name}_low"]), float(row[f"{name}_high"]))


def _sign(row: Row[Any], name: str) -> Outcome:
    return outcome(float(row[f"{name}_low"]), float(row[f"{name}_high"]))


def _short(answers: Iterable[tuple[str, Answer]], words: Words) -> str:
    """Every outcome that occurred, in the question's own words, with the quantizers."""
    given = list(answers)
    told = words | {Outcome.UNKNOWN: words.get(Outcome.UNKNOWN, "not measured")}
    found = [
        (told[kind], [name for name, answer in given if answer.outcome is kind]) for kind in Outcome if kind in told
    ]
    parts = []
    for text, under in found:
        if under:
            parts.append(f"{text}: {'every quantizer' if len(under) == len(given) > 1 else names(under)}")
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}." if sentence else NOT_MEASURED


def _quantization(tables: ReportTables, quantizer: str) -> Answer:
    """1: how much of the margin disappears with the quantization."""
    row = tables.row("attribution", quantizer)
    if row is None or math.isnan(float(row["attributable"])):
        return _MISSING
    result = _sign(row, "attributable")
    reading = {
        Outcome.ABOVE: "early exit does more for the quantized model than for FP32",
        Outcome.BELOW: "early exit does less for the quantized model than for FP32",
        Outcome.UNCHANGED: "both arms moved by exactly the same amount",
    }.get(result, "the interval includes 0, so it is not shown that quantization plays a part")
    return Answer(
        result,
        f"Rescue minus loss{of_seeds(row)} is {_measured(row, 'margin')} under the quantizer and "
        f"{_measured(row, 'fp32_margin')} in FP32; the difference, which is what quantization explains, is "
        f"{_measured(row, 'attributable')}: {reading}.",
    )


def _churn(tables: ReportTables, quantizer: str) -> Answer:
    """2: how many answers quantization alone changes both ways."""
    row = tables.row("quantizers", quantizer)
    if row is None or math.isnan(float(row["difference"])):
        return _MISSING
    n, up, down = float(row["n"]), float(row["churn_rescue"]), float(row["churn_loss"])
    moved = (up + down) / n
    text = (
        f"With no exit at all, {count(up)} images become right and {count(down)} wrong against FP32, of {count(n)}: "
        f"{percent(moved)} change sides (95{NBSP}% interval {percent_interval(*wilson_bounds(moved, n))}), net "
        f"{_measured(row, 'difference')}, {mcnemar(float(row['mcnemar_p']))}."
    )
    headline = tables.headline(quantizer, quantizer)
    if headline is not None:
        text += (
            f" The headline rescues {count(headline['rescue'])} and loses {count(headline['loss'])} against its own "
            "full depth."
        )
    return Answer(_sign(row, "difference"), text)


def _strong(tables: ReportTables, quantizer: str) -> Answer:
    """3: whether another quantizer with no more bits does as well at full depth."""
    rows = with_bits(tables.controls[tables.controls["quantizer"] == quantizer])
    fair = rows[rows["comparison"] == "no more bits"]
    if rows.empty:
        return _MISSING
    if fair.empty:
        return Answer(Outcome.UNKNOWN, "No other quantizer of this experiment has as few bits.")
    signs = [_sign(row, "difference") for _, row in fair.iterrows()]
    better, worse = signs.count(Outcome.BELOW), signs.count(Outcome.ABOVE)
    best = fair.sort_values("other_top1", kind="stable").iloc[-1]
    text = (
        f"Of {len(fair)} other {'quantizer' if len(fair) == 1 else 'quantizers'} with no more bits than its "
        f"{best['bits']}, {better} at full depth {'is' if better == 1 else 'are'} more accurate than the routed "
        f"headline, {worse} less, {len(fair) - better - worse} undecided. Highest on the test images is "
        f"{best['other']} ({best['other_bits']}) with {percent(float(best['other_top1']))}; routed minus it: "
        f"{_measured(best, 'difference')}, {mcnemar(float(best['mcnemar_p']))}, n{NBSP}={NBSP}{count(best['n'])}."
    )
    return Answer(Outcome.BELOW if better else Outcome.ABOVE if worse == len(fair) else Outcome.UNDECIDED, text)


def _static(tables: ReportTables, quantizer: str) -> Answer:
    """4: routing against one exit for all images."""
    row, headline = tables.row("attribution", quantizer), tables.headline(quantizer, quantizer)
    if row is None or headline is None or math.isnan(float(row["routed_minus_static"])):
        return _MISSING
    result = _sign(row, "routed_minus_static")
    reading = {Outcome.ABOVE: "routing is more accurate", Outcome.BELOW: "the static exit is more accurate"}.get(
        result, "the interval includes 0, so neither is shown to be more accurate"
    )
    return Answer(
        result,
        f"The static exit that is best on select ({row['best_static_label']}) scores "
        f"{percent(float(row['best_static']))} (95{NBSP}% interval "
        f"{percent_interval(float(row['best_static_low']), float(row['best_static_high']))}); the headline minus it is "
        f"{_measured(row, 'routed_minus_static')}, on the same images: {reading}.",
    )


def _label_free(tables: ReportTables, quantizer: str) -> Answer:
    """5: the headline's procedure without any label."""
    headline = tables.headline(quantizer, quantizer)
    rows = None if headline is None else tables.like(headline, supervision="label-free")
    if rows is None or rows.empty:
        return _MISSING
    row = rows.iloc[0]
    control = tables.counterpart(row)
    fp32 = "" if control is None else f"; in FP32 the same by {_measured(control, 'margin')}"
    reading = {
        Outcome.ABOVE: "a gain that needs no labels",
        Outcome.BELOW: "a loss",
        Outcome.UNCHANGED: "no change",
    }.get(_sign(row, "margin"), "undecided, because the interval includes 0")
    return Answer(
        _sign(row, "margin"),
        f"Without labels the headline's procedure changes accuracy by {_measured(row, 'margin')}, "
        f"{mcnemar(float(row['mcnemar_p']))}, with {percent(float(row['saved']), 1)} of the compute saved{fp32}: "
        f"{reading}.",
    )


def _accounting(tables: ReportTables, quantizer: str) -> Answer:
    """6: the paper's count of saved compute minus ours."""
    row = tables.headline(quantizer, quantizer)
    if row is None:
        return _MISSING
    paper, saved = float(row["saved_blocks"]), float(row["saved"])
    return Answer(
        _sign(row, "uncounted"),
        f"The paper's count (blocks alone) says {percent(paper)}; with everything counted it is {percent(saved)} "
        f"(95{NBSP}% interval {percent_interval(float(row['saved_low']), float(row['saved_high']))}). Paper's count "
        f"minus ours, on the same images: {_measured(row, 'uncounted')}.",
    )


def _leakage(tables: ReportTables, quantizer: str) -> Answer:
    """7: how much better the headline looks on the split that chose its thresholds."""
    row = optimism(tables, quantizer, quantizer)
    if row is None or math.isnan(row["optimism_low"]):
        return _MISSING
    low, high = row["optimism_low"], row["optimism_high"]
    result = outcome(low, high)
    reading = {
        Outcome.ABOVE: "the select split, used for reporting, would have flattered it",
        Outcome.BELOW: "the select split happens to be harder than the test split",
    }.get(result, "no optimism is shown, because the interval includes 0")
    return Answer(
        result,
        f"The headline scores {percent(row['select_top1'])} on select (n{NBSP}={NBSP}{count(row['n_select'])}), which "
        f"chose its thresholds, and {percent(row['top1'])} on test (n{NBSP}={NBSP}{count(row['n'])}): select minus "
        f"test {difference(row['optimism'], low, high)}; {reading}.",
    )


def _significant(tables: ReportTables, quantizer: str) -> str:
    """How many points of the quantized arm differ from full depth after Holm's correction."""
    rows = holm_rows(tables.points)
    rows = rows[(rows["quantizer"] == quantizer) & (rows["precision"] == quantizer)]
    if rows.empty:
        return "No test was corrected for the number of points."
    row = rows.iloc[0]
    return (
        f"After Holm's correction {count(row['up'])} of its {count(row['points'])} routed and static points are more "
        f"accurate than full depth and {count(row['down'])} less (before: {count(row['raw_up'])} and "
        f"{count(row['raw_down'])})."
    )


def _noise(tables: ReportTables, quantizer: str) -> Answer:
    """8: spread over seeds beside the sampling error, and what is left after Holm's correction."""
    rows = tables.seed_spread
    rows = rows[(rows["quantizer"] == quantizer) & (rows["measure"] == "margin")]
    if rows.empty or math.isnan(float(rows.iloc[0]["sd"])):
        return Answer(Outcome.UNKNOWN, f"Fewer than two seeds were run. {_significant(tables, quantizer)}")
    row = rows.iloc[0]
    sd, sampling, seeds = float(row["sd"]), float(row["sampling_sd"]), float(row["seeds"])
    low, high = standard_deviation(sd, seeds)
    spread = (
        f"Over {count(seeds)} seeds the margin is {points(float(row['mean']))}{NBSP}points on average, with a standard "
        f"deviation of {number(100 * sd)} points (95{NBSP}% interval [{number(100 * low)}, {number(100 * high)}]); "
        f"that of the choice of test images is {number(100 * sampling)}."
    )
    result = Outcome.ABOVE if sd > sampling else Outcome.BELOW
    return Answer(result, f"{spread} {_significant(tables, quantizer)}")


def _settled(tables: ReportTables, quantizer: str) -> Answer:
    """9: images that left early, at the exit against full depth."""
    rows = tables.early[(tables.early["quantizer"] == quantizer) & (tables.early["precision"] == quantizer)]
    if rows.empty or math.isnan(float(rows.iloc[0]["difference"])):
        return _MISSING
    row = rows.iloc[0]
    result = _sign(row, "difference")
    reading = {
        Outcome.ABOVE: "they had better leave",
        Outcome.BELOW: "they had better stay",
        Outcome.UNCHANGED: "it makes no difference",
    }.get(result, "undecided, because the interval includes 0")
    return Answer(
        result,
        f"{count(row['n_early'])} of {count(row['n'])} images leave early; {percent(float(row['accuracy_exit']))} of "
        f"them are right at the exit and {percent(float(row['accuracy_full']))} at full depth: "
        f"{_measured(row, 'difference')}, {mcnemar(float(row['mcnemar_p']))}; {reading}.",
    )


def _adaptation(tables: ReportTables, quantizer: str) -> Answer:
    """10: a refitted head with no exit against the best that exits do."""
    row = tables.row("attribution", quantizer)
    if row is None or math.isnan(float(row["routed_minus_refit"])):
        return _MISSING
    label = str(row["best_full_depth_refit_label"]).strip()
    head = (
        f"A head refitted at full depth{f' ({label})' if label else ''} scores "
        f"{percent(float(row['best_full_depth_refit']))}; headline minus it {_measured(row, 'routed_minus_refit')}"
    )
    if math.isnan(float(row["best_minus_refit"])):
        return Answer(_sign(row, "routed_minus_refit"), f"{head}.")
    return Answer(
        _sign(row, "best_minus_refit"),
        f"{head}; best configuration with exits minus it {_measured(row, 'best_minus_refit')}.",
    )


Asked = tuple[str, Callable[[ReportTables, str], Answer], Words, str, tuple[tuple[str, str], ...]]
_SPLITS = (
    "Quantizer ranges, heads, gates and thresholds each have their own images, and no rule that fits anything can "
    "read the test split."
)
_QUESTIONS: tuple[Asked, ...] = (
    (
        "Is it quantization at all?", _quantization,
        {Outcome.ABOVE: "early exit does more for the quantized model than for FP32",
         Outcome.BELOW: "it does less for the quantized model than for FP32",
         Outcome.UNDECIDED: "not shown that quantization plays a part", Outcome.UNCHANGED: "no difference to FP32"},
        "", (("attribution", "FP32 control"),),
    ),
    (
        "How many answers does quantization alone change, with no exit?", _churn,
        {Outcome.ABOVE: "quantization alone raises accuracy", Outcome.BELOW: "quantization alone costs accuracy",
         Outcome.UNDECIDED: "images change sides both ways, without a net change that is shown",
         Outcome.UNCHANGED: "as many one way as the other"},
        "", (("quantizers", "Quantizers and churn"), ("quadrants", "Rescue and loss")),
    ),
    (
        "Does a better quantizer reach the same at full depth?", _strong,
        {Outcome.BELOW: "at least one other quantizer with no more bits is more accurate at full depth than routing is",
         Outcome.ABOVE: "routing is more accurate than every other quantizer with no more bits",
         Outcome.UNDECIDED: "no other quantizer with no more bits is shown to be more accurate than routing",
         Outcome.UNKNOWN: "nothing with no more bits to compare with"},
        "Bits are those of the quantized part; quantizers also differ in what they cover.",
        (("strong", "A better quantizer"), ("quantizers", "Quantizers")),
    ),
    (
        "Does one static exit do as well as routing?", _static,
        {Outcome.ABOVE: "routing is more accurate than the best static exit",
         Outcome.BELOW: "the best static exit is more accurate than routing",
         Outcome.UNDECIDED: "neither is shown to be more accurate", Outcome.UNCHANGED: "equally accurate"},
        "The two save different amounts of compute, and their heads may differ.",
        (("static", "Static exits"), ("baselines", "Baselines")),
    ),
    (
        "Is it zero-shot? What is left without labels?", _label_free,
        {Outcome.ABOVE: "a gain without labels", Outcome.BELOW: "a loss without labels",
         Outcome.UNDECIDED: "undecided without labels", Outcome.UNCHANGED: "no change without labels"},
        "Heads and gates that are fitted with labels are not zero-shot.", (("label-free", "Without labels"),),
    ),
    (
        "How much compute is really saved?", _accounting,
        {Outcome.ABOVE: "the paper's count is higher than what is saved with everything counted",
         Outcome.BELOW: "the paper's count is lower than what is saved with everything counted",
         Outcome.UNDECIDED: "the two counts cannot be told apart", Outcome.UNCHANGED: "both counts agree"},
        "Compute is not time; milliseconds are told apart.",
        (("accounting", "Saved compute"), ("overhead", "Overhead"), ("time", "Time")),
    ),
    (
        "Are the data that choose apart from the data that judge?", _leakage,
        {Outcome.ABOVE: "yes, and the choosing split would have flattered the headline",
         Outcome.BELOW: "yes, and the choosing split happens to be harder",
         Outcome.UNDECIDED: "yes, and no optimism is shown", Outcome.UNCHANGED: "yes, both are equal"},
        _SPLITS, (("splits", "Splits"),),
    ),
    (
        "How much of it is noise?", _noise,
        {Outcome.ABOVE: "the standard deviation over seeds is larger than that over test images",
         Outcome.BELOW: "the standard deviation over seeds is no larger than that over test images",
         Outcome.UNKNOWN: "spread over seeds not measured"},
        "", (("seeds", "Seeds"), ("holm", "Many comparisons"), ("ablations", "Ablations"),
             ("sensitivity", "Sensitivity")),
    ),
    (
        "What would settle it: are images that leave early better off at the exit?", _settled,
        {Outcome.ABOVE: "better at the exit", Outcome.BELOW: "better at full depth",
         Outcome.UNDECIDED: "undecided", Outcome.UNCHANGED: "no difference"},
        "", (("exits", "Exits"),),
    ),
    (
        "Is it only a head that learned to live with the noise?", _adaptation,
        {Outcome.ABOVE: "the best exits add accuracy beyond a refitted head",
         Outcome.BELOW: "a refitted head with no exit is more accurate than the best exits",
         Outcome.UNDECIDED: "the best exits cannot be told apart from a refitted head",
         Outcome.UNCHANGED: "exits and a refitted head are equally accurate"},
        "", (("refit", "Refitted heads"), ("factorial", "Head, supervision, routing")),
    ),
)  # fmt: skip


def _ask(tables: ReportTables, index: int, asked: Asked) -> Question:
    """Answer one question for every quantizer."""
    title, answer, words, remark, links = asked
    given = [(name, answer(tables, name)) for name in tables.quantizer_names()]
    texts = tuple((name, item.text) for name, item in given)
    short = _short(given, words)
    return Question(index, title, f"{NO_FINDING}{short}" if tables.random_weights else short, texts, remark, links)


def questions(tables: ReportTables) -> tuple[Question, ...]:
    """All ten questions with their answers."""
    return tuple(_ask(tables, index, asked) for index, asked in enumerate(_QUESTIONS, start=1))
