"""What kills, full disks, unwritable folders and other runs do to the workflow: a clear message, and nothing wrong."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress

import numpy as np
import pytest

from lraee.io import read_table
from tests.workflow.test_run import digests

KILLS = 4
FEATURES = "results/tiny/features/w4a4/fit/001.parquet"


def forget_a_quantizer(checkout):
    """Remove all that belongs to one quantizer, and everything that was made of it."""
    for name in ("features/w4a4", "scores/w4a4", "evaluation/w4a4", "tables"):
        shutil.rmtree(checkout.results / name)
    for name in ("heads/w4a4.safetensors", "policies/w4a4.json", "noise/w4a4.parquet", "quantizers/w4a4.safetensors"):
        (checkout.results / name).unlink()
    shutil.rmtree(checkout.root / "reports")


def start(checkout, log, *arguments):
    return subprocess.Popen(
        checkout.command(*arguments), cwd=checkout.root, env=checkout.environment(), start_new_session=True,
        stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip


def kill(run):
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()


@pytest.mark.timeout(1800)
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(finished, unbroken, tmp_path):
    """Every other kill hits Snakemake alone: its jobs go on, beside those of the next run that make the same files."""
    forget_a_quantizer(finished)
    moments, running, runs = np.random.default_rng(0).uniform(3.0, 12.0, KILLS), 0, []
    try:
        with (tmp_path / "killed.log").open("wb") as log:
            for number, moment in enumerate(moments):
                runs.append(start(finished, log, "--rerun-incomplete"))
                time.sleep(moment)
                running += runs[-1].poll() is None
                if number % 2:
                    runs[-1].kill()
                    runs[-1].wait()
                else:
                    kill(runs[-1])
                assert finished.run("--unlock").returncode == 0
        assert running >= KILLS / 2, "most kills came after the end: they show nothing"
        done = finished.run("--rerun-incomplete")
        assert done.returncode == 0, done.stdout[-8000:]
    finally:
        for run in runs:
            with suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
    assert digests(finished) == digests(unbroken)
    assert not list((finished.results / "checkpoints/heads").glob("*"))


def test_two_runs_at_once_are_refused_and_the_first_goes_on(finished, tmp_path):
    forget_a_quantizer(finished)
    with (tmp_path / "first.log").open("wb") as log:
        first = start(finished, log)
        patience = time.monotonic() + 120
        while not list((finished.root / ".snakemake/locks").glob("*")):
            assert first.poll() is None
            assert time.monotonic() < patience
            time.sleep(0.05)
        second = finished.run()
        kill(first)
    assert second.returncode != 0
    assert "Directory cannot be locked" in second.stdout
    assert first.returncode == -signal.SIGKILL, "the first run ended before its time"


@pytest.fixture
def disk(finished, tmp_path):
    """The results of a finished run on a disk of their own, which can be filled or made read-only."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", place], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("a disk of one's own can be mounted by root alone")
    try:
        shutil.copytree(finished.root / "results", place / "results")
        shutil.rmtree(finished.root / "results")
        (finished.root / "results").symlink_to(place / "results")
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def remount(place, options):
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


def test_a_full_disk_is_named_and_leaves_nothing_that_looks_finished(finished, unbroken, disk):
    kept = {path.relative_to(finished.results) for path in finished.results.rglob("*.parquet")}
    (finished.root / FEATURES).unlink()
    used = shutil.disk_usage(disk).used
    remount(disk, f"size={used + 100_000}")
    done = finished.run(FEATURES)
    assert done.returncode != 0
    assert "extract_features: [Errno 28]" in done.stdout
    assert "No space left on device" in done.stdout
    left = {path.relative_to(finished.results) for path in finished.results.rglob("[!.]*.parquet")}
    assert kept - left == {(finished.root / FEATURES).relative_to(finished.results)}
    for path in left:
        read_table(finished.results / path)
    remount(disk, "size=100m")
    done = finished.run(FEATURES, "--rerun-incomplete")
    assert done.returncode == 0, done.stdout[-8000:]
    assert (finished.root / FEATURES).read_bytes() == (unbroken.root / FEATURES).read_bytes()


def test_results_that_cannot_be_written_are_refused_before_any_job(finished, disk):
    (finished.root / FEATURES).unlink()
    remount(disk, "ro")
    done = finished.run(FEATURES)
    assert done.returncode != 0
    assert "results/tiny cannot be written" in done.stdout
    assert "Traceback" not in done.stdout
