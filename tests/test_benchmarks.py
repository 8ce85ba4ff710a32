import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_sweep_benchmark_runs_and_says_what_it_measured():
    measured = load("sweep").measure(30)
    assert measured["images"] == 30
    assert {"81", "10000", "104976", "531441"} < set(measured)
    assert all(value > 0 for value in measured.values())


def test_every_stage_of_the_memory_benchmark_runs(tmp_path, monkeypatch):
    memory = load("memory")
    for name, value in {"WIDTH": 8, "EMBEDDING": 6, "CLASSES": 5}.items():
        monkeypatch.setattr(memory, name, value)
    assert 0 < memory.write_store(tmp_path, 60) < 0.1
    for stage in memory.STAGES.values():
        stage(tmp_path, 60)
    assert {"heads.safetensors", "test.parquet", "policies.json"} < {path.name for path in tmp_path.iterdir()}


def test_the_memory_benchmark_needs_no_more_images_than_it_is_given():
    splits = load("memory")._config(70).data.splits
    assert {split: splits[split].images for split in ("fit", "gate", "select", "test")} == {
        "fit": 70, "gate": 70, "select": 70, "test": 70,
    }  # fmt: skip
    assert load("memory")._config(50_000).data.splits["gate"].images == 5_000


@pytest.mark.parametrize("name", ["sweep", "memory"])
def test_a_benchmark_says_what_it_measures(name):
    assert "python benchmarks/" in (load(name).__doc__ or "")
