"""Invented score tables: answers that get better with depth, and signals that tell something about them."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from lraee.evaluation.choices import ExitSettings
from lraee.exits.score_table import COLUMNS, ScoreTable
from lraee.models.shape import TowerShape

LAYERS, DEPTH, CLASSES = (8, 9, 10, 11), 12, 5
SHAPE = TowerShape(depth=DEPTH, tokens=10, width=16, hidden=64, patch=12, embedding=8, projected=True)
AGGREGATIONS, SUPERVISIONS = ("ssa", "cls"), ("distilled", "hard", "label-free")


def _frame(seed, n, skill):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, n)
    keys = [*product(AGGREGATIONS, SUPERVISIONS, (*LAYERS, DEPTH)), ("final", "own", DEPTH)]
    parts = []
    for aggregation, supervision, layer in keys:
        right = rng.random(n) < skill - 0.05 * (DEPTH - layer) + 0.03 * (aggregation == "ssa")
        confidence = np.clip(rng.normal(0.45 + 0.25 * right, 0.15), 0.21, 0.999)
        parts.append(
            pd.DataFrame(
                {
                    "sample": np.arange(n), "label": labels, "aggregation": aggregation, "supervision": supervision,
                    "layer": layer, "prediction": np.where(right, labels, rng.integers(0, CLASSES, n)),
                    "confidence": confidence, "margin": confidence * rng.uniform(0.3, 1.0, n),
                    "entropy": 1.0 - confidence * rng.uniform(0.8, 1.0, n), "sav": rng.lognormal(3 - right, 0.5),
                }
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


@pytest.fixture(scope="session")
def shape():
    return SHAPE


@pytest.fixture(scope="session")
def frames():
    """Both precisions' scores by split; the same images, and so the same labels, in both."""
    made = {}
    for index, (split, n) in enumerate({"gate": 150, "select": 160, "test": 170}.items()):
        fp32 = _frame(10 + index, n, skill=0.75)
        own = _frame(20 + index, n, skill=0.65)
        truth = dict(zip(fp32["sample"], fp32["label"], strict=True))
        shift = own["label"] != own["prediction"]
        own["label"] = own["sample"].map(truth)
        own["prediction"] = (own["label"] + np.where(shift, own["prediction"] % (CLASSES - 1) + 1, 0)) % CLASSES
        made |= {f"fp32_{split}": fp32, split: own}
    return made


@pytest.fixture(scope="session")
def tables(frames):
    return {name: ScoreTable(frame) for name, frame in frames.items()}


@pytest.fixture(scope="session")
def noise():
    """A profile in which layer 9 is pathological at kappa 0.5: the candidates' mean INR is 80.5."""
    rows = [
        {"tokens": tokens, "layer": layer, "inr": value}
        for tokens in ("all", "cls")
        for layer, value in zip(range(1, 13), [1e6] * 7 + [100.0, 22.0, 100.0, 100.0, 1e-3], strict=True)
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def exits():
    return ExitSettings.model_validate(
        {
            "candidates": LAYERS,
            "heads": {"aggregations": AGGREGATIONS, "supervisions": SUPERVISIONS},
            "thresholds": {"low": 0.2, "high": 0.9, "points": 6},
            "headline": {
                "policy": "learned-gate", "aggregation": "ssa", "supervision": "distilled",
                "threshold_rule": "layer-adaptive", "budget": 0.05,
            },
            "grid": {
                "policies": ["learned-gate", "confidence", "entropy"], "aggregations": ["ssa", "cls"],
                "supervisions": ["distilled", "label-free"], "threshold_rules": ["layer-adaptive", "global"],
                "budgets": [0.0, 0.05, 0.1, 0.3],
            },
            "ablations": {
                "gate_features": [["confidence"], ["margin", "sav"]], "aggregations": ["cls"],
                "supervisions": ["hard", "label-free"], "policies": ["confidence", "margin"],
                "threshold_rules": ["global"], "layers": ["each", [8, 11]],
            },
        }
    )  # fmt: skip
