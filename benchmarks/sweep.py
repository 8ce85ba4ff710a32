"""How long everything after extraction takes, and how it grows: scoring every exit, then sweeping thresholds.

    python benchmarks/sweep.py                     # the table: images x configurations
    python benchmarks/sweep.py --images 50000      # one row, as JSON

The sizes are those of CLIP ViT-B/32 on ImageNet (width 768, embedding 512, 1,000 classes, 4 exits); features, heads and
labels are random, since time does not depend on them. Every number of images runs in a process of its own, so that its
peak memory is its own. A configuration is one threshold an exit: t thresholds at 4 exits make t^4. Each gets its
accuracy, rescue, loss and compute over all images.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

CLASSES, WIDTH, EMBEDDING, EXITS = 1_000, 768, 512, 4
CHUNK = 2_048
IMAGES = (6_250, 12_500, 25_000, 50_000)
THRESHOLDS = (3, 10, 18, 27)


def _chunks(images: int) -> Iterator[object]:
    """Yield random features as the feature store yields them."""
    import numpy as np

    from lraee.features.store import Features

    rng = np.random.default_rng(0)
    for start in range(0, images, CHUNK):
        n = min(CHUNK, images - start)
        vectors = rng.standard_normal((n, EXITS + 1, WIDTH), dtype=np.float32).astype(np.float16)
        final = rng.standard_normal((n, EMBEDDING), dtype=np.float32)
        sav = rng.random((n, EXITS + 1), dtype=np.float32)
        labels = rng.integers(0, CLASSES, n)
        layers = tuple(range(1, EXITS + 2))
        yield Features(layers, np.arange(start, start + n), labels, vectors, vectors, sav, final)


def measure(images: int) -> dict[str, float]:
    """Score once and sweep every number of configurations; return seconds and the peak memory in MiB."""
    import numpy as np
    import torch

    from lraee.exits.head_plan import HeadKey
    from lraee.exits.heads import initial_heads
    from lraee.exits.score_table import FINAL, score_tables
    from lraee.exits.scores import Scorer, score_table
    from lraee.exits.signals import Probes
    from lraee.exits.thresholds import surface
    from lraee.exits.variants import BASE, Variant
    from lraee.metrics.compute import components, exit_costs
    from lraee.models.shape import TowerShape
    from lraee.models.tower import ClassEmbeddings
    from lraee.process import peak_mib

    torch.set_num_threads(os.cpu_count() or 1)
    layers = tuple(range(1, EXITS + 1))
    keys = [HeadKey(BASE, layer, "ssa", "distilled") for layer in layers]
    rows = torch.nn.functional.normalize(torch.randn(CLASSES, EMBEDDING), dim=1)
    classes = ClassEmbeddings(rows, torch.zeros(CLASSES), 100.0, cosine=True)
    probes = Probes(torch.zeros(EXITS, WIDTH), torch.zeros(EXITS, 1))
    scorer = Scorer(Variant(), initial_heads(keys, WIDTH, EMBEDDING, seed=0), probes, classes)

    began = time.perf_counter()
    table = score_tables(score_table([scorer.score(chunk) for chunk in _chunks(images)]))[BASE]
    scored = time.perf_counter()
    scores = table.at("ssa", "distilled", layers, FINAL)
    shape = TowerShape(depth=12, tokens=50, width=WIDTH, hidden=3072, patch=3072, embedding=EMBEDDING, projected=True)
    costs = exit_costs(components(shape, CLASSES, gate=0), (8, 9, 10, 11))
    readiness = scores.confidence.astype(np.float64)
    right = np.column_stack([scores.prediction, scores.final_prediction]) == scores.labels[:, None]
    seconds = {"images": images, "scoring": scored - began}
    for thresholds in THRESHOLDS:
        grid = np.quantile(readiness, np.linspace(0.02, 0.98, thresholds))
        swept = time.perf_counter()
        accuracy = surface(readiness, right, costs.leaving, grid)
        rescue = surface(readiness, right & ~right[:, -1:], costs.leaving, grid).accuracy
        loss = rescue - accuracy.accuracy + right[:, -1].mean()
        seconds[f"{loss.size}"] = time.perf_counter() - swept
    return seconds | {"peak": peak_mib()}


def main() -> None:
    """Measure one number of images, or each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int)
    arguments = parser.parse_args()
    if arguments.images:
        print(json.dumps(measure(arguments.images)))
        return
    sizes = [thresholds**EXITS for thresholds in THRESHOLDS]
    heads = " | ".join(f"sweep of {size:,}, s" for size in sizes)
    print(f"| images | scoring, s | {heads} | peak memory, MiB |\n|---:|---:|{'---:|' * len(sizes)}---:|")
    for images in IMAGES:
        command = [sys.executable, str(Path(__file__)), "--images", str(images)]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        sweeps = " | ".join(f"{row[str(size)]:.3f}" for size in sizes)
        print(f"| {images:,} | {row['scoring']:.1f} | {sweeps} | {row['peak']:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
