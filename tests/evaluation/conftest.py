"""Invented score tables: answers that get better with depth, and signals that tell something about them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from lraee.evaluation.choices import AblationSettings, ExitSettings, SensitivitySettings
from lraee.evaluation.run import Run, evaluate_both_arms, fit_both_arms
from lraee.exits.score_table import COLUMNS, FINAL, score_tables
from lraee.exits.variants import Images, deal_again
from tests.evaluation.tables import CLASSES, QUANTIZED, SHAPE

LAYERS, DEPTH, FIT_IMAGES = (8, 9, 10, 11), 12, 100
AGGREGATIONS, SUPERVISIONS = ("ssa", "cls"), ("distilled", "hard", "label-free")
SIZES = {"gate": 150, "select": 160, "test": 170}


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Gates of a few hundred images are fitted many times faster without threads that wait for each other."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def shape():
    return SHAPE


@pytest.fixture(scope="session")
def exits():
    return ExitSettings.model_validate(
        {
            "candidates": LAYERS,
            "heads": {"aggregations": AGGREGATIONS, "supervisions": SUPERVISIONS},
            "seeds": 3,
            "thresholds": {"low": 0.2, "high": 0.9, "points": 6},
            "headline": {
                "policy": "learned-gate", "aggregation": "ssa", "supervision": "distilled",
                "threshold_rule": "layer-adaptive", "budget": 0.05,
            },
            "grids": [
                {
                    "policies": ["learned-gate", "confidence"], "aggregations": ["ssa", "cls"],
                    "supervisions": ["distilled", "label-free"], "threshold_rules": ["layer-adaptive", "global"],
                    "budgets": [0.0, 0.05, 0.3],
                },
                {
                    "policies": ["entropy", "learned-scalar", "class-thresholds", "patience"], "aggregations": ["ssa"],
                    "supervisions": ["distilled"], "threshold_rules": ["global"], "budgets": [0.05],
                },
            ],
            "risk": {
                "rules": ["risk-disagreement", "risk-accuracy-gap"], "policies": ["learned-gate", "confidence"],
                "levels": [0.05, 0.4],
            },
            "ablations": {
                "gate_features": [["confidence"], ["margin", "sav"]], "aggregations": ["cls"],
                "supervisions": ["hard", "label-free"], "policies": ["confidence", "margin"],
                "threshold_rules": ["global"], "layers": ["each", [8, 11]],
            },
            "sensitivity": {
                "inr_exponents": [-0.5, 0.0, 1.0], "kappas": [0.25, 0.5], "sav": ["sav", "log-sav", "relative-sav"],
                "temperatures": [0.5, 1.0], "fit_images": [50, 100],
            },
        }
    )  # fmt: skip


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
def run(exits, noise):
    return Run(exits=exits, fit_images=FIT_IMAGES, noise=noise, kappa=0.5, shape=SHAPE, classes=CLASSES)


@pytest.fixture(scope="session")
def small(run, exits):
    """A run with little of everything, for tests that fit all over again."""
    grid = exits.grids[0].model_copy(
        update={"policies": ["confidence"], "aggregations": ["ssa"], "threshold_rules": ["global"], "budgets": [0.1]}
    )
    risk = exits.risk.model_copy(update={"policies": ("confidence",), "levels": (0.2,)})
    ablations = AblationSettings(aggregations=("cls",), supervisions=("label-free",), layers=((8, 11),))
    sensitivity = SensitivitySettings(inr_exponents=(1.0,), kappas=(0.25,), temperatures=(0.5,), fit_images=(50,))
    heads = exits.heads.model_copy(update={"supervisions": ["distilled", "label-free"]})
    changes = {"grids": [grid], "risk": risk, "ablations": ablations, "sensitivity": sensitivity, "seeds": 2}
    changes["heads"] = heads
    return replace(run, exits=exits.model_copy(update=changes))


def _block(rng, labels, skill):
    """Answers of one exit to all images, and signals that know a little of whether they are right."""
    right = rng.random(len(labels)) < skill
    confidence = np.clip(rng.normal(0.45 + 0.25 * right, 0.15), 0.21, 0.999)
    return {
        "prediction": np.where(right, labels, (labels + rng.integers(1, CLASSES, len(labels))) % CLASSES),
        "confidence": confidence, "margin": confidence * rng.uniform(0.3, 1.0, len(labels)),
        "entropy": 1.0 - confidence * rng.uniform(0.8, 1.0, len(labels)),
        "certainty": rng.normal(0.3 + 0.4 * right, 0.3), "sav": rng.lognormal(3 - right, 0.5),
        "energy": rng.lognormal(2.0, 0.3, len(labels)),
    }  # fmt: skip


def _universe(seed, labels, variants, run, skill):
    """Blocks of all images by (variant, aggregation, supervision, layer).

    As in the real thing, the model's own answer is the same in all variants, and another temperature only moves how
    sure the heads of the base are.
    """
    rng = np.random.default_rng(seed)
    own = _block(rng, labels, skill) | dict.fromkeys(("certainty", "sav", "energy"), np.nan)
    blocks = {}
    for variant in variants:
        for _, layer, aggregation, supervision in run.plan.keys(run.exits.heads, variant.name):
            key = (aggregation, supervision, layer)
            if variant.fitted:
                ability = skill - 0.05 * (DEPTH - layer) + 0.03 * (aggregation == "ssa")
                blocks[(variant.name, *key)] = _block(rng, labels, ability)
            else:
                base = blocks[("base", *key)]
                blocks[(variant.name, *key)] = base | {"confidence": base["confidence"] ** (1 / variant.temperature)}
        blocks[(variant.name, *FINAL, DEPTH)] = own
    return blocks


@pytest.fixture(scope="session")
def frames(run):
    """Both precisions' scores by split; the same images, and so the same labels, in both."""
    split = np.repeat(list(SIZES), list(SIZES.values()))
    labels = np.random.default_rng(0).integers(0, CLASSES, len(split))
    images = Images(np.where(split == "test", "test", "train"), split, labels)
    variants = run.exits.variants(FIT_IMAGES)
    dealt = {variant.name: deal_again(images, variant.seed) for variant in variants}
    made = {}
    for prefix, seed, skill in (("fp32_", 10, 0.75), ("", 20, 0.65)):
        blocks = _universe(seed, labels, variants, run, skill)
        for name in SIZES:
            parts = []
            for (variant, aggregation, supervision, layer), block in blocks.items():
                rows = np.flatnonzero(dealt[variant] == name)
                who = {"variant": variant, "aggregation": aggregation, "supervision": supervision, "layer": layer}
                who |= {"sample": rows, "label": labels[rows]}
                values = {k: v[rows] if isinstance(v, np.ndarray) else v for k, v in block.items()}
                parts.append(pd.DataFrame(who | values))
            made[f"{prefix}{name}"] = pd.concat(parts, ignore_index=True)[list(COLUMNS)]
    return made


@pytest.fixture(scope="session")
def tables(frames):
    return {name: score_tables(frame) for name, frame in frames.items()}


@pytest.fixture(scope="session")
def fitted(tables, run):
    return fit_both_arms(tables, "w4a4", run)


@pytest.fixture(scope="session")
def small_fitted(tables, small):
    return fit_both_arms(tables, "w4a4", small)


@pytest.fixture(scope="session")
def class_names():
    return ["circle", "cross", "ring", "square", "star"]


@pytest.fixture(scope="session")
def evaluate(class_names):
    """Open the test split for what was fitted, on the given scores."""

    def open_test(fitted, tables, seed=0):
        return evaluate_both_arms(fitted, tables["test"], tables["fp32_test"], QUANTIZED, class_names, seed)

    return open_test


@pytest.fixture(scope="session")
def evaluated(fitted, tables, evaluate):
    return evaluate(fitted, tables)


@pytest.fixture(scope="session")
def small_evaluated(small_fitted, tables, evaluate):
    return evaluate(small_fitted, tables)


@pytest.fixture(scope="session")
def points(evaluated):
    return evaluated["points"]
