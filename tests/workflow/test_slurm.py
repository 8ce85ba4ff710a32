"""The workflow on a SLURM cluster of one node: the numbers of a local run, and what a cancelled job does to it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.workflow.conftest import Checkout, copy_of_repository
from tests.workflow.slurm import Cluster, missing, one_node_cluster, processes_of, wait_for

PLUGIN = "snakemake_executor_plugin_slurm"


class SlurmCheckout(Checkout):
    """A checkout in which every job goes through sbatch."""

    def __init__(self, root: Path, cluster: Cluster) -> None:
        super().__init__(root)
        self.cluster = cluster

    def command(self, *arguments: str) -> list[str]:
        often = ("--slurm-init-seconds-before-status-checks", "2")
        return [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", *often, *arguments]

    def environment(self) -> dict[str, str]:
        return super().environment() | self.cluster.environment


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """One cluster for all tests of this file."""
    if reason := missing():
        pytest.skip(reason)
    pytest.importorskip(PLUGIN)
    with one_node_cluster(tmp_path_factory.mktemp("slurm") / "node") as cluster:
        yield cluster


def jobs(cluster: Cluster) -> list[dict[str, str]]:
    """Everything that was ever submitted: its rule and wildcards, state, memory in MB, CPUs and time limit."""
    names = ("id", "what", "state", "memory", "cpus", "limit")
    lines = cluster.ask("squeue", "--noheader", "--states=all", "--format=%i|%k|%T|%m|%c|%l").splitlines()
    return [dict(zip(names, line.split("|"), strict=True)) for line in lines]


# The local run that it is compared with may be made within this test.
@pytest.mark.timeout(2400)
def test_a_run_through_sbatch_gives_the_bytes_of_a_local_run(cluster, tmp_path, tiny, unbroken):
    checkout = SlurmCheckout(copy_of_repository(tmp_path / "repository").root, cluster)
    del tiny["quantizers"]["dyn"]  # one quantizer takes every rule through the cluster
    checkout.configure(tiny)
    done = checkout.run()
    assert done.returncode == 0, done.stdout[-8000:]

    submitted = jobs(cluster)
    assert {job["state"] for job in submitted} == {"COMPLETED"}
    logs = list((checkout.results / "logs").rglob("*.log"))
    assert {path.relative_to(checkout.results).parts[1] for path in logs} == {
        path.relative_to(unbroken.results).parts[1] for path in (unbroken.results / "logs").rglob("*.log")
    }
    assert len(submitted) == len(logs)
    extraction = next(job for job in submitted if job["what"] == "rule_extract_features_wildcards_w4a4_test_000")
    assert (extraction["memory"], extraction["cpus"], extraction["limit"]) == ("3000M", "1", "4:00:00")

    # Folders of jobs that still wait in another run are as empty as these: a run that ends must leave them.
    assert (checkout.root / ".snakemake/slurm_logs/rule_report").is_dir()

    own = [f"features/{precision}/*/*.parquet" for precision in ("fp32", "w4a4")]
    for kind in (*own, "heads/w4a4.*", "policies/w4a4.*", "evaluation/w4a4/*.parquet"):
        expected = sorted(unbroken.results.glob(kind))
        assert expected
        for path in expected:
            name = path.relative_to(unbroken.results)
            assert (checkout.results / name).read_bytes() == path.read_bytes(), name
    assert (checkout.root / "reports/tiny/report.html").exists()


def test_a_cancelled_job_is_named_and_a_second_run_completes(cluster, finished, unbroken):
    name = "features/w4a4/test/000.parquet"
    checkout = SlurmCheckout(finished.root, cluster)
    (checkout.results / name).unlink()
    before = {job["id"] for job in jobs(cluster)}
    arguments = (f"results/tiny/{name}", "--retries", "0")
    log = checkout.root / "cancelled.log"
    with log.open("w", encoding="utf-8") as output:
        run = subprocess.Popen(
            checkout.command(*arguments), cwd=checkout.root, env=checkout.environment(), stdout=output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        running: list[str] = []

        def started() -> bool:
            assert run.poll() is None, log.read_text(encoding="utf-8")
            running[:] = [j["id"] for j in jobs(cluster) if j["id"] not in before and j["state"] == "RUNNING"]
            return bool(running)

        wait_for("no job runs", started)
        cluster.ask("scancel", running[0])
        assert run.wait(timeout=180) == 1
    text = log.read_text(encoding="utf-8")
    assert "Error in rule extract_features" in text
    assert f"SLURM-job '{running[0]}' failed, SLURM status is: 'CANCELLED'" in text
    assert not (checkout.results / name).exists()

    done = checkout.run(*arguments)
    assert done.returncode == 0, done.stdout[-8000:]
    assert (checkout.results / name).read_bytes() == (unbroken.results / name).read_bytes()


def test_the_profile_plans_without_slurm(fresh, tiny):
    pytest.importorskip(PLUGIN)
    fresh.configure(tiny)
    tools = fresh.root / "bin"
    tools.mkdir()
    for name in ("which", "sh", "git"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    environment = fresh.environment() | {"PATH": str(tools)}
    done = fresh.run("--profile", "profiles/slurm", "--dry-run", environment=environment)
    assert done.returncode == 0, done.stdout
    assert "runtime=480" in done.stdout
    assert "runtime=120" in done.stdout


def services() -> set[str]:
    """What SLURM and munge keep in the system's own folder."""
    return {path.name for path in Path("/run").iterdir() if "slurm" in path.name or "munge" in path.name}


def test_a_stopped_cluster_leaves_no_process(tmp_path):
    if reason := missing():
        pytest.skip(reason)
    before = services()
    with one_node_cluster(tmp_path / "node") as cluster:
        cluster.ask("sbatch", f"--chdir={tmp_path}", "--mem=100", "--wrap=srun --ntasks=1 sleep 600")
        wait_for("the job does not run", lambda: [job["state"] for job in jobs(cluster)] == ["RUNNING"])
        time.sleep(1)  # for the step within the job
        assert len(processes_of(tmp_path)) > 3
    assert processes_of(tmp_path) == []
    assert services() == before
