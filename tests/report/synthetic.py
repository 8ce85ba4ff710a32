"""SYNTHETIC tables for the tests of the report. Every number is invented (seeded); none is a result."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd

from lraee.evaluation.timings import EXITS, FULL_DEPTH
from lraee.names import FP32
from lraee.report.tables import SCHEMA, ReportTables

LAYERS, DEPTH, N, FULL_FP32 = (8, 9, 10, 11), 12, 2000, 0.6
POLICIES = ("learned-gate", "confidence", "margin", "entropy", "patience", "learned-scalar", "class-thresholds")
MEASURES = ("top1", "margin", "fp32_margin", "attributable", "refit", "routed_minus_refit")
QUANTIZERS = ("int8-per-tensor", "int8-per-channel", "smoothquant-w4a8")
REMARKS = (
    ("fit", 3, "cat/3.jpg", "skipped", "truncated file"),
    ("fit", 9, "cat/9.gif", "converted", "several frames, first one taken: 4 frames"),
    ("fit", 9, "cat/9.gif", "converted", "palette, converted to RGB"),
    ("test", 3, "dog/1.gif", "converted", "several frames, first one taken: 2 frames"),
    ("test", 7, "dog/2.gif", "converted", "several frames, first one taken: 4 frames"),
)


def wilson(share: float, n: int) -> tuple[float, float]:
    """95 % Wilson interval of a share."""
    z = 1.959964
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return float(centre - half), float(centre + half)


def _point(rng: np.random.Generator, full: float, top1: float, saved: float, **texts: Any) -> dict[str, Any]:
    """One operating point with counts that agree with its accuracies."""
    correct, margin = round(top1 * N), top1 - full
    loss = int(rng.integers(40, 120))
    rescue = max(loss + round(margin * N), 0)
    low, high = wilson(top1, N)
    half = 1.96 * np.sqrt(rescue + loss) / N if texts["study"] != "full-depth" else 0.0
    differs = 0.0 if texts["study"] == "full-depth" else (rescue + loss + 50) / N
    spread = 0.0 if texts["study"] in ("full-depth", "static") else 0.004
    return {
        "policy": "none", "aggregation": "final", "supervision": "zero-shot", "gate_features": "", "layers": "",
        "full_depth_head": "own", "threshold_rule": "", "thresholds": "", "budget": np.nan, "risk": np.nan,
        "inr_exponent": 0.0, "select_top1": top1 + rng.normal(0, 0.005), "select_saved": saved,
        "n": N, "correct": correct, "top1": top1, "top1_low": low, "top1_high": high,
        **_interval(saved, spread, "saved"), **_interval(0.01, 0.002, "uncounted"),
        "saved_blocks": saved + 0.01, "bops_saved": 0.8 * saved,
        "bops_saved_blocks": saved + 0.01, "macs": 4e9 * (1 - saved), "bops": 2.6e11 * (1 - 0.8 * saved),
        "mean_layer": 12 * (1 - saved), "both_right": correct - rescue,
        "rescue": rescue, "loss": loss, "both_wrong": N - correct - loss, "margin": margin,
        "margin_low": margin - half, "margin_high": margin + half, "mcnemar_p": (p := float(rng.uniform(0, 0.02))),
        "mcnemar_p_holm": min(1.0, 20 * p), **_interval(differs, 0.01, "disagreement"),
        "on_frontier": False, "headline": False, **texts,
    }  # fmt: skip


def _arm(rng: np.random.Generator, quantizer: str, precision: str, full: float, margin: float) -> list[dict[str, Any]]:
    """All operating points of one arm; the headline has the given margin."""
    names, numbers = {"quantizer": quantizer, "precision": precision}, itertools.count()
    rows = [_point(rng, full, full, 0.0, study="full-depth", point="full", **names)]
    heads = list(itertools.product((*LAYERS, DEPTH), ("ssa", "cls"), ("distilled", "hard", "label-free")))
    heads += list(itertools.product(range(1, min(LAYERS)), ("ssa", "cls"), ("distilled",)))
    for layer, aggregation, supervision in heads:
        top1 = full + 0.02 - 0.03 * (DEPTH - layer) * (1.4 if aggregation == "cls" else 1) + rng.normal(0, 0.01)
        rows.append(_point(
            rng, full, top1, 1 - layer / DEPTH, study="static", point=f"static-{next(numbers)}", policy="static",
            aggregation=aggregation, supervision=supervision, layers=str(layer), **names,
        ))  # fmt: skip
    for policy, budget in itertools.product(POLICIES, (0.0, 0.05, 0.1, 0.15, 0.2)):
        heads_of = (("ssa", "distilled"), ("ssa", "hard"), ("ssa", "label-free"), ("cls", "distilled"))
        for aggregation, supervision in heads_of[: 4 if policy == "learned-gate" else 1]:
            headline = (policy, budget, aggregation, supervision) == ("learned-gate", 0.1, "ssa", "distilled")
            top1 = full + margin - 0.6 * (budget**2 - 0.01) - (0 if headline else abs(rng.normal(0.005, 0.004)))
            rows.append(_point(
                rng, full, top1, budget + 0.01, study="frontier", point="base" if headline else f"p{next(numbers)}",
                policy=policy, budget=budget, threshold_rule="layer-adaptive", thresholds='["inf", 0.4, 0.5]',
                aggregation=aggregation, supervision=supervision, layers="8,10,11", headline=headline,
                on_frontier=policy == "learned-gate" and supervision == "distilled",
                gate_features="confidence+margin+sav" if policy == "learned-gate" else "", **names,
            ))  # fmt: skip
    return rows + _special(rng, names, full, margin)


def _special(rng: np.random.Generator, names: dict[str, str], full: float, margin: float) -> list[dict[str, Any]]:
    """Risk-controlled points, routing on top of a refitted head, and the two bounds."""
    gate = {"policy": "learned-gate", "aggregation": "ssa", "supervision": "distilled", "layers": "8,10,11",
            "gate_features": "confidence+margin+sav", **names}  # fmt: skip
    rows = []
    for rule, risk in itertools.product(("risk-disagreement", "risk-accuracy-gap"), (0.01, 0.02, 0.05)):
        rows.append(_point(
            rng, full, full + margin * 0.5, 2 * risk, study="risk", point=f"{rule}-{risk}", threshold_rule=rule,
            risk=risk, **gate,
        ))  # fmt: skip
    rows += [
        _point(
            rng, full, full + 0.018, budget + 0.01, study="on-refit", point=f"on-refit-{budget}", budget=budget,
            threshold_rule="layer-adaptive", full_depth_head="cls distilled", **gate,
        )
        for budget in (0.05, 0.1)
    ]  # fmt: skip
    for policy, top1, saved in (("oracle", full + 0.2, 0.2), ("random", full - 0.05, 0.11)):
        rows.append(_point(rng, full, top1, saved, study="bound", point=policy, **{**gate, "policy": policy}))
    return rows


def _interval(value: float, half: float, name: str) -> dict[str, float]:
    """An estimate and a symmetric interval as columns."""
    return {name: value, f"{name}_low": value - half, f"{name}_high": value + half}


def _exits(rng: np.random.Generator, quantizer: str, precision: str) -> list[dict[str, Any]]:
    """Exit histogram of the headline point; nobody leaves at layer 10 of the control (so n = 0 is covered)."""
    counts = dict(zip((8, 10, 11, DEPTH), (220, 0 if precision == FP32 else 480, 610, N), strict=True))
    counts[DEPTH] = N - sum(counts[layer] for layer in (8, 10, 11))
    rows = []
    for layer, n in counts.items():
        full = rng.uniform(0.3, 0.7) if n else np.nan
        rows.append({
            "quantizer": quantizer, "precision": precision, "point": "base", "layer": layer, "n": n, "share": n / N,
            **_interval(full, 0.03, "accuracy_full"),
            **_interval(full + (0 if layer == DEPTH else 0.04), 0.03, "accuracy_exit"),
            "auroc": np.nan if layer == DEPTH else 0.8 + 0.005 * (layer - 8),
        })  # fmt: skip
    return rows


def _noise(rng: np.random.Generator, quantizer: str) -> list[dict[str, Any]]:
    """A noise profile that rises with depth, with layer 9 pathological."""
    rows = []
    for tokens, layer in itertools.product(("all", "cls", "patch-mean"), range(1, DEPTH + 1)):
        nsr = 0.01 * layer**1.5 * rng.uniform(0.8, 1.2)
        candidate = layer in LAYERS
        rows.append({
            "quantizer": quantizer, "tokens": tokens, "layer": layer, "n": 256, **_interval(nsr, 0.1 * nsr, "nsr"),
            "inr": 900.0 / layer**2 * (0.2 if layer == 9 else 1), "sqnr_db": 30.0 - layer, "cosine": 1 - 0.002 * layer,
            "mse": 1e-4 * layer**2, "peak": 3.0 * layer, "peak_quantized": 2.9 * layer,
            "candidate": candidate, "pathological": layer == 9 and tokens == "all",
        })  # fmt: skip
    return rows


def _quantizer(rng: np.random.Generator, name: str, top1: float, fp32: float) -> dict[str, Any]:
    """A row of the table of quantizers."""
    low, high = wilson(top1, N)
    own = name != FP32
    difference = _interval(top1 - fp32, 0.009, "difference")
    paired = {"agreement": 0.9, "churn_rescue": 60.0, "churn_loss": 80.0, "mcnemar_p": 0.04, **difference}
    return {
        "quantizer": name, "scheme": "min-max" if own else "none", "description": f"synthetic {name}",
        "settings": '{"per_channel": false}', "weight_bits": 8 if own else 32, "activation_bits": 8 if own else 32,
        "covered_parameters": 0.66 * own, "covered_macs": 0.64 * own, "n": N, "top1": top1, "top1_low": low,
        "top1_high": high, **{key: value if own else np.nan for key, value in paired.items()},
    }  # fmt: skip


def _ablations(rng: np.random.Generator, quantizer: str, precision: str) -> list[dict[str, Any]]:
    """Settings of four axes around the base."""
    axes = {
        "gate features": ("confidence+margin+sav", "confidence", "margin", "sav"),
        "aggregation": ("ssa", "cls"),
        "exit layers": ("8,10,11", "8,9,10,11", "10,11"),
        "threshold rule": ("layer-adaptive", "global"),
    }
    rows = []
    for axis, settings in axes.items():
        for setting in settings:
            base = setting == settings[0]
            change = 0.0 if base else rng.normal(-0.01, 0.01)
            low, high = wilson(0.6 + change, N)
            rows.append({
                "quantizer": quantizer, "precision": precision, "axis": axis, "setting": setting, "is_base": base,
                "point": f"{axis}-{setting}", "n": N, "top1": 0.6 + change, "top1_low": low, "top1_high": high,
                "saved": 0.1, "difference": change, "difference_low": np.nan if base else change - 0.008,
                "difference_high": np.nan if base else change + 0.008, "mcnemar_p": np.nan if base else 0.03,
            })  # fmt: skip
    return rows


def _early(rng: np.random.Generator, quantizer: str, precision: str, change: float) -> dict[str, Any]:
    """Images that left early, at the exit and at full depth."""
    return {
        "quantizer": quantizer, "precision": precision, "point": "base", "n": N, "n_early": 1300, "share": 0.65,
        **_interval(0.7 + change, 0.02, "accuracy_exit"), **_interval(0.7, 0.02, "accuracy_full"),
        **_interval(change, 0.015, "difference"), "mcnemar_p": 0.02, "n_rest": 700,
        **_interval(0.4, 0.03, "accuracy_rest"),
    }  # fmt: skip


def _sweep(rng: np.random.Generator, quantizer: str, precision: str, full: float) -> list[dict[str, Any]]:
    """Every policy over global thresholds, and the learned gate with each candidate layer toggled."""
    rows = []
    toggled = [("learned-gate", layers) for layers in ("8,9,10,11", "10,11", "8,11", "8,10")]
    for policy, layers in [*((policy, "8,10,11") for policy in POLICIES), *toggled]:
        for threshold in np.linspace(0.2, 0.92, 7):
            top1, saved = full - 0.1 * (1 - threshold) - 0.01 * layers.count("9"), 0.35 * (1 - threshold)
            low, high = wilson(top1, N)
            rows.append({
                "quantizer": quantizer, "precision": precision, "policy": policy, "layers": layers,
                "threshold": threshold, "n": N, "top1": top1, "top1_low": low, "top1_high": high, "saved": saved,
                "saved_blocks": saved + 0.01, "is_base": layers == "8,10,11",
            })  # fmt: skip
    return rows


def _thresholds(rng: np.random.Generator, quantizer: str, precision: str) -> list[dict[str, Any]]:
    """Chosen thresholds by rule, budget and layer, one of which lets nobody leave."""
    return [
        {
            "quantizer": quantizer, "precision": precision, "point": f"{rule}-{budget}", "threshold_rule": rule,
            "budget": budget, "layer": layer, "inr": 900.0 / layer**2,
            "threshold": 0.5 if rule == "global" else np.inf if layer == 8 else 0.1 * layer - 0.4,
        }
        for rule, budget, layer in itertools.product(("layer-adaptive", "global"), (0.05, 0.1), (8, 10, 11))
    ]  # fmt: skip


def _classes(rng: np.random.Generator, quantizer: str) -> list[dict[str, Any]]:
    """Per-class rescue of the headline; one class in five gains, one in five loses."""
    return [
        {
            "quantizer": quantizer, "name": f"class {label}", "label": label, "n": 100, "full_top1": 0.6,
            "top1": 0.6 + change, "rescue": 10 + 100 * change, "loss": 10, "margin": change, "fp32_margin": change / 2,
            "mcnemar_p": 0.001 if change else 1.0, "mcnemar_p_holm": 0.02 if label == 0 else 1.0,
        }
        for label, change in enumerate(np.resize([0.06, 0.0, 0.01, -0.01, -0.05], 20))
    ]  # fmt: skip


def _seeds(rng: np.random.Generator, quantizer: str, margin: float, control: float, seeds: int) -> list[dict[str, Any]]:
    """The headline with several seeds."""
    rows = []
    for seed in range(1, seeds + 1):
        change = 0.0 if seed == 1 else rng.normal(0, 0.002)
        rows.append({
            "quantizer": quantizer, "seed": seed, "n": N, **_interval(0.6 + change, 0.02, "top1"), "saved": 0.11,
            **_interval(margin + change, 0.012, "margin"), **_interval(control, 0.012, "fp32_margin"),
            **_interval(margin + change - control, 0.015, "attributable"), **_interval(0.62, 0.02, "refit"),
            **_interval(margin + change - 0.02, 0.008, "routed_minus_refit"),
        })  # fmt: skip
    return rows


def _seed_spread(seeds: pd.DataFrame) -> list[dict[str, Any]]:
    """Spread of every measure over the seeds; the standard deviation of one seed is not a number."""
    rows = []
    for quantizer, group in seeds.groupby("quantizer", sort=False):
        for measure in MEASURES:
            values = group[measure]
            rows.append({
                "quantizer": quantizer, "measure": measure, "seeds": len(group),
                **_interval(values.mean(), 0.012, "mean"),
                "sd": values.std(), "minimum": values.min(), "maximum": values.max(), "sampling_sd": 0.006,
            })  # fmt: skip
    return rows


def _sensitivity(rng: np.random.Generator, quantizer: str, precision: str, margin: float) -> list[dict[str, Any]]:
    """Two axes with numbers and one with names."""
    axes: dict[str, dict[str, float]] = {
        "INR scaling of thresholds": {"0": 0.0, "0.5": 0.5, "1": 1.0},
        "fit images": {"1000": 1000.0, "4000": 4000.0},
        "SAV normalisation": dict.fromkeys(("sav", "log-sav", "relative-sav"), np.nan),
    }
    rows = []
    for axis, values in axes.items():
        for value, x in values.items():
            base = value == next(iter(values))
            change = 0.0 if base else -0.004
            row = {
                "quantizer": quantizer, "precision": precision, "axis": axis, "value": value, "x": x, "n": N,
                "point_layers": "8,10,11", "saved": 0.1, "is_base": base, **_interval(0.6 + change, 0.02, "top1"),
                **_interval(margin + change, 0.012, "margin"), **_interval(change, 0.006, "difference"),
                "mcnemar_p": np.nan if base else 0.2, **_interval(margin + change, 0.015, "attributable"),
            }  # fmt: skip
            if base:
                row |= {"difference_low": np.nan, "difference_high": np.nan}
            if precision == FP32:
                row |= dict.fromkeys(_interval(0, 0, "attributable"), np.nan)
            rows.append(row)
    return rows


def _costs(quantizer: str) -> list[dict[str, Any]]:
    """Components of the compute of the headline, with and without exits."""
    components = {
        "patch embedding": (1e8, 1e8), "blocks": (4e9, 3.5e9), "exit heads": (0.0, 2e6), "gates": (0.0, 1e4),
        "class products at exits": (0.0, 1e6), "own head and class products": (2e6, 1e6),
    }  # fmt: skip
    return [
        {
            "quantizer": quantizer, "component": name, "macs_full": full, "macs_routed": routed,
            "bops_full": 64 * full, "bops_routed": 64 * routed, "counted_by_paper": name == "blocks",
        }
        for name, (full, routed) in components.items()
    ]  # fmt: skip


def _controls(quantizer: str, others: dict[str, float], top1: float) -> list[dict[str, Any]]:
    """The routed headline of one quantizer against every model at full depth."""
    return [
        {
            "quantizer": quantizer, "other": other, "weight_bits": 8, "activation_bits": 8,
            "other_weight_bits": 32 if other == FP32 else 8, "other_activation_bits": 32 if other == FP32 else 8,
            "n": N, "top1": top1, "other_top1": full, **_interval(top1 - full, 0.012, "difference"),
            "mcnemar_p": 0.01, "mcnemar_p_holm": 0.04,
        }
        for other, full in others.items()
    ]  # fmt: skip


def _rivals(tops: dict[str, float]) -> list[dict[str, Any]]:
    """Every quantizer against every other, both ways round, without and with exits."""
    return [
        {
            "quantizer": one, "other": two, "exits": exits, "weight_bits": 8, "activation_bits": 8, "n": N,
            "top1": tops[one], "other_top1": tops[two], **_interval(tops[one] - tops[two], 0.012, "difference"),
            "mcnemar_p": 0.01, "mcnemar_p_holm": 0.04,
        }
        for one, two in itertools.permutations(tops, 2)
        for exits in (False, True)
    ]  # fmt: skip


def _timings(quantizer: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Two peers and one engine, on one thread, in two sizes of batches."""
    contestants = [("torch, FP32", "", FULL_DEPTH, False, 10.0), ("torch, dynamic INT8", "", FULL_DEPTH, True, 8.0),
                   ("ours, torch, full depth", "torch", FULL_DEPTH, True, 5.0),
                   ("ours, torch, exits", "torch", EXITS, True, 4.0)]  # fmt: skip
    times = [
        {"quantizer": quantizer, "contestant": name, "engine": engine, "threads": 1, "batch": batch, "batches": 8,
         "ms": ms / batch, "ms_low": 0.9 * ms / batch, "ms_high": 1.2 * ms / batch, "speed": 10 / ms,
         "speed_low": 9 / ms, "speed_high": 11 / ms, "n": 64, "same": 0.98, "mode": mode, "int8": int8}
        for batch in (1, 8) for name, engine, mode, int8, ms in contestants
    ]  # fmt: skip
    saved = [
        {"quantizer": quantizer, "engine": "torch", "threads": 1, "batch": batch, "n": 64, "ms_full": 5.0 / batch,
         "ms_exits": 4.0 / batch, "macs_saved": 0.25, "time_saved": 0.2, "time_saved_low": 0.17,
         "time_saved_high": 0.22, "turned": 0.8, "turned_low": 0.68, "turned_high": 0.88, "visits_macs": 0.02,
         "visits_time": 0.06, "leaving_macs": 0.27, "leaving_time": 0.26}
        for batch in (1, 8)
    ]  # fmt: skip
    return times, saved


