"""A tiny network that was exported, with the scores that its evaluation would have seen."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lraee.evaluation.choices import Configuration
from lraee.evaluation.fit import Fitted
from lraee.exits.head_plan import HeadKey
from lraee.exits.heads import initial_heads
from lraee.exits.policies import POLICIES
from lraee.exits.score_table import ExitScores, ScoreTable
from lraee.exits.scores import Scorer
from lraee.exits.signals import Probes
from lraee.exits.variants import Variant
from lraee.features.extract import extract
from lraee.features.store import Features
from lraee.models.families.open_clip import OpenClipModel
from lraee.quantize.schemes import SCHEMES
from lraee.registry import parse
from lraee.runtime.export import Exportable, export
from lraee.runtime.folder import Measured

LAYERS = (1, 2, 3)
NAMES = [f"class {number}" for number in range(5)]
UNIFORM = {"scheme": "uniform", "weights": {"granularity": "channel"}, "activations": {"observer": "mse"}}


@dataclass(frozen=True)
class Exported:
    """An exported folder, its source, and what an evaluation of the same images finds."""

    folder: Path
    source: Exportable
    tower: Any
    scores: ExitScores
    pixels: torch.Tensor


def _features(tower: Any, pixels: torch.Tensor) -> Features:
    found = extract(tower, pixels)
    arrays = (part.numpy() for part in (found.cls, found.mean, found.sav, found.final))
    return Features(tuple(range(1, 5)), np.arange(len(pixels)), np.zeros(len(pixels), int), *arrays)


@pytest.fixture(scope="session")
def make_exported(clip: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Export `clip` under a scheme and with a policy whose thresholds let a third of the images leave at each exit."""

    def make(scheme: dict[str, Any] = UNIFORM, policy: str = "learned-gate", aggregation: str = "ssa") -> Exported:
        model = OpenClipModel(
            family="open_clip", name=clip.name, pretrained=str(clip.weights), depth=4, templates=["a {}", "the {}"]
        )
        loaded, classes = model.load(), model.class_embeddings(NAMES)
        pixels = torch.randn(60, 3, 32, 32, generator=torch.Generator().manual_seed(3))
        own = parse(SCHEMES, "scheme", scheme)
        tower = own.apply(loaded.tower, own.calibrate(loaded.tower, lambda: pixels.split(20)))
        keys = [HeadKey("base", layer, aggregation, "distilled") for layer in (1, 2, 3, 4)]
        heads = initial_heads(keys, 32, 24, 1)
        generator = torch.Generator().manual_seed(2)
        for parameter in heads.parameters.values():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        probes = Probes(torch.randn(4, 32, generator=generator) / 8, torch.zeros(4, 1))
        table = Scorer(Variant(), heads, probes, classes).score(_features(tower, pixels))
        blocks = dict(iter(table.groupby(["aggregation", "supervision", "layer"], observed=True)))
        scores = ScoreTable(blocks).at(aggregation, "distilled", LAYERS)
        fitting = POLICIES[policy]
        right = np.random.default_rng(0).random((60, 3)) < scores.confidence
        gates = fitting.fit(scores, right, ("confidence", "margin", "sav"))
        thresholds = np.quantile(fitting.readiness(scores, gates), 2 / 3, axis=0).tolist()
        c = Configuration(
            policy=policy, aggregation=aggregation, supervision="distilled", threshold_rule="layer-adaptive",
            budget=0.1, layers=LAYERS,
        )  # fmt: skip
        headline = Fitted(configuration=c, gates=gates, thresholds=thresholds, select_top1=0.5, select_saved=0.2)
        source = Exportable(
            tower=tower, preprocessing=loaded.preprocessing, headline=headline, heads=heads, probes=probes,
            probe_keys=keys, classes=classes, class_names=NAMES,
            measured=Measured(
                images=60, top1=0.5, top1_low=0.4, top1_high=0.6, full_depth_top1=0.55, macs_saved=0.2
            ),
            named={
                "experiment": "tiny", "quantizer": "w8a8", "description": own.description,
                "model": model.model_dump(mode="json"),
            },
        )  # fmt: skip
        folder = tmp_path_factory.mktemp("exported")
        export(folder, source)
        return Exported(folder, source, tower, scores, pixels)

    return make


@pytest.fixture(scope="session")
def exported(make_exported: Any) -> Exported:
    """The usual one: W8A8, learned gates."""
    return make_exported()
