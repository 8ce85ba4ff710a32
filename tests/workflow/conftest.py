"""One real run of the workflow on a tiny experiment, shared by the session; tests that change something take a copy."""

import os
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

REPOSITORY = Path(__file__).parents[2]
NEEDED = ("Snakefile", "config.yaml", "workflow", "lraee", "profiles", "envs")

TINY: dict[str, Any] = {
    "experiment": "tiny",
    "seed": 3,
    "data": {
        "sources": {"shapes": {"source": "shapes", "picture_seed": 0}},
        "splits": {
            "quant": {"source": "shapes", "images": 144},
            "fit": {"source": "shapes", "images": 288},
            "gate": {"source": "shapes", "images": 144},
            "select": {"source": "shapes", "images": 144},
            "test": {"source": "shapes", "images": 144},
        },
    },
    "model": {
        "family": "open_clip", "name": "shapes-clip", "pretrained": "embedded", "templates": ["a photo of a {}"],
    },
    "batch": 16,
    "quantizers": {
        "w4a4": {
            "scheme": "uniform",
            "weights": {"bits": 4, "granularity": "channel"},
            "activations": {"bits": 4, "range": "static", "observer": "min-max"},
        },
        "dyn": {"scheme": "dynamic-int8", "reading": "all_linears"},
    },
    "features": {"shard": 144},  # two shards of fit, one of each other split
    "noise": {"images": 32, "kappa": 0.5},
    "exits": {
        "candidates": [9, 11],
        "heads": {"aggregations": ["ssa", "cls"], "supervisions": ["distilled", "label-free"], "epochs": 1},
        "thresholds": {"low": 0.2, "high": 0.9, "points": 5},
        "headline": {
            "policy": "learned-gate", "aggregation": "ssa", "supervision": "distilled",
            "threshold_rule": "layer-adaptive", "budget": 0.05,
        },
        "seeds": 2,
        "grids": [
            {
                "policies": ["learned-gate", "patience", "learned-scalar"], "aggregations": ["ssa"],
                "supervisions": ["distilled"], "threshold_rules": ["layer-adaptive"], "budgets": [0.0, 0.05],
            }
        ],
        "risk": {"rules": ["risk-disagreement"], "policies": ["confidence"], "levels": [0.1]},
        "ablations": {"policies": ["margin"], "aggregations": ["cls"], "layers": ["each"]},
        "sensitivity": {"kappas": [0.0], "temperatures": [2.0], "fit_images": [144]},
    },
    "exports": ["w4a4"],
}  # fmt: skip


class Checkout:
    """A copy of the repository in which the workflow runs as a user runs it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def results(self) -> Path:
        return self.root / "results" / "tiny"

    def configure(self, config: dict[str, Any]) -> None:
        (self.root / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]

    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1"}

    def run(self, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), cwd=self.root, env=environment or self.environment(), text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def planned(self, *arguments: str) -> set[str]:
        """Every job that a dry run would do, as "rule" or "rule:wildcards" in the order of the rule."""
        done = self.run("--dry-run", *arguments)
        assert done.returncode == 0, done.stdout
        jobs, rule = set(), ""
        for line in done.stdout.splitlines():
            if line.startswith(("rule ", "localrule ")):
                rule = line.split()[1].rstrip(":")
                jobs.add(rule)
            elif line.startswith("    wildcards: "):
                jobs.discard(rule)
                values = [pair.split("=", 1)[1] for pair in line.split(": ", 1)[1].split(", ")]
                jobs.add(":".join([rule, *values]))
        return jobs - {"all"}


@pytest.fixture
def tiny() -> dict[str, Any]:
    """The tiny experiment's configuration, to change at will."""
    return deepcopy(TINY)


@pytest.fixture
def fresh(tmp_path) -> Checkout:
    """A checkout in which nothing has run."""
    return copy_of_repository(tmp_path / "repository")


def copy_of_repository(root: Path) -> Checkout:
    root.mkdir()
    for name in NEEDED:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(REPOSITORY / name, root / name)
    return Checkout(root)


@pytest.fixture(scope="session")
def kept(tmp_path_factory) -> Path:
    """The tiny experiment, run to the end: once for all workers of pytest, whichever needs it first."""
    worker = tmp_path_factory.getbasetemp()
    shared = worker.parent if "PYTEST_XDIST_WORKER" in os.environ else worker
    with FileLock(shared / "kept.lock"):
        if not (shared / "kept").exists():
            checkout = copy_of_repository(shared / "running")
            checkout.configure(TINY)
            done = checkout.run()
            assert done.returncode == 0, done.stdout[-8000:]
            checkout.root.rename(shared / "kept")
    return shared / "kept"


@pytest.fixture
def unbroken(kept) -> Checkout:
    """What the run left; never to be changed."""
    return Checkout(kept)


@pytest.fixture
def finished(kept, tmp_path) -> Checkout:
    """The finished run in its own place, to change at will."""
    shutil.copytree(kept, tmp_path / "finished")
    return Checkout(tmp_path / "finished")