def _allocation(quantizer: str) -> list[dict[str, Any]]:
    """Bits by block, fewer towards the end."""
    return [
        {
            "quantizer": quantizer, "layer": layer, "bits": 4 if layer > 6 else 5,
            "utilisation": 1.0 if layer < 9 else 0.6, "candidate": candidate, "drift": 0.1 / candidate,
        }
        for layer in range(1, DEPTH + 1)
        for candidate in (4, 5)
    ]  # fmt: skip


PROVENANCE: dict[str, Any] = {
    "experiment": "synthetic", "model": "synthetic CLIP", "data": "synthetic images", "config_hash": "0" * 12,
    "git_revision": "0" * 40, "git_dirty": False, "created": "2026-01-01T00:00:00Z", "cpu": "synthetic",
    "versions": {"python": "3.11", "torch": "2.13"}, "kappa": 0.5, "candidates": list(LAYERS), "depth": DEPTH,
    "n_by_split": {"quant": 256, "fit": 4000, "gate": 1000, "select": 1000, "test": N}, "seed": 1,
    "seeds": 3, "delta": 0.1, "paper_setting": False, "random_weights": False,
    "weights": {"source": "synthetic", "sha256": "0" * 64},
    "prompts": ["a photo of a {}.", "a drawing of a {}."], "config": "seed: 1\nmodel: synthetic\n",
}  # fmt: skip


