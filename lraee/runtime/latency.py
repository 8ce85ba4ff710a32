"""Time the runtime and its peers on the same images, in turns, in one process: only ratios within a run are fair."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from lraee.metrics.compute import ExitCosts
from lraee.models.tower import ClassEmbeddings, Tower
from lraee.runtime.classifier import EarlyExitCLIP
from lraee.runtime.engines import ENGINES, installed
from lraee.runtime.folder import read_export
from lraee.runtime.network import describe, rebuild
from lraee.runtime.peers import PEERS, available


@dataclass(frozen=True)
class Run:
    """One batch: its classes (B,), where it took how many seconds, and the compute it took as a share of full depth's.

    `tower` and `exits` are seconds in blocks, and in heads and gates; `macs` counts everything, `tower_macs` stem and
    blocks. All are NaN where there are no exits.
    """

    answers: NDArray[np.int64]
    tower: float = np.nan
    exits: float = np.nan
    macs: float = np.nan
    tower_macs: float = np.nan


@dataclass(frozen=True)
class Contestant:
    """Something that classifies pixels (B, 3, H, W); `engine` is empty for peers."""

    label: str
    engine: str
    exits: bool
    int8: bool
    run: Callable[[Tensor], Run]


class Timed:
    """An object of which one method's seconds are counted; everything else is its own."""

    def __init__(self, inner: Any, method: str) -> None:
        self._inner, self._method = inner, getattr(inner, method)
        self.seconds = 0.0
        setattr(self, method, self._call)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _call(self, *arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return self._method(*arguments)
        finally:
            self.seconds += time.perf_counter() - start


def peers(tower: Tower, classes: ClassEmbeddings, calibration: Tensor) -> list[Contestant]:
    """Prepare every peer that is installed; FP32 `tower`, pixels (n, 3, H, W) for those that calibrate."""
    plain, found = rebuild(*describe(tower)), []
    for name in available():
        peer = PEERS[name]()
        run = _answering(peer.prepare(plain, calibration), classes)
        found.append(Contestant(peer.label, "", exits=False, int8=peer.int8, run=run))
    return found


def ours(folder: Path, costs: ExitCosts) -> list[Contestant]:
    """Load an exported folder into every engine that is installed: at full depth in one piece, and with exits."""
    export, found = read_export(folder), []
    tower = rebuild(export.manifest.network, export.part("network"))
    for name in installed():
        model = EarlyExitCLIP.load(folder, name)
        engine = ENGINES[name](tower, (), export.manifest.preprocessing.size)
        whole = _answering(partial(engine.run, 0), model.classes)
        label, covered = f"ours, {name}", bool(export.manifest.network.activation_bits)
        found += [
            Contestant(f"{label}, full depth", name, exits=False, int8=covered, run=whole),
            Contestant(f"{label}, exits", name, exits=True, int8=covered, run=_stopping(model, costs)),
        ]
    return found


def _answering(embed: Callable[[Tensor], Tensor], classes: ClassEmbeddings) -> Callable[[Tensor], Run]:
    return lambda pixels: Run(classes.logits(embed(pixels)).argmax(-1).numpy())


def _stopping(model: EarlyExitCLIP, costs: ExitCosts) -> Callable[[Tensor], Run]:
    def run(pixels: Tensor) -> Run:
        engine: Any = Timed(model.engine, "run")
        exits: Any = Timed(model.exits, "visit")
        routed = replace(model, engine=engine, exits=exits).route(pixels)
        return Run(
            routed.answer, engine.seconds, exits.seconds,
            macs=float(costs.leaving[routed.place].mean() / costs.full),
            tower_macs=1.0 - float((costs.full_blocks - costs.blocks[routed.place]).mean() / costs.full),
        )  # fmt: skip

    return run


@torch.inference_mode()
def race(contestants: Sequence[Contestant], pixels: Tensor, batches: Sequence[int], rounds: int) -> pd.DataFrame:
    """Time pixels (N, 3, H, W) in batches of each size, `rounds` times; one row a batch and contestant.

    Contestants take turns batch by batch, another one first each time, so that what else happens on the machine meets
    all alike. Before a size is timed, all have run it: engines prepare themselves at sizes they have not seen, and
    exits make many sizes of one. `same` counts the answers that are the first contestant's.
    """
    records: list[dict[str, Any]] = []
    for batch in batches:
        parts = pixels.split(batch)
        for contestant in contestants:
            for part in parts if contestant.exits else parts[:2]:
                contestant.run(part)
        for turn in tqdm(range(rounds * len(parts)), desc=f"batches of {batch}", unit="batch"):
            part, first = parts[turn % len(parts)], turn % len(contestants)
            timed = {c.label: _timed(c, part) for c in (*contestants[first:], *contestants[:first])}
            reference = timed[contestants[0].label]["answers"]
            where = {"batch": batch, "turn": turn, "images": len(part)}
            for row in timed.values():
                same = int((row.pop("answers") == reference).sum())
                records.append({**where, **row, "same": same})
    return pd.DataFrame(records)


def _timed(contestant: Contestant, pixels: Tensor) -> dict[str, Any]:
    start = time.perf_counter()
    run = contestant.run(pixels)
    seconds = time.perf_counter() - start
    return {
        "contestant": contestant.label, "engine": contestant.engine, "exits": contestant.exits,
        "int8": contestant.int8, "seconds": seconds, "tower_seconds": run.tower, "exit_seconds": run.exits,
        "macs": run.macs, "tower_macs": run.tower_macs, "answers": run.answers,
    }  # fmt: skip
