"""How long everything after extraction takes, and how it grows: scoring every exit, then sweeping thresholds.

    python benchmarks/sweep.py                               # the table: images x configurations
    python benchmarks/sweep.py --images 50000 --points 10    # one size: 10 thresholds at 4 exits

The sizes are those of CLIP ViT-B/32 on ImageNet (width 768, embedding 512, 1,000 classes, 4 exits); features, heads and
labels are random, since time does not depend on them. Every size runs in a process of its own, so that its peak memory
is its own. A configuration is one threshold an exit; each gets its accuracy, its rescue and loss against full depth,
and its compute, over all images.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

CLASSES, WIDTH, EMBEDDING, EXITS = 1_000, 768, 512, 4
CHUNK = 2_048
SIZES = [(images, 10) for images in (6_250, 12_500, 25_000, 50_000)] + [(50_000, points) for points in (3, 18, 27)]


def _chunks(images: int) -> Iterator[object]:
    """Yield random features as the feature store yields them."""
    import numpy as np

    from lraee.features.store import Features

    rng = np.random.default_rng(0)
    for start in range(0, images, CHUNK):
        n = min(CHUNK, images - start)
        vectors = rng.standard_normal((n, EXITS + 1, WIDTH), dtype=np.float32)
        final = rng.standard_normal((n, EMBEDDING), dtype=np.float32)
        sav = rng.random((n, EXITS + 1), dtype=np.float32)
        labels = rng.integers(0, CLASSES, n)
        yield Features(np.arange(start, start + n), labels, vectors, vectors, sav, final)


def measure(images: int, points: int) -> dict[str, float]:
    """Score and sweep once; return seconds, peak memory in MiB, and the number of configurations."""
    import numpy as np
    import torch

    from lraee.exits.heads import HeadKey, initial_heads
    from lraee.exits.score_table import FINAL, score_tables
    from lraee.exits.scores import Probes, Scorer, score_table
    from lraee.exits.thresholds import surface
    from lraee.exits.variants import BASE, Variant
    from lraee.metrics.compute import components, exit_costs
    from lraee.models.shape import TowerShape
    from lraee.models.tower import ClassEmbeddings

    torch.set_num_threads(os.cpu_count() or 1)
    layers = tuple(range(1, EXITS + 1))
    keys = [HeadKey(BASE, layer, "ssa", "distilled") for layer in layers]
    rows = torch.nn.functional.normalize(torch.randn(CLASSES, EMBEDDING), dim=1)
    classes = ClassEmbeddings(rows, torch.zeros(CLASSES), 100.0, cosine=True)
    probes = Probes(torch.zeros(EXITS, WIDTH), torch.zeros(EXITS, 1))
    scorer = Scorer(Variant(), initial_heads(keys, WIDTH, EMBEDDING, seed=0), probes, classes)

    began = time.perf_counter()
    table = score_tables(score_table([scorer.score(chunk, slice(None)) for chunk in _chunks(images)]))[BASE]
    scored = time.perf_counter()
    scores = table.at("ssa", "distilled", layers, FINAL)
    shape = TowerShape(depth=12, tokens=50, width=WIDTH, hidden=3072, patch=3072, embedding=EMBEDDING, projected=True)
    costs = exit_costs(components(shape, CLASSES, gate=0), (8, 9, 10, 11), shape.depth)
    grid = np.quantile(scores.confidence, np.linspace(0.02, 0.98, points)).astype(np.float64)
    readiness = scores.confidence.astype(np.float64)
    right = np.column_stack([scores.prediction, scores.final_prediction]) == scores.labels[:, None]
    accuracy = surface(readiness, right, costs.leaving, grid)
    rescue = surface(readiness, right & ~right[:, -1:], costs.leaving, grid).accuracy
    swept = time.perf_counter()
    loss = rescue - accuracy.accuracy + right[:, -1].mean()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "images": images, "configurations": accuracy.cost.size, "scoring_s": scored - began, "sweep_s": swept - scored,
        "peak_mib": peak, "mean_loss": float(loss.mean()),
    }  # fmt: skip


def main() -> None:
    """Measure one size, or every size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int)
    parser.add_argument("--points", type=int, default=10, help="thresholds tried at each exit")
    arguments = parser.parse_args()
    if arguments.images:
        print(json.dumps(measure(arguments.images, arguments.points)))
        return
    print("| images | configurations | scoring, s | sweep, s | peak memory, MiB |\n|---:|---:|---:|---:|---:|")
    for images, points in SIZES:
        command = [sys.executable, str(Path(__file__)), "--images", str(images), "--points", str(points)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        row = json.loads(done.stdout)
        print(
            f"| {row['images']:,} | {row['configurations']:,} | {row['scoring_s']:.1f} | {row['sweep_s']:.2f} "
            f"| {row['peak_mib']:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
