"""A SLURM cluster of one node for the tests, from the system's munge and SLURM.

Everything lies in one folder (configuration, key, socket, spool, logs), the ports are free ones, and no service
manager, control group or accounting database is needed.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "squeue", "sinfo", "scontrol", "setpriv")
SYSTEM = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))

# Nothing here needs control groups; jobs are remembered long enough to ask squeue how they ended.
CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MinJobAge=36000
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=UNLIMITED State=UP
"""


class Cluster:
    """A running cluster: the environment in which its commands work."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": os.pathsep.join((str(folder / "bin"), SYSTEM)),
        }

    def ask(self, *command: str) -> str:
        """Run one of SLURM's commands and return what it prints."""
        return subprocess.run(
            command, env=os.environ | self.environment, text=True, check=True, stdout=subprocess.PIPE, timeout=60
        ).stdout  # fmt: skip


def missing() -> str:
    """Say what keeps the cluster from being started here; empty where nothing does."""
    if os.geteuid() != 0:
        return "SLURM's daemons are started by root only"
    lacking = [name for name in PROGRAMS if shutil.which(name, path=SYSTEM) is None]
    return f"not installed: {', '.join(lacking)} (Debian: slurmctld, slurmd, slurm-client, munge)" if lacking else ""


def free_ports(count: int) -> list[int]:
    """Return different ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_for(what: str, ready: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until `ready` says so; AssertionError names what did not come."""
    patience = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < patience, f"{what} after {seconds} s"
        time.sleep(0.1)


def processes_of(folder: Path) -> list[int]:
    """Return the processes whose command line or environment names the folder: daemons, jobs, and who submits them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or belongs to the kernel
            if any(bytes(folder) in (process / name).read_bytes() for name in ("cmdline", "environ")):
                found.append(int(process.name))
    return found


def start(*command: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a daemon in the foreground; it ends with this process, however that ends."""
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command], env=environment, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def kill_processes_of(folder: Path) -> bool:
    """Kill what `processes_of` finds; tell whether there was anything."""
    found = processes_of(folder)
    for number in found:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    return bool(found)


def prepare(folder: Path, cpus: int, memory: int) -> None:
    """Write the configuration, the key, and what the daemons need in `folder`."""
    controller_port, node_port = free_ports(2)
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir(parents=True)
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(folder=folder, host=socket.gethostname().split(".")[0], controller_port=controller_port,
                             node_port=node_port, cpus=cpus, memory=memory),
        encoding="utf-8",
    )  # fmt: skip
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o400)
    # The plugin clears SLURM_CONF for the srun within a job: it expects the configuration where the system keeps it.
    srun = folder / "bin" / "srun"
    srun.write_text(
        f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun", path=SYSTEM)} "$@"\n', encoding="utf-8"
    )
    srun.chmod(0o755)


def idle(cluster: Cluster) -> bool:
    """Tell whether the node is ready for a job."""
    try:
        return cluster.ask("sinfo", "--noheader", "--format=%t").strip() == "idle"
    except subprocess.CalledProcessError:
        return False  # the controller does not answer yet


@contextmanager
def one_node_cluster(folder: Path, cpus: int = 2, memory: int = 8000) -> Iterator[Cluster]:
    """Start a cluster in `folder` (memory in MB); at the end of the block its daemons and all its jobs are killed."""
    prepare(folder, cpus, memory)
    cluster = Cluster(folder)
    environment = os.environ | cluster.environment
    daemons = []
    try:
        daemons.append(start(
            "munged", "--foreground", "--force", f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket",
            f"--pid-file={folder}/munge.pid", f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed",
            environment=environment,
        ))  # fmt: skip
        wait_for("munged made no socket", (folder / "munge.socket").exists)
        daemons += [start(name, "-D", environment=environment) for name in ("slurmctld", "slurmd")]
        wait_for(f"no node is idle (see {folder}/*.log)", lambda: idle(cluster))
        yield cluster
    finally:
        wait_for("processes are left", lambda: not kill_processes_of(folder))
        for process in daemons:
            process.wait()
