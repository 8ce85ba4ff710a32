import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SWEEP = runpy.run_path(str(BENCHMARKS / "sweep.py"))
EXTRACTION = runpy.run_path(str(BENCHMARKS / "extraction.py"))


def test_the_sweep_benchmark_runs_and_says_what_it_measured():
    measured = SWEEP["measure"](30)
    assert measured["images"] == 30
    assert {"81", "10000", "104976", "531441"} < set(measured)
    assert all(value > 0 for value in measured.values())


def test_the_extraction_benchmark_measures_every_precision_and_names_its_kernels(clip):
    rows = {row["precision"]: row for row in EXTRACTION["measure"](clip.name, 4, 2, 1)}
    assert tuple(rows) == EXTRACTION["PRECISIONS"]
    loop = rows[EXTRACTION["LOOP"]]
    assert (loop["cpu_ratio"], loop["wall_ratio"]) == (1.0, 1.0)
    assert all(row["cpu_ms"] > 0 and row["wall_ms"] > 0 for row in rows.values())
    assert rows["8-bit dynamic"]["kernels"] in ("16 OneDnnProduct", "16 FloatProduct")
    assert rows["FP32"]["kernels"] in ("16 Linear", "16 PackedLinear")


def test_the_extraction_benchmark_reads_pictures(clip):
    measured = EXTRACTION["from_jpeg"](clip.name, 5, 2, 1)
    assert measured["ratio"] == measured["overlapped"] / max(measured["decoding"], measured["computing"])
    assert measured["kib"] > 10


def test_the_extraction_benchmark_measures_memory(clip):
    assert EXTRACTION["peak"](clip.name, "W4A4 static", 2, 2) > 50


def test_medians_leave_the_warming_up_out(monkeypatch):
    seconds = iter([9.0, 1.0, 5.0, 2.0])
    clock = 0.0

    def run():
        nonlocal clock
        clock += next(seconds)

    fake = SimpleNamespace(process_time=lambda: clock, perf_counter=lambda: 2 * clock)
    monkeypatch.setitem(EXTRACTION["clocked"].__globals__, "time", fake)
    assert EXTRACTION["clocked"]({"one": run}, 3) == {"one": pytest.approx((2.0, 4.0))}
