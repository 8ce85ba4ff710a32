"""``summary.json``: the key results of one experiment for programs, with a schema that says what everything is.

The schema is the model ``Summary`` below (``Summary.model_json_schema()`` gives it as JSON Schema). Its version is
``SCHEMA_VERSION``, which every change of the schema raises by one; a reader should refuse one that it does not know.

Conventions, as in the tables: shares, accuracies and differences are 0..1 (0.01 is one percentage point); ``low`` and
``high`` bound a 95 % interval, Wilson's for accuracies and the paired bootstrap for differences; ``null`` stands for
what was not measured or does not apply (the tables' NaN), and a whole entry is ``null`` where it was not run.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, JsonValue

from lraee.names import FP32
from lraee.report.tables import ReportTables
from lraee.report.thresholds import by_layer
from lraee.report.verdict import Outcome, QuantizerVerdict, Verdict, judge
from lraee.report.wording import wilson_bounds

SCHEMA_VERSION: Literal[2] = 2


def _finite(value: Any) -> Any:
    """None for what JSON has no number for."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_finite)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Estimate(_Entry):
    """A measured share, or a difference of shares, with its 95 % interval."""

    value: Number
    low: Number
    high: Number


class Accuracy(Estimate):
    """An accuracy on ``n`` images with its 95 % Wilson interval."""

    n: int


class OperatingPoint(_Entry):
    """One configuration with exits and what it does on the test split.

    ``saved`` is the share of MACs saved, everything counted (its bounds are null where the tables have none);
    ``margin`` is its top-1 minus that of the same model at full depth, on the same images. ``thresholds`` are
    by layer, ``"inf"`` where nobody leaves and ``"-inf"`` where everybody does.
    """

    point: str
    precision: str
    policy: str
    aggregation: str
    supervision: str
    gate_features: str
    layers: str
    threshold_rule: str
    thresholds: dict[str, float | Literal["inf", "-inf"]]
    budget: Number
    top1: Accuracy
    saved: Estimate
    margin: Estimate
    mcnemar_p: Number
    mcnemar_p_holm: Number


class FullDepth(_Entry):
    """A model without exits, and its difference to the unquantized one (null for that one itself)."""

    top1: Accuracy
    minus_fp32: Estimate | None


class Refit(_Entry):
    """A head refitted at full depth, chosen on the select split, against the routed headline.

    ``routed_minus_refit`` is the headline minus this head; ``best_minus_refit`` is the best configuration with exits of
    the whole grid minus this head.
    """

    label: str
    top1: Accuracy
    routed_minus_refit: Estimate
    best_minus_refit: Estimate | None


class OnRefit(_Entry):
    """Routing whose full-depth answer is that of the refitted head: the best on select that meets the budget."""

    point: str
    top1: Accuracy
    saved: Number
    minus_refit: Estimate
    minus_full_depth: Estimate


class BestOfGrid(_Entry):
    """The routed configuration that is best on the select split at the headline's budget or above."""

    quantized: OperatingPoint
    fp32_control: OperatingPoint | None


class Spread(_Entry):
    """A measure of the headline over refits with several seeds.

    The interval of the mean holds seeds and test images; ``sampling_sd`` is over test images, of the first seed.
    """

    measure: str
    seeds: int
    mean: Estimate | None
    sd: Number
    minimum: Number
    maximum: Number
    sampling_sd: Number


class Finding(_Entry):
    """A labelled sentence of the verdict."""

    label: str
    text: str


class QuantizerVerdictEntry(_Entry):
    """The verdict for one quantizer: what each interval says (``above zero`` and so on), and the sentences."""

    outcomes: dict[str, str]
    summary: str
    findings: tuple[Finding, ...]


class VerdictEntry(_Entry):
    """The answer over all quantizers; ``refits`` name what to do where a refitted head beats every exit."""

    lead: str
    refits: tuple[str, ...]
    support: tuple[str, ...]


class QuantizerEntry(_Entry):
    """Everything about one quantizer.

    ``attributable``: margin under the quantizer minus margin of the FP32 control, with several seeds their mean, whose
    interval holds seeds and test images. The operating points are those of the first seed.
    """

    quantizer: str
    weight_bits: Number
    activation_bits: Number
    full_depth: FullDepth | None
    headline: OperatingPoint | None
    fp32_control: OperatingPoint | None
    attributable: Estimate | None
    refit: Refit | None
    on_refit: OnRefit | None
    best_of_grid: BestOfGrid | None
    seed_spread: tuple[Spread, ...]
    verdict: QuantizerVerdictEntry


class Images(_Entry):
    """How many images gave no picture, and how many had to be converted to RGB."""

    skipped: int
    converted: int