def _attribution(
    name: str, full: float, margin: float, control: float, refit_gain: float, seeds: int
) -> dict[str, Any]:
    """The row of one quantizer: the refitted head is ``refit_gain`` better than full depth."""
    return {
        "quantizer": name, "n": N, "seeds": seeds, **_interval(margin, 0.012, "margin"),
        **_interval(control, 0.012, "fp32_margin"),
        **_interval(margin - control, 0.015, "attributable"), "saved": 0.11, "fp32_saved": 0.11,
        "best_full_depth_refit_label": "cls distilled", "best_point": "base",
        "best_on_refit_point": "on-refit-0.1", **_interval(full + refit_gain, 0.02, "best_full_depth_refit"),
        **_interval(margin - refit_gain, 0.008, "routed_minus_refit"),
        **_interval(margin - refit_gain, 0.008, "best_minus_refit"), **_interval(full + 0.018, 0.02, "on_refit_top1"),
        "on_refit_saved": 0.11, **_interval(0.018 - refit_gain, 0.006, "on_refit_minus_refit"),
        **_interval(0.018, 0.01, "on_refit_minus_full"), "best_static_label": "layer 11, ssa distilled",
        **_interval(full + 0.01, 0.02, "best_static"), **_interval(margin - 0.01, 0.008, "routed_minus_static"),
    }  # fmt: skip


