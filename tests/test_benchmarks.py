import runpy
from pathlib import Path

SWEEP = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "sweep.py"))


def test_the_sweep_benchmark_runs_and_says_what_it_measured():
    measured = SWEEP["measure"](30)
    assert measured["images"] == 30
    assert {"81", "10000", "104976", "531441"} < set(measured)
    assert all(value > 0 for value in measured.values())
