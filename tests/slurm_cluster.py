"""A real SLURM of several nodes on this machine, for `test_slurm_real`: munged, slurmctld, a slurmd per node.

Each slurmd has a UTS namespace, and so a host name, and a directory for temporary files of its own: PMIx and
Open MPI name files and sockets after the host, and two nodes of one name would take each other's.  All know
all names, by an ``/etc/hosts`` of their mount namespace.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NAMESPACES = ("unshare", "--uts", "--mount")
DAEMONS = ("munged", "slurmctld", "slurmd")
_SBIN = os.pathsep.join(["/usr/sbin", "/usr/local/sbin", "/sbin"])

CONF = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket
CryptoType=crypto/munge
SlurmUser=root
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool-%n
TmpFS={place}/tmp-%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd-%n.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd-%n.log
SlurmdParameters=config_overrides
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,sched_min_interval=0
JobRequeue=1
KillWait=10
ReturnToService=2
NodeName=DEFAULT CPUs=8 RealMemory=1024 Features=cpu
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE
"""


def why_not() -> str:
    """Why this machine cannot have a SLURM of its own; empty where it can."""
    missing = [name for name in (*DAEMONS, "unshare") if found(name) is None]
    if missing:
        return f"no {', '.join(missing)} on this machine (Debian: apt-get install slurm-wlm munge)"
    done = subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False)
    if os.geteuid() != 0 or done.returncode:
        return "no right to make namespaces: a SLURM of several nodes on one machine needs root"
    return ""


def found(name: str) -> str | None:
    """Where a program of SLURM is: daemons are often not on the path of users."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}{os.pathsep}{_SBIN}")


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens at."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for something; an error says what did not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            msg = f"{what} did not come within {seconds} s"
            raise TimeoutError(msg)
        time.sleep(0.1)


@dataclass(frozen=True)
class Cluster:
    """A running SLURM: where its files are, and what finds it in the environment."""

    place: Path
    nodes: tuple[str, ...]

    @property
    def environ(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.place / "slurm.conf")}

    def call(self, *words: str, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command of SLURM, such as ``sbatch``."""
        return subprocess.run(
            words,
            cwd=cwd,
            env={**os.environ, **self.environ, **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def state(self, job: str) -> str:
        """A job's state, such as ``RUNNING``."""
        words = self.call("scontrol", "show", "job", job).stdout.split()
        return next((word.partition("=")[2] for word in words if word.startswith("JobState=")), "")

    def end_of(self, job: str, seconds: float = 120) -> str:
        """Wait for a job's end; its state then."""
        running = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED")
        wait_until(lambda: self.state(job) not in running, seconds, f"the end of job {job}")
        return self.state(job)


@contextmanager
def cluster(place: Path, number: int = 2) -> Iterator[Cluster]:
    """A SLURM whose files are in a directory, for as long as the block lasts."""
    nodes = tuple(f"dplearn{i}" for i in range(number))
    ports = free_ports(number + 1)
    lines = [
        f"NodeName={name} NodeAddr=127.0.0.1 Port={port}" for name, port in zip(nodes, ports[1:], strict=True)
    ]
    for name in ("state", *(f"{kind}-{node}" for kind in ("spool", "tmp") for node in nodes)):
        (place / name).mkdir()
    (place / "slurm.conf").write_text(
        CONF.format(host=socket.gethostname(), port=ports[0], place=place, nodes="\n".join(lines))
    )
    hosts = place / "hosts"
    hosts.write_text(Path("/etc/hosts").read_text() + f"\n127.0.0.1 {' '.join(nodes)}\n")
    key = place / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    made = Cluster(place, nodes)
    environ = {**os.environ, **made.environ}
    files = {name: place / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
    munged = [f"--{name}{'' if name == 'socket' else '-file'}={path}" for name, path in files.items()]
    commands = [
        [str(found("munged")), "--foreground", "--force", f"--key-file={key}", *munged],
        [str(found("slurmctld")), "-D"],
        *(
            [
                *NAMESPACES,
                *("sh", "-c"),
                f"hostname {name} && mount --bind {hosts} /etc/hosts && exec {found('slurmd')} -D -N {name}",
            ]
            for name in nodes
        ),
    ]
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            with (place / "daemons.log").open("ab") as log:
                daemons.append(
                    subprocess.Popen(command, env=environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
                )
            if len(daemons) == 1:
                wait_until(files["socket"].exists, 10, "munged")
        ready = f"{number}"
        wait_until(
            lambda: made.call("sinfo", "-h", "-t", "idle", "-o", "%D").stdout.split() == [ready], 30, "SLURM"
        )
        yield made
    finally:
        made.call("scancel", "--user=root", "--full")
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in daemons:
            try:
                daemon.wait(15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
