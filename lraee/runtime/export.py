"""Put together what an exported folder holds, from what the benchmark fitted and measured."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from lraee.evaluation.choices import Configuration
from lraee.evaluation.fit import Fitted
from lraee.exits.head_plan import HeadKey
from lraee.exits.heads import Heads
from lraee.exits.score_table import FINAL
from lraee.exits.signals import Probes
from lraee.io import file_sha256
from lraee.models.families import Preprocessing
from lraee.models.tower import ClassEmbeddings, Tower
from lraee.runtime.folder import ExportedExits, ExportError, Measured, write_export
from lraee.runtime.network import describe


@dataclass(frozen=True)
class Exportable:
    """A quantized network with everything that was fitted on it; `probes` has one entry for each of the heads."""

    tower: Tower
    preprocessing: Preprocessing
    headline: Fitted
    heads: Heads
    probes: Probes
    probe_keys: list[HeadKey]
    classes: ClassEmbeddings
    class_names: list[str]
    measured: Measured
    named: Mapping[str, Any]
    """`experiment`, `quantizer`, `description` and `model`, as in the manifest."""


def export(folder: str | Path, source: Exportable) -> None:
    """Write an exported folder; ExportError where this network or these exits cannot be exported."""
    c = source.headline.configuration
    if c.final != FINAL:
        raise ExportError(
            f"the headline answers at full depth by a head of its own, {c.final}: only the model's own is"
        )
    keys = [HeadKey(c.variant, layer, c.aggregation, c.supervision) for layer in c.layers]
    try:
        network, tensors = describe(source.tower)
    except ValueError as error:
        raise ExportError(f"{source.named['quantizer']} cannot be exported: {error}") from error
    parts: dict[str, Mapping[str, Tensor]] = {
        "network": tensors,
        "heads": source.heads.only(keys).parameters,
        "probes": _probes(source, keys),
        "classes": {"rows": source.classes.rows, "bias": source.classes.bias},
    }
    manifest = {
        **source.named,
        "network": network.model_dump(),
        "preprocessing": asdict(source.preprocessing),
        "exits": _exits(source.headline, c).model_dump(),
        "class_names": source.class_names,
        "cosine": source.classes.cosine,
        "logit_scale": source.classes.scale,
        "measured": source.measured.model_dump(),
    }
    named = {f"{part}.{name}": tensor for part, own in parts.items() for name, tensor in own.items()}
    write_export(folder, manifest, named)


def _probes(source: Exportable, keys: list[HeadKey]) -> dict[str, Tensor]:
    places = [source.probe_keys.index(key) for key in keys]
    return {"weights": source.probes.weights[places], "bias": source.probes.bias[places]}


def _exits(fitted: Fitted, c: Configuration) -> ExportedExits:
    return ExportedExits(
        layers=c.layers, aggregation=c.aggregation, supervision=c.supervision, policy=c.policy,
        gates=tuple(fitted.gates), thresholds=tuple(fitted.thresholds),
    )  # fmt: skip


def measured(points: pd.DataFrame, quantizer: str) -> Measured:
    """What the evaluation says of a quantizer's headline; ExportError where it was not evaluated."""
    own = points[points["precision"] == quantizer]
    headline, full = own[own["headline"]], own[own["study"] == "full-depth"]
    if len(headline) != 1 or len(full) != 1:
        raise ExportError(f"the evaluation does not hold the headline of {quantizer}: run the workflow again")
    row = headline.iloc[0]
    return Measured(
        images=int(row["n"]), top1=row["top1"], top1_low=row["top1_low"], top1_high=row["top1_high"],
        full_depth_top1=full.iloc[0]["top1"], macs_saved=row["saved"],
    )  # fmt: skip


def check_evaluated(evaluated: Mapping[str, str], files: Mapping[str, str | Path]) -> None:
    """Compare files with the hashes that the evaluation kept of them; ExportError names one that has changed since."""
    for name, path in files.items():
        if evaluated.get(name) != file_sha256(path):
            raise ExportError(
                f"{path} is not the file that was evaluated ({name}): run the workflow again, so that what is exported "
                "is what was measured"
            )