class Summary(_Entry):
    """The whole of ``summary.json``; ``files`` are the paths of all published files, relative to its folder.

    With ``random_weights`` no number is a finding: whoever collects findings leaves such a summary out.
    """

    schema_version: Literal[2]
    experiment: str | None
    random_weights: bool
    images: Images
    fp32_full_depth: FullDepth | None
    verdict: VerdictEntry
    quantizers: tuple[QuantizerEntry, ...]
    provenance: dict[str, JsonValue]
    files: tuple[str, ...]

    def to_json(self) -> str:
        """Strict JSON, the same text for the same summary."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


Row = pd.Series  # of one table


def _number(row: Row[Any], name: str) -> float | None:
    """A value of a row; None where the table has no such column or no such value."""
    value = row.get(name)
    return None if value is None or pd.isna(value) else float(value)


def _string(row: Row[Any], name: str) -> str:
    value = row.get(name)
    return "" if value is None or pd.isna(value) else str(value)


def _estimate(row: Row[Any], name: str) -> Estimate:
    """``name`` with ``<name>_low`` and ``<name>_high``."""
    return Estimate(value=_number(row, name), low=_number(row, f"{name}_low"), high=_number(row, f"{name}_high"))


def _measured(row: Row[Any], name: str) -> Estimate | None:
    """An estimate that not every experiment has."""
    return None if _number(row, name) is None else _estimate(row, name)


def _accuracy(row: Row[Any], name: str) -> Accuracy:
    """An accuracy of ``n`` images; its Wilson interval is computed where the table has none."""
    value, n = _number(row, name), int(row["n"])
    low, high = _number(row, f"{name}_low"), _number(row, f"{name}_high")
    if value is not None and low is None:
        low, high = wilson_bounds(value, n)
    return Accuracy(value=value, low=low, high=high, n=n)


def _point(row: Row[Any] | None) -> OperatingPoint | None:
    if row is None:
        return None
    texts = ("point", "precision", "policy", "aggregation", "supervision", "gate_features", "layers", "threshold_rule")
    return OperatingPoint(
        **{name: _string(row, name) for name in texts},
        thresholds={
            layer: value if math.isfinite(value) else "inf" if value > 0 else "-inf"
            for layer, value in by_layer(_string(row, "layers"), _string(row, "thresholds")).items()
        },
        budget=_number(row, "budget"),
        top1=_accuracy(row, "top1"),
        saved=_estimate(row, "saved"),
        margin=_estimate(row, "margin"),
        mcnemar_p=_number(row, "mcnemar_p"),
        mcnemar_p_holm=_number(row, "mcnemar_p_holm"),
    )


def _full_depth(row: Row[Any] | None) -> FullDepth | None:
    return None if row is None else FullDepth(top1=_accuracy(row, "top1"), minus_fp32=_measured(row, "difference"))


def _refit(row: Row[Any] | None) -> Refit | None:
    if row is None or _number(row, "best_full_depth_refit") is None:
        return None
    return Refit(
        label=_string(row, "best_full_depth_refit_label"),
        top1=_accuracy(row, "best_full_depth_refit"),
        routed_minus_refit=_estimate(row, "routed_minus_refit"),
        best_minus_refit=_measured(row, "best_minus_refit"),
    )


def _on_refit(row: Row[Any] | None) -> OnRefit | None:
    if row is None or _number(row, "on_refit_top1") is None:
        return None
    return OnRefit(
        point=_string(row, "best_on_refit_point"),
        top1=_accuracy(row, "on_refit_top1"),
        saved=_number(row, "on_refit_saved"),
        minus_refit=_estimate(row, "on_refit_minus_refit"),
        minus_full_depth=_estimate(row, "on_refit_minus_full"),
    )


def _best(tables: ReportTables, quantizer: str) -> BestOfGrid | None:
    row = tables.best_of_grid(quantizer)
    own = _point(row)
    return None if row is None or own is None else BestOfGrid(
        quantized=own, fp32_control=_point(tables.counterpart(row))
    )  # fmt: skip


def _spread(tables: ReportTables, quantizer: str) -> tuple[Spread, ...]:
    """Seed spread of one quantizer."""
    frame = tables.seed_spread
    numbers = ("sd", "minimum", "maximum", "sampling_sd")
    return tuple(
        Spread(
            measure=str(row["measure"]), seeds=int(row["seeds"]), mean=_measured(row, "mean"),
            **{name: _number(row, name) for name in numbers},
        )
        for _, row in frame[frame["quantizer"] == quantizer].iterrows()
    )  # fmt: skip


def _verdict(part: QuantizerVerdict) -> QuantizerVerdictEntry:
    values = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    return QuantizerVerdictEntry(
        outcomes={name: str(value) for name, value in values.items() if isinstance(value, Outcome)},
        summary=part.summary,
        findings=tuple(Finding(label=label, text=text) for label, text in part.findings),
    )


def _quantizer(tables: ReportTables, part: QuantizerVerdict) -> QuantizerEntry:
    name = part.quantizer
    row, attribution = tables.row("quantizers", name), tables.row("attribution", name)
    return QuantizerEntry(
        quantizer=name,
        weight_bits=None if row is None else _number(row, "weight_bits"),
        activation_bits=None if row is None else _number(row, "activation_bits"),
        full_depth=_full_depth(row),
        headline=_point(tables.headline(name, name)),
        fp32_control=_point(tables.headline(name, FP32)),
        attributable=None if attribution is None else _measured(attribution, "attributable"),
        refit=_refit(attribution),
        on_refit=_on_refit(attribution),
        best_of_grid=_best(tables, name),
        seed_spread=_spread(tables, name),
        verdict=_verdict(part),
    )


def _plain(value: Any) -> Any:
    """A recorded value as strict JSON; what JSON does not have becomes its text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return _finite(value) if value is None or isinstance(value, str | int | float) else str(value)


def summarise(tables: ReportTables, files: Iterable[str] = (), verdict: Verdict | None = None) -> Summary:
    """The summary of an experiment, with the files that are published beside it."""
    judged = judge(tables) if verdict is None else verdict
    experiment = tables.provenance.get("experiment")
    return Summary(
        schema_version=SCHEMA_VERSION,
        experiment=None if experiment is None else str(experiment),
        random_weights=tables.random_weights,
        images=Images(skipped=tables.remarked("skipped"), converted=tables.remarked("converted")),
        fp32_full_depth=_full_depth(tables.row("quantizers", FP32)),
        verdict=VerdictEntry(lead=judged.lead, refits=judged.refits, support=judged.support),
        quantizers=tuple(_quantizer(tables, part) for part in judged.quantizers),
        provenance=_plain(tables.provenance),
        files=tuple(sorted(files)),
    )
