"""SYNTHETIC tables for the tests of the report. Every number is invented (seeded); none is a result."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lraee.names import FP32
from lraee.report.tables import SCHEMA, ReportTables

LAYERS, DEPTH, N = (8, 9, 10, 11), 12, 2000
QUANTIZERS = ("int8-per-tensor", "int8-per-channel", "smoothquant-w4a8")
Factory = Callable[..., ReportTables]


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
    return {
        "policy": "none", "aggregation": "final", "supervision": "zero-shot", "gate_features": "", "layers": "",
        "threshold_rule": "", "thresholds": "{}", "budget": np.nan, "select_top1": top1 + rng.normal(0, 0.005),
        "n": N, "correct": correct, "top1": top1, "top1_low": low, "top1_high": high, "saved": saved,
        "saved_blocks": saved + 0.01, "mean_layer": 12 * (1 - saved), "both_right": correct - rescue,
        "rescue": rescue, "loss": loss, "both_wrong": N - correct - loss, "margin": margin,
        "margin_low": margin - half, "margin_high": margin + half, "mcnemar_p": float(rng.uniform(0, 0.2)),
        "on_frontier": False, "headline": False, **texts,
    }  # fmt: skip


def _arm(rng: np.random.Generator, quantizer: str, precision: str, full: float, margin: float) -> list[dict[str, Any]]:
    """All operating points of one arm; the headline has the given margin."""
    names, numbers = {"quantizer": quantizer, "precision": precision}, itertools.count()
    rows = [_point(rng, full, full, 0.0, study="full-depth", point="full", **names)]
    for layer, aggregation, supervision in itertools.product(
        (*LAYERS, DEPTH), ("ssa", "cls"), ("distilled", "hard", "label-free")
    ):
        top1 = full + 0.02 - 0.04 * (DEPTH - layer) * (2 if aggregation == "cls" else 1) + rng.normal(0, 0.01)
        rows.append(_point(
            rng, full, top1, 1 - layer / DEPTH, study="static", point=f"static-{next(numbers)}", policy="static",
            aggregation=aggregation, supervision=supervision, layers=str(layer), **names,
        ))  # fmt: skip
    routed = {"aggregation": "ssa", "supervision": "distilled", "layers": "8,10,11"}
    for policy, budget in itertools.product(("learned-gate", "confidence", "margin"), np.linspace(0.02, 0.3, 12)):
        top1 = full + margin + 0.01 - 0.6 * budget**2 + rng.normal(0, 0.004) - 0.01 * (policy != "learned-gate")
        rows.append(_point(
            rng, full, top1, budget + rng.normal(0, 0.004), study="frontier", point=f"routed-{next(numbers)}",
            policy=policy, budget=budget, threshold_rule="layer-adaptive", thresholds='{"8": 0.5, "10": 0.4}',
            on_frontier=policy == "learned-gate", gate_features="confidence+margin+sav", **routed, **names,
        ))  # fmt: skip
    rows.append(_point(
        rng, full, full + margin, 0.11, study="frontier", point="base", policy="learned-gate", headline=True,
        budget=0.1, threshold_rule="layer-adaptive", thresholds='{"8": 0.5}', gate_features="confidence+margin+sav",
        on_frontier=True, **routed, **names,
    ))  # fmt: skip
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
            "accuracy_full": full, "accuracy_exit": full + (0 if layer == DEPTH else 0.04),
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


PROVENANCE: dict[str, Any] = {
    "experiment": "synthetic", "model": "synthetic CLIP", "data": "synthetic images", "config_hash": "0" * 12,
    "git_revision": "0" * 40, "git_dirty": False, "created": "2026-01-01T00:00:00Z", "cpu": "synthetic",
    "versions": {"python": "3.11", "torch": "2.13"}, "kappa": 0.5, "candidates": list(LAYERS), "depth": DEPTH,
    "n_by_split": {"quant": 256, "fit": 4000, "gate": 1000, "select": 1000, "test": N}, "seed": 1,
    "prompts": ["a photo of a {}.", "a drawing of a {}."], "config": "seed: 1\nmodel: synthetic\n",
}  # fmt: skip


def synthetic(
    margins: tuple[float, ...] = (0.03, 0.001, -0.03),
    control: float = 0.0,
    names: tuple[str, ...] = QUANTIZERS,
    seed: int = 1,
) -> ReportTables:
    """Synthetic tables in which quantizer i has the headline margin ``margins[i]`` and FP32 the margin ``control``."""
    rng = np.random.default_rng(seed)
    points: list[dict[str, Any]] = []
    exits: list[dict[str, Any]] = []
    noise: list[dict[str, Any]] = []
    ablations: list[dict[str, Any]] = []
    quantizers = [_quantizer(rng, FP32, 0.6, 0.6)]
    attribution: list[dict[str, Any]] = []
    for index, (name, margin) in enumerate(zip(names, margins, strict=False)):
        full = 0.585 - 0.01 * index
        for precision, accuracy, gain in ((name, full, margin), (FP32, 0.6, control)):
            points += _arm(rng, name, precision, accuracy, gain)
            exits += _exits(rng, name, precision)
            ablations += _ablations(rng, name, precision)
        noise += _noise(rng, name)
        quantizers.append(_quantizer(rng, name, full, 0.6))
        attribution.append({
            "quantizer": name, "n": N, **_interval(margin, 0.012, "margin"),
            **_interval(control, 0.012, "fp32_margin"), **_interval(margin - control, 0.015, "attributable"),
            "best_full_depth_refit": full + 0.02, "best_full_depth_refit_label": "cls, distilled",
            **_interval(margin - 0.02, 0.008, "routed_minus_refit"),
        })  # fmt: skip
    return ReportTables(
        points=pd.DataFrame(points)[list(SCHEMA["points"])], exits=pd.DataFrame(exits), noise=pd.DataFrame(noise),
        quantizers=pd.DataFrame(quantizers), attribution=pd.DataFrame(attribution),
        ablations=pd.DataFrame(ablations), provenance=dict(PROVENANCE),
        skipped=pd.DataFrame([{"sample": "img_3.jpg", "split": "fit", "reason": "truncated file"}]),
    )  # fmt: skip


@pytest.fixture(scope="session")
def make() -> Factory:
    """The factory of synthetic tables."""
    return synthetic


@pytest.fixture(scope="session")
def tables() -> ReportTables:
    """Synthetic tables with a gain, an undecided and a loss."""
    return synthetic()
