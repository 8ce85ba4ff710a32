import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EXTRACTION = load("extraction")


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


def test_the_pipeline_benchmark_sums_up_the_jobs_of_each_rule(tmp_path):
    header = "s\th:m:s\tmax_rss\tcpu_time\n"
    for name, seconds, cpu in (("heads/fp32", 4.0, 3.0), ("heads/w4a4", 6.5, 5.0), ("report", 2.0, 1.5)):
        path = tmp_path / "benchmarks" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{header}{seconds}\t0:00:00\t{100 * seconds}\t{cpu}\n", encoding="utf-8")
    assert load("pipeline").by_rule(tmp_path).to_dict("records") == [
        {"rule": "heads", "jobs": 2, "wall_s": 10.5, "longest_s": 6.5, "cpu_s": 8.0, "mib": 650.0},
        {"rule": "report", "jobs": 1, "wall_s": 2.0, "longest_s": 2.0, "cpu_s": 1.5, "mib": 200.0},
    ]


def test_the_pipeline_benchmark_says_where_it_looked_in_vain(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no benchmark file: run the workflow first"):
        load("pipeline").by_rule(tmp_path)


@pytest.mark.parametrize("name", ["sweep", "memory", "extraction", "pipeline"])
def test_a_benchmark_says_what_it_measures(name):
    assert "python benchmarks/" in (load(name).__doc__ or "")


def test_the_extraction_benchmark_measures_every_precision_and_names_its_kernels(clip):
    rows = {row["precision"]: row for row in EXTRACTION.measure(clip.name, 4, 2, 1)}
    assert tuple(rows) == EXTRACTION.PRECISIONS
    loop = rows[EXTRACTION.LOOP]
    assert (loop["cpu_ratio"], loop["wall_ratio"]) == (1.0, 1.0)
    assert all(row["cpu_ms"] > 0 and row["wall_ms"] > 0 for row in rows.values())
    assert rows["8-bit dynamic"]["kernels"] in ("16 OneDnnProduct", "16 FloatProduct")
    assert rows["FP32"]["kernels"] in ("16 Linear", "16 PackedLinear")


def test_the_extraction_benchmark_reads_pictures(clip):
    measured = EXTRACTION.from_jpeg(clip.name, 5, 2, 1)
    assert measured["ratio"] == measured["overlapped"] / max(measured["decoding"], measured["computing"])
    assert measured["kib"] > 10


def test_the_extraction_benchmark_measures_memory(clip):
    assert EXTRACTION.peak(clip.name, "W4A4 static", 2, 2) > 50


def test_medians_leave_the_warming_up_out(monkeypatch):
    seconds = iter([9.0, 1.0, 5.0, 2.0])
    clock = 0.0

    def run():
        nonlocal clock
        clock += next(seconds)

    fake = SimpleNamespace(process_time=lambda: clock, perf_counter=lambda: 2 * clock)
    monkeypatch.setattr(EXTRACTION, "time", fake)
    assert EXTRACTION.clocked({"one": run}, 3) == {"one": pytest.approx((2.0, 4.0))}
