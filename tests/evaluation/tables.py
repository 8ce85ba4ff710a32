"""Score tables, benches and fitted configurations written by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd

from lraee.evaluation.bench import TestBench
from lraee.evaluation.choices import Configuration
from lraee.evaluation.fit import Fitted
from lraee.exits.score_table import COLUMNS, FINAL, ScoreTable, score_tables
from lraee.exits.variants import BASE
from lraee.metrics.compute import FLOAT_BITS, whole_tower
from lraee.models.shape import TowerShape

# Stem 9*12*16 = 1,728. Block 4*10*16^2 + 2*10^2*16 + 2*10*16*64 = 33,920. Own head 16*8 = 128. An exit's head
# 16^2 + 16*8 = 384; products with 5 classes: 40.
SHAPE = TowerShape(depth=12, tokens=10, width=16, hidden=64, patch=12, embedding=8, projected=True)
STEM, BLOCK, OWN, HEAD, PRODUCTS = 1_728, 33_920, 128, 384, 40
FULL = STEM + 12 * BLOCK + OWN + PRODUCTS
CLASSES = 5
UNQUANTIZED = whole_tower(SHAPE, FLOAT_BITS)
# Block b has 16 b BOPs a MAC, so the first L have 8 L (L + 1).
QUANTIZED = replace(
    UNQUANTIZED, weight_bits=4, activation_bits=4, block_bops=tuple(16 * number * BLOCK for number in range(1, 13))
)


def hand_table(labels, own, exits, confidence=None, variant=BASE, samples=None) -> ScoreTable:
    """A table from the model's own answers and those of heads, {(aggregation, supervision, layer): answers}.

    `confidence` may have the same keys; without it every exit is fully sure.
    """
    n, parts = len(labels), []
    for (aggregation, supervision, layer), answers in {**exits, (*FINAL, SHAPE.depth): own}.items():
        sure = (confidence or {}).get((aggregation, supervision, layer), [1.0] * n)
        named = {"variant": variant, "aggregation": aggregation, "supervision": supervision, "layer": layer}
        who = {"sample": np.arange(n) if samples is None else samples, "label": labels, "prediction": answers}
        signals = {"confidence": sure, "margin": sure, "entropy": 0.0, "certainty": 0.5, "sav": 1.0, "energy": 1.0}
        parts.append(pd.DataFrame(named | who | signals))
    (table,) = score_tables(pd.concat(parts, ignore_index=True)[list(COLUMNS)]).values()
    return table


def hand_bench(*args, coverage=UNQUANTIZED, seed=0, **kwargs) -> TestBench:
    """A bench with one hand-written table, of the base."""
    return TestBench({BASE: hand_table(*args, **kwargs)}, SHAPE, CLASSES, coverage, seed)


def hand_fitted(layers, thresholds, **changes) -> Fitted:
    """Confidence on [SSA, distilled] heads, with the given thresholds."""
    chosen = {
        "policy": "confidence", "aggregation": "ssa", "supervision": "distilled", "threshold_rule": "global",
        "budget": 0.0, "layers": tuple(layers),
    }  # fmt: skip
    return Fitted(
        configuration=Configuration(**(chosen | changes)), gates=[{} for _ in layers], thresholds=list(thresholds),
        select_top1=0.5, select_saved=0.1,
    )  # fmt: skip


def permuted_labels(frame):
    """The same scores with labels that belong to other images."""
    truth = frame.drop_duplicates("sample").set_index("sample")["label"].sort_index()
    return frame.assign(label=frame["sample"].map(dict(zip(truth.index, np.roll(truth, 7), strict=True))))


def point_of(points, fitted, precision):
    """The row of a routed point, found by its configuration."""
    c = fitted.configuration
    same = {
        "precision": precision, "policy": c.policy, "aggregation": c.aggregation, "supervision": c.supervision,
        "layers": ",".join(map(str, c.layers)), "threshold_rule": c.threshold_rule,
        "full_depth_head": "own" if c.final == FINAL else " ".join(c.final),
        "gate_features": "+".join(c.gate_features) if c.policy == "learned-gate" else "",
    }  # fmt: skip
    same |= {"budget": c.budget} if c.risk is None else {"risk": c.risk}
    rows = points[(points[list(same)] == pd.Series(same)).all(axis=1)]
    assert len(rows) == 1
    return rows.iloc[0]
