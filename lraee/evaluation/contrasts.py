"""Contrasts between arms, seeds and classes: what quantization explains, and how far chance goes."""

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t

from lraee.evaluation.bench import Row, TestBench, accuracy, difference, signed, spread
from lraee.evaluation.fit import Fitted, Static
from lraee.metrics.statistics import CONFIDENCE, Interval, bootstrap_means, holm, mcnemar_p, paired_mean
from lraee.names import FP32

_MISSING = Interval(np.nan, np.nan, np.nan)


def _margins(arm: TestBench, fp32: TestBench, fitted: Fitted, fp32_fitted: Fitted) -> dict[str, NDArray[np.int64]]:
    """Per image: rescue minus loss of both arms, and their difference."""
    ours = signed(arm.routed(fitted).correct, arm.full_correct)
    theirs = signed(fp32.routed(fp32_fitted).correct, fp32.full_correct)
    return {"margin": ours, "fp32_margin": theirs, "attributable": ours - theirs}


def attribution_row(arm: TestBench, fp32: TestBench, fitted: Fitted, fp32_fitted: Fitted) -> Row:
    """How much of the headline's rescue margin quantization explains: the arm's margin minus the FP32 control's."""
    per_image = _margins(arm, fp32, fitted, fp32_fitted)
    row: Row = {"n": len(arm.labels)}
    for prefix, values in per_image.items():
        row |= spread(prefix, paired_mean(values, arm.seed))
    for name, bench, own in (("saved", arm, fitted), ("fp32_saved", fp32, fp32_fitted)):
        macs, _ = bench.costs(own.configuration)
        row[name] = float(1.0 - bench.routed(own).shares @ macs.leaving / macs.full)
    return row