Rows = dict[str, list[dict[str, Any]]]


def _quantizer_tables(rng: np.random.Generator, rows: Rows, name: str, full: float, margin: float, control: float,
                      seeds: int) -> None:  # fmt: skip
    """Append what one quantizer contributes to every table but ``controls``."""
    for precision, accuracy, gain in ((name, full, margin), (FP32, FULL_FP32, control)):
        rows["points"] += _arm(rng, name, precision, accuracy, gain)
        rows["exits"] += _exits(rng, name, precision)
        rows["early"].append(_early(rng, name, precision, gain))
        rows["ablations"] += _ablations(rng, name, precision)
        rows["sweep"] += _sweep(rng, name, precision, accuracy)
        rows["thresholds"] += _thresholds(rng, name, precision)
        rows["sensitivity"] += _sensitivity(rng, name, precision, gain)
    rows["noise"] += _noise(rng, name)
    rows["quantizers"].append(_quantizer(rng, name, full, FULL_FP32))
    rows["attribution"].append(_attribution(name, full, margin, control, 0.02, seeds))
    rows["classes"] += _classes(rng, name)
    rows["seeds"] += _seeds(rng, name, margin, control, seeds)
    rows["costs"] += _costs(name)


def synthetic(
    margins: tuple[float, ...] = (0.03, 0.001, -0.03),
    control: float = 0.0,
    names: tuple[str, ...] = QUANTIZERS,
    seed: int = 1,
    seeds: int = 3,
) -> ReportTables:
    """Synthetic tables in which quantizer i has the headline margin ``margins[i]`` and FP32 the margin ``control``."""
    rng = np.random.default_rng(seed)
    rows: Rows = {name: [] for name in SCHEMA}
    rows["quantizers"].append(_quantizer(rng, FP32, FULL_FP32, FULL_FP32))
    rows["remarks"] += [dict(zip(("split", "sample", "location", "outcome", "reason"), row, strict=True))
                        for row in REMARKS]  # fmt: skip
    given = [(name, 0.585 - 0.01 * i, margin) for i, (name, margin) in enumerate(zip(names, margins, strict=False))]
    for name, full, margin in given:
        _quantizer_tables(rng, rows, name, full, margin, control, seeds)
    others = {name: full for name, full, _ in given} | {FP32: FULL_FP32}
    for name, full, margin in given:
        rows["controls"] += _controls(name, others, full + margin)
    rows["rivals"] = _rivals({name: full for name, full, _ in given})
    rows["allocation"] = _allocation(given[0][0])
    rows["searches"] = [
        {"quantizer": given[0][0], "evaluation": number, "fitness": 2.0 - 0.01 * number} for number in range(9)
    ]
    rows["calibration_costs"] = [
        {"quantizer": name, "model": "ViT-B-32", "images": 32, "cpu_seconds": 10.0, "wall_seconds": 11.0,
         "peak_before_mib": 900.0, "peak_mib": 1500.0, "state_mib": 0.5} for name, _, _ in given
    ]  # fmt: skip
    rows["agreement"] = [
        {"quantizer": name, "engine": "torch", "n": 1000, "answers": 0.999, "answers_low": 0.994,
         "answers_high": 0.9998, "exits": 0.998, "exits_low": 0.993, "exits_high": 0.999, "farthest": 1e-6}
        for name, _, _ in given[:1]
    ]  # fmt: skip
    rows["disagreements"] = [
        {"quantizer": given[0][0], "engine": "torch", "sample": 7, "evaluated_layer": 8, "runtime_layer": 9,
         "evaluated_answer": 1, "runtime_answer": 2, "distance": 1e-6}
    ]  # fmt: skip
    rows["latency"], rows["conversion"] = _timings(given[0][0])
    rows["seed_spread"] = _seed_spread(pd.DataFrame(rows["seeds"]))
    frames = {name: pd.DataFrame(rows[name] or {c: [] for c in SCHEMA[name]})[list(SCHEMA[name])] for name in SCHEMA}
    return ReportTables(**frames, provenance={**PROVENANCE, "seeds": seeds})
