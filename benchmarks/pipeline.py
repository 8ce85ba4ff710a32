"""Where a run's time goes, rule by rule, from the benchmark files that Snakemake writes beside the results.

    python benchmarks/pipeline.py                    # the last run of config.yaml, in results/shapes
    python benchmarks/pipeline.py results/other      # another experiment
    python benchmarks/pipeline.py --fresh            # run config.yaml anew first, in a folder of its own, on all cores

Wall and CPU seconds are sums over a rule's jobs. Snakemake samples CPU time every few seconds, so that short jobs, and
the ends of long ones, count for less than they took.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]


def by_rule(results: Path) -> pd.DataFrame:
    """Sum up a run's benchmark files: one row per rule, the longest first; FileNotFoundError where there are none."""
    folder = results / "benchmarks"
    files = sorted(folder.rglob("*.tsv"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no benchmark file: run the workflow first, or give --fresh")
    jobs = pd.concat(
        [
            pd.read_csv(path, sep="\t").assign(rule=path.relative_to(folder).parts[0].removesuffix(".tsv"))
            for path in files
        ]
    )
    table = jobs.groupby("rule").agg(
        jobs=("s", "size"),
        wall_s=("s", "sum"),
        longest_s=("s", "max"),
        cpu_s=("cpu_time", "sum"),
        mib=("max_rss", "max"),
    )
    return table.sort_values("wall_s", ascending=False).round(1).reset_index()


def run_anew(folder: Path) -> float:
    """Run config.yaml from nothing in a folder; return the wall seconds."""
    start = time.monotonic()
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--configfile", ROOT / "config.yaml", "--cores", str(os.cpu_count()), "--quiet"]
    subprocess.run(command, check=True, cwd=ROOT)
    return time.monotonic() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=ROOT / "results" / "shapes")
    parser.add_argument("--fresh", action="store_true", help="run config.yaml anew in a folder of its own first")
    given = parser.parse_args()
    if not given.fresh:
        print(by_rule(given.results).to_string(index=False))
        return
    with tempfile.TemporaryDirectory() as folder:
        seconds = run_anew(Path(folder))
        print(by_rule(Path(folder) / "results" / "shapes").to_string(index=False))
    print(f"{seconds:.0f} s from start to end on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
