"""Peak memory of everything after extraction against the number of images: heads, scores, policies and evaluation.

    python benchmarks/memory.py                    # the table: 1x, 4x and 16x
    python benchmarks/memory.py --images 50000     # one row, as JSON

The experiment is the preset of CLIP ViT-B/32 on ImageNet (12 layers, width 768, 1,000 classes, five seeds) with random
features: N images of `fit` and N of `test`, and of `gate` and `select` N or the preset's 5,000. Memory does not depend
on how many of the images a head learns from, so that one in twenty is enough here. Every stage runs in a process of its
own, as it does in the workflow.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PRESET = ROOT / "workflow" / "presets" / "imagenet-vit-b-32.yaml"
IMAGES = (3_125, 12_500, 50_000)
SPLITS = ("fit", "gate", "select", "test")
WIDTH, EMBEDDING, CLASSES, DEPTH = 768, 512, 1_000, 12


def _config(images: int) -> Any:
    from lraee.config import load_config

    raw = yaml.safe_load(PRESET.read_text(encoding="utf-8"))
    splits = raw["data"]["splits"]
    for split in SPLITS:
        splits[split]["images"] = images if split in ("fit", "test") else min(images, splits[split]["images"])
    raw["exits"]["heads"]["epochs"] = 1
    raw["exits"]["sensitivity"]["fit_images"] = [images]
    return load_config(raw)


def _shards(folder: Path, split: str, config: Any) -> list[Any]:
    from lraee.features.store import Shard

    files = -(-config.data.splits[split].images // config.features.shard)
    return [Shard(folder / split / f"{n:03d}.parquet", f"{split} {n}") for n in range(files)]


def write_store(folder: Path, images: int) -> float:
    """Write random features of every split; return their size in GB."""
    import numpy as np
    import torch

    from lraee.features.extract import LayerFeatures
    from lraee.features.store import Row, write_features

    config, rng = _config(images), np.random.default_rng(0)

    def rows(first: int, last: int) -> Any:
        for start in range(first, last, config.batch):
            samples = range(start, min(start + config.batch, last))
            shape = (len(samples), DEPTH, WIDTH)
            states = [torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)).half() for _ in range(2)]
            sav, final = torch.rand(shape[:2]), torch.from_numpy(rng.standard_normal((len(samples), EMBEDDING)))
            yield Row(list(samples), [s % CLASSES for s in samples], LayerFeatures(*states, sav, final.float()))

    for split in SPLITS:
        for n, shard in enumerate(_shards(folder, split, config)):
            last = min((n + 1) * config.features.shard, config.data.splits[split].images)
            write_features(shard.path, rows(n * config.features.shard, last), shard.identity, [])
    return sum(path.stat().st_size for path in folder.rglob("*.parquet")) / 1e9


def _pool(folder: Path, images: int) -> Any:
    from lraee.exits.development import open_development
    from lraee.exits.variants import DEVELOPMENT

    shards = {split: _shards(folder, split, _config(images)) for split in DEVELOPMENT}
    return open_development(shards, shards, dict.fromkeys(DEVELOPMENT, "train"))


def _classes() -> Any:
    import torch

    from lraee.models.tower import ClassEmbeddings

    rows = torch.nn.functional.normalize(torch.randn(CLASSES, EMBEDDING, generator=torch.Generator().manual_seed(0)))
    return ClassEmbeddings(rows, torch.zeros(CLASSES), 100.0, cosine=True)


def _plan(config: Any) -> Any:
    from lraee.exits.head_plan import HeadPlan

    head = config.exits.headline
    return HeadPlan(candidates=config.exits.candidates, depth=DEPTH,
                    aggregation=head.aggregation, supervision=head.supervision)  # fmt: skip


def fit(folder: Path, images: int) -> None:
    """Train the heads of every variant on some of the images, reading all."""
    from lraee.exits.checkpoint import Checkpoint
    from lraee.exits.heads import fit_variant, stacked, write_heads

    config, pool, fitted = _config(images), _pool(folder, images), []
    settings, checkpoint = config.exits.heads, Checkpoint(folder / "running.safetensors")
    for variant in config.exits.variants(images):
        if variant.fitted:
            some, keys = variant.model_copy(update={"images": images // 20}), _plan(config).keys(settings, variant.name)
            fitted.append(fit_variant(some, keys, pool, _classes(), settings, config.seed, checkpoint))
    write_heads(folder / "heads.safetensors", stacked(fitted))


def score(folder: Path, images: int) -> None:
    """Score every exit of every variant on gate, select and test."""
    from lraee.exits.heads import read_heads
    from lraee.exits.scores import score_table, score_variant
    from lraee.exits.variants import BASE
    from lraee.io import write_table

    config, pool = _config(images), _pool(folder, images)
    heads, tables = read_heads(folder / "heads.safetensors"), []
    for variant in config.exits.variants(images):
        keys = _plan(config).keys(config.exits.heads, variant.name)
        own = heads.only([key if variant.fitted else key._replace(variant=BASE) for key in keys])
        tables.append(score_variant(variant, own, pool, _shards(folder, "test", config), _classes())[1])
    for split in ("gate", "select", "test"):
        write_table(folder / f"{split}.parquet", score_table([table[split] for table in tables]))


def _scores(folder: Path, *splits: str) -> list[Any]:
    from lraee.exits.score_table import score_tables
    from lraee.io import read_table

    return [score_tables(read_table(folder / f"{split}.parquet")) for split in splits]


def _shape() -> Any:
    from lraee.models.shape import TowerShape

    return TowerShape(
        depth=DEPTH, tokens=50, width=WIDTH, hidden=4 * WIDTH, patch=3072, embedding=EMBEDDING, projected=True
    )


def policies(folder: Path, images: int) -> None:
    """Fit every configuration in both arms, which have the same scores here."""
    import pandas as pd

    from lraee.evaluation.run import Run, fit_both_arms
    from lraee.io import write_json

    config = _config(images)
    noise = pd.DataFrame({"tokens": "all", "layer": range(1, DEPTH + 1), "inr": 1.0})
    run = Run(config.exits, images, noise, config.noise.kappa, _shape(), CLASSES)
    gate, select, fp32_gate, fp32_select = _scores(folder, "gate", "select", "gate", "select")
    scores = {"gate": gate, "select": select, "fp32_gate": fp32_gate, "fp32_select": fp32_select}
    write_json(folder / "policies.json", fit_both_arms(scores, "quantized", run).model_dump(mode="json"))


def evaluate(folder: Path, images: int) -> None:
    """Evaluate every configuration on test, in both arms."""
    from lraee.evaluation.run import FittedArms, evaluate_both_arms
    from lraee.io import read_json
    from lraee.metrics.compute import FLOAT_BITS, whole_tower

    fitted = FittedArms.model_validate(read_json(folder / "policies.json"))
    names = [f"class {number}" for number in range(CLASSES)]
    evaluate_both_arms(fitted, *_scores(folder, "test", "test"), whole_tower(_shape(), FLOAT_BITS), names, seed=0)


STAGES: dict[str, Callable[[Path, int], None]] = {
    "heads": fit,
    "scores": score,
    "policies": policies,
    "evaluation": evaluate,
}


def measure(images: int) -> dict[str, float]:
    """Run every stage in a process of its own; return the peak memory of each in MiB, and the store's size in GB."""
    with tempfile.TemporaryDirectory() as folder:
        measured = {"images": images, "store": write_store(Path(folder), images)}
        for stage in STAGES:
            command = [sys.executable, __file__, "--images", str(images), "--stage", stage, "--folder", folder]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            measured[stage] = float(done.stdout)
    return measured


def main() -> None:
    """Measure one stage, one number of images, or every number."""
    from lraee.process import peak_mib

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        STAGES[arguments.stage](arguments.folder, arguments.images)
        print(peak_mib())
    elif arguments.images:
        print(json.dumps(measure(arguments.images)))
    else:
        print(f"| images of fit and of test | features, GB | {' | '.join(f'{stage}, MiB' for stage in STAGES)} |")
        print(f"|---:|---:|{'---:|' * len(STAGES)}")
        for images in IMAGES:
            row = measure(images)
            peaks = " | ".join(f"{row[stage]:,.0f}" for stage in STAGES)
            print(f"| {images:,} | {row['store']:.2f} | {peaks} |", flush=True)


if __name__ == "__main__":
    main()