def refit_row(arm: TestBench, refit: Static, headline: Fitted, best: Fitted, on_refit: Fitted | None) -> Row:
    """A head refitted at full depth against exits: the headline, the best of the grid, and routing on top of it.

    All were chosen on `select`; `on_refit` is None where no thresholds met the budget.
    """
    refitted = arm.static_answer(refit) == arm.labels

    def minus(name: str, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Row:
        return spread(name, paired_mean(signed(first, second), arm.seed))

    row: Row = {"best_full_depth_refit_label": f"{refit.aggregation} {refit.supervision}"}
    row |= accuracy("best_full_depth_refit", refitted)
    row |= minus("routed_minus_refit", arm.routed(headline).correct, refitted)
    row |= minus("best_minus_refit", arm.routed(best).correct, refitted)
    if on_refit is None:
        names = ("on_refit_top1", "on_refit_minus_refit", "on_refit_minus_full")
        return row | {"on_refit_saved": np.nan} | {k: v for name in names for k, v in spread(name, _MISSING).items()}
    routed, (macs, _) = arm.routed(on_refit), arm.costs(on_refit.configuration)
    row |= {"on_refit_saved": float(1.0 - routed.shares @ macs.leaving / macs.full)}
    row |= accuracy("on_refit_top1", routed.correct)
    row |= minus("on_refit_minus_refit", routed.correct, refitted)
    return row | minus("on_refit_minus_full", routed.correct, arm.full_correct)


def static_row(arm: TestBench, best: Static, headline: Fitted) -> Row:
    """Routing against the static exit that is best on `select`: the headline minus one exit for all images."""
    routed, fixed = arm.routed(headline).correct, arm.static_answer(best) == arm.labels
    label = f"layer {best.layer}, {best.aggregation} {best.supervision}"
    return {
        "best_static_label": label, **accuracy("best_static", fixed),
        **spread("routed_minus_static", paired_mean(signed(routed, fixed), arm.seed)),
    }  # fmt: skip


def over_seeds(spreads: Sequence[Row]) -> Row:
    """The headline's margins as means over seeds, with intervals that hold seeds and test images.

    With one seed there is nothing to add to the bootstrap over test images: only the number of seeds.
    """
    seeds = int(spreads[0]["seeds"])
    margins = [row for row in spreads if row["measure"] in ("margin", "fp32_margin", "attributable")]
    means = [
        spread(row["measure"], Interval(row["mean"], row["mean_low"], row["mean_high"])) for row in margins
    ]  # fmt: skip
    return {"seeds": seeds} | ({name: value for mean in means for name, value in mean.items()} if seeds > 1 else {})


def class_rows(arm: TestBench, fp32: TestBench, fitted: Fitted, fp32_fitted: Fitted, names: Sequence[str]) -> list[Row]:
    """The headline class by class; McNemar's test per class, corrected by Holm over the classes."""
    per_image = _margins(arm, fp32, fitted, fp32_fitted)
    labels, k = arm.labels, len(names)
    n = np.bincount(labels, minlength=k)

    def total(values: NDArray[np.generic]) -> NDArray[np.float64]:
        return np.bincount(labels, weights=values.astype(np.float64), minlength=k).astype(np.float64)

    rescue, loss = total(per_image["margin"] > 0), total(per_image["margin"] < 0)
    p = np.array([mcnemar_p(int(r), int(lost)) for r, lost in zip(rescue, loss, strict=True)])
    share = np.maximum(n, 1)
    frame = pd.DataFrame(
        {
            "name": list(names), "label": np.arange(k), "n": n, "full_top1": total(arm.full_correct) / share,
            "top1": total(arm.routed(fitted).correct) / share, "rescue": rescue, "loss": loss,
            "margin": total(per_image["margin"]) / share, "fp32_margin": total(per_image["fp32_margin"]) / share,
            "mcnemar_p": p,
        }
    )  # fmt: skip
    tested = frame[frame["n"] > 0]
    rows: list[Row] = tested.assign(mcnemar_p_holm=holm(tested["mcnemar_p"].to_numpy())).to_dict("records")  # type: ignore[assignment]
    return rows


def seed_row(
    arm: TestBench, fp32: TestBench, fitted: Fitted, fp32_fitted: Fitted, refit: Static
) -> tuple[Row, dict[str, NDArray[np.number]]]:
    """The headline under one seed, and its per-image values by measure."""
    routed, refitted = arm.routed(fitted), arm.static_answer(refit) == arm.labels
    per_image: dict[str, NDArray[np.number]] = {
        "top1": routed.correct.astype(np.int64), **_margins(arm, fp32, fitted, fp32_fitted),
        "refit": refitted.astype(np.int64), "routed_minus_refit": signed(routed.correct, refitted),
    }  # fmt: skip
    macs, _ = arm.costs(fitted.configuration)
    row: Row = {"n": len(routed.correct), "saved": float(1.0 - routed.shares @ macs.leaving / macs.full)}
    for measure, values in per_image.items():
        row |= spread(measure, paired_mean(values, arm.seed))
    return row | accuracy("top1", routed.correct) | accuracy("refit", refitted), per_image


def seed_spread(per_image: Sequence[Mapping[str, NDArray[np.number]]], seed: int) -> list[Row]:
    """Spread over seeds (sample standard deviation; NaN for one seed) apart from that over test images.

    `per_image` holds each seed's per-image values by measure; `sampling_sd` is the bootstrap's of the first seed. The
    interval of the mean covers both: variance of the seeds over their number, plus that of drawing test images.
    """
    spreads = []
    for measure in per_image[0]:
        values = np.stack([of_seed[measure] for of_seed in per_image])
        over = values.mean(axis=1)
        sd = float(over.std(ddof=1)) if len(over) > 1 else np.nan
        spreads.append(
            {
                "measure": measure, "seeds": len(over),
                **spread("mean", _both_spreads(values.mean(axis=0), sd, len(over), seed)), "sd": sd,
                "minimum": float(over.min()), "maximum": float(over.max()),
                "sampling_sd": float(bootstrap_means(values[0], seed).std(ddof=1)),
            }
        )  # fmt: skip
    return spreads


def _both_spreads(mean_over_seeds: NDArray[np.float64], sd: float, seeds: int, seed: int) -> Interval:
    """Mean of per-image means over seeds, with the interval of two independent sources of variance.

    Student's t with the degrees of freedom of Welch and Satterthwaite. With one seed only test images vary.
    """
    n = len(mean_over_seeds)
    images = float(mean_over_seeds.var(ddof=1)) / n
    between = 0.0 if np.isnan(sd) else sd**2 / seeds
    value, total = float(mean_over_seeds.mean()), images + between
    if total == 0.0:
        return Interval(value, value, value)
    freedom = total**2 / (images**2 / (n - 1) + (between**2 / (seeds - 1) if seeds > 1 else 0.0))
    half = float(t.ppf(0.5 + CONFIDENCE / 2, freedom)) * np.sqrt(total)
    return Interval(value, value - half, value + half)


def control_rows(answers: pd.DataFrame, quantizers: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Every quantizer's routed headline against every model's full depth, FP32 included: would a better one have done?

    `answers` has a row an image and model: quantizer, sample, full (whether right at full depth), routed (NaN for
    FP32). Raises ValueError where two models answered different images.
    """
    bits = quantizers.set_index("quantizer")[["weight_bits", "activation_bits"]]
    full, routed = _by_model(answers)
    rows = []
    for quantizer in (name for name in bits.index if name in routed):
        own = routed[quantizer].to_numpy(dtype=bool)
        for other in bits.index:
            theirs = full[other].to_numpy(dtype=bool)
            rows.append(
                {
                    "quantizer": quantizer, "other": other,
                    **bits.loc[quantizer].to_dict(), **bits.loc[other].add_prefix("other_").to_dict(),
                    "n": len(own), "top1": own.mean(), "other_top1": theirs.mean(), **difference(own, theirs, seed),
                }
            )  # fmt: skip
    frame = pd.DataFrame(rows)
    return frame.assign(mcnemar_p_holm=holm(frame["mcnemar_p"].to_numpy()))


def _by_model(answers: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Whether each model is right at full depth and when routed: a row an image, a column a model."""
    by_image = answers.set_index(["sample", "quantizer"])
    full = by_image["full"].unstack()  # noqa: PD010 -- one value a cell: nothing to aggregate
    routed = by_image["routed"].unstack().dropna(axis=1, how="all")  # noqa: PD010
    if full.isna().any(axis=None) or routed.isna().any(axis=None):
        raise ValueError("the quantizers answered different images of the test split")
    return full, routed


EQUAL_BITS = 0.5
"""Mean bits that two quantizers may differ by, of weights and of activations, to be called equal."""


def rival_rows(answers: pd.DataFrame, quantizers: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Quantizers of equal bits against each other, paired: both at full depth, and both with the headline's exits.

    Arguments and errors are those of control_rows. `difference` is the quantizer's accuracy minus the other's.
    """
    bits = quantizers.set_index("quantizer")[["weight_bits", "activation_bits"]]
    rows: list[Row] = []
    for exits, right in zip((False, True), _by_model(answers), strict=True):
        names = [name for name in bits.index if name in right and name != FP32]
        for quantizer, other in permutations(names, 2):
            if (bits.loc[quantizer] - bits.loc[other]).abs().max() > EQUAL_BITS:
                continue
            own, theirs = (right[name].to_numpy(dtype=bool) for name in (quantizer, other))
            rows.append(
                {
                    "quantizer": quantizer, "other": other, "exits": exits, **bits.loc[quantizer].to_dict(),
                    "n": len(own), "top1": own.mean(), "other_top1": theirs.mean(), **difference(own, theirs, seed),
                }
            )  # fmt: skip
    columns = ["quantizer", "other", "exits", "weight_bits", "activation_bits", "n", "top1", "other_top1",
               "difference", "difference_low", "difference_high", "mcnemar_p"]  # fmt: skip
    frame = pd.DataFrame(rows, columns=columns)
    # A pair stands there both ways round: the same comparison counts once.
    named = frame[["quantizer", "other", "exits"]].itertuples(index=False, name=None)
    pair = pd.Series([(*sorted(names), exits) for *names, exits in named], index=frame.index, dtype=object)
    once = ~pair.duplicated()
    adjusted = pd.Series(holm(frame.loc[once, "mcnemar_p"].to_numpy(float)), index=pair[once])
    return frame.assign(mcnemar_p_holm=pair.map(adjusted).astype(float))
