"""Time the runtime and its peers on the same images, in turns, in one process: only ratios within a run are fair."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from lraee.evaluation.timings import EXITS, FULL_DEPTH, NOBODY_LEAVES
from lraee.metrics.compute import ExitCosts
from lraee.models.tower import ClassEmbeddings, Tower
from lraee.runtime.classifier import EarlyExitCLIP
from lraee.runtime.engines import installed
from lraee.runtime.network import describe, rebuild
from lraee.runtime.peers import PEERS, Peer, available


@dataclass(frozen=True)
class Run:
    """One batch: its classes (B,), and the MACs they took as a share of full depth's without exits."""

    answers: NDArray[np.int64]
    macs: float = 1.0


@dataclass(frozen=True)
class Contestant:
    """Something that classifies pixels (B, 3, H, W) in one of MODES; `engine` is empty for peers."""

    label: str
    engine: str
    mode: str
    int8: bool
    run: Callable[[Tensor], Run]


def prepared(tower: Tower, calibration: Tensor, names: Sequence[str]) -> list[Peer]:
    """Prepare those of the named peers that are installed; FP32 `tower`, pixels (n, 3, H, W) for those that calibrate.

    The reference is the first.
    """
    plain = rebuild(*describe(tower))
    return [PEERS[name](plain, calibration) for name in available(names)]


def theirs(peers: Sequence[Peer], classes: ClassEmbeddings) -> list[Contestant]:
    """Start peers, on as many threads as torch has."""
    return [Contestant(p.label, "", FULL_DEPTH, p.int8, _answering(p.start(), classes)) for p in peers]


def ours(folder: Path, costs: ExitCosts) -> list[Contestant]:
    """Load an exported folder into every engine that is installed, on as many threads as torch has: in all MODES."""
    found = []
    for name in installed():
        model = EarlyExitCLIP.load(folder, name)
        staying = replace(model.exits, thresholds=[np.inf] * len(model.exits.layers))
        runs = {
            FULL_DEPTH: _answering(model.engine.encode, model.classes),
            NOBODY_LEAVES: _stopping(replace(model, exits=staying), costs),
            EXITS: _stopping(model, costs),
        }
        covered = bool(model.manifest.network.activation_bits)
        found += [Contestant(f"ours, {name}, {mode}", name, mode, covered, run) for mode, run in runs.items()]
    return found


def _answering(embed: Callable[[Tensor], Tensor], classes: ClassEmbeddings) -> Callable[[Tensor], Run]:
    return lambda pixels: Run(classes.logits(embed(pixels)).argmax(-1).numpy())


def _stopping(model: EarlyExitCLIP, costs: ExitCosts) -> Callable[[Tensor], Run]:
    def run(pixels: Tensor) -> Run:
        routed = model.route(pixels)
        return Run(routed.answer, float(costs.leaving[routed.place].mean() / costs.full))

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
            for part in parts if contestant.mode == EXITS else parts[:2]:
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
        "contestant": contestant.label, "engine": contestant.engine, "mode": contestant.mode, "int8": contestant.int8,
        "seconds": seconds, "macs": run.macs, "answers": run.answers,
    }  # fmt: skip
