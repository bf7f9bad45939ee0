"""A real SLURM of two nodes on this machine: munged, slurmctld and two slurmd in one folder.

The daemons are Debian's or Ubuntu's (`apt-get install slurm-wlm munge`). They use free ports and
their own munge key and socket, so neither a SLURM that is installed for real nor a second rig is
in the way. There is no database, so `sacct` refuses; `squeue` and `scontrol` know every job for
an hour.

`python tests/slurm/cluster.py` starts one by hand and says how to talk to it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rig_leftovers import PREFIX, born, remove, sweep_leftovers
from slurm_client import Slurm

NODES = ("n1", "n2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
ADMIN_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
PR_SET_PDEATHSIG = 1


class ClusterError(RuntimeError):
    """The daemons did not come up; says which, with the end of their logs."""


def missing() -> str | None:
    """Why no cluster can be started here, with the remedy; None where one can."""
    if sys.platform != "linux":
        return "SLURM's daemons run on Linux only"
    absent = [name for name in PROGRAMS if shutil.which(name, path=ADMIN_PATH) is None]
    if absent:
        return f"{', '.join(absent)} not found; as root: apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "slurmd starts jobs only as root; run the tests as root, e.g. in a container"
    return None


class Cluster:
    """Two nodes of `cpus` CPUs each (promised, not present), with four partitions.

    `main` is the default; `short` ends jobs after a minute; a job in `urgent` preempts those of
    `main`, which are requeued at once, and those of `graceful`, which first get SIGTERM and 20 s.
    """

    def __init__(self, cpus: int = 4, kill_wait: int = 5) -> None:
        self.cpus = cpus
        self.kill_wait = kill_wait
        self.folder = Path()
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def env(self) -> dict[str, str]:
        """What a process needs to speak to this cluster: SLURM_CONF, and a PATH with sbatch."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH"))}
        return inherited | {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": ADMIN_PATH}

    def start(self, attempts: int = 3) -> Slurm:
        """The running cluster's client. Another process may take a port in between: try again then.

        Raises `ClusterError` where the daemons do not come up.
        """
        sweep_leftovers()
        for attempt in range(1, attempts + 1):
            try:
                return self._start()
            except ClusterError:
                self.stop()
                if attempt == attempts:
                    raise
        raise AssertionError("unreachable")

    def stop(self) -> None:
        """End jobs, daemons and everything that they started; remove the folder."""
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
        for daemon in self._daemons.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(timeout=5)
        self._daemons.clear()
        if self.folder != Path():
            remove(self.folder)
            self.folder = Path()

    def _start(self) -> Slurm:
        # Not pytest's folder: the daemons' sockets lie in here, and a socket's name has 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
        (self.folder / "owner").write_text(f"{os.getpid()} {born(os.getpid())}")
        (self.folder / "save").mkdir()
        (self.folder / "slurm.conf").write_text(self._config())
        # Nothing here uses cgroups, but slurmd looks for them unless told, and fails without.
        plugin = "disabled" if version() >= (24, 5) else "cgroup/v1"  # loads where none is mounted
        (self.folder / "cgroup.conf").write_text(f"CgroupPlugin={plugin}\n")
        self._start_munge()
        self._daemon("slurmctld", "-D")
        for node in NODES:
            self._daemon("slurmd", "-D", "-N", node, name=node)
        slurm = Slurm(self.folder, self.env)
        self._await(lambda: slurm.idle_nodes() == set(NODES), "both nodes are idle", 60)
        return slurm

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        folder.mkdir(mode=0o755)
        (folder / "key").write_bytes(os.urandom(1024))
        (folder / "key").chmod(0o400)
        files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "seed-file": "seed"}
        options = [f"--{option}={folder / name}" for option, name in files.items()]
        self._daemon("munged", "--foreground", "--force", f"--log-file={folder / 'log'}", *options)
        self._await((folder / "socket").exists, "munged listens", 20)

    def _daemon(self, program: str, *options: str, name: str | None = None) -> None:
        """Start a daemon in the foreground; it ends with this process, however that ends."""
        name = name or program
        path = shutil.which(program, path=ADMIN_PATH)
        assert path is not None, missing()
        with (self.folder / f"{name}.out").open("wb") as out:
            self._daemons[name] = subprocess.Popen(
                [path, *options],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for pytest, which then stops them in order
                preexec_fn=_die_with_parent,
            )

    def _await(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            dead = [name for name, daemon in self._daemons.items() if daemon.poll() is not None]
            if dead or time.monotonic() > deadline:
                why = f"{', '.join(dead)} ended" if dead else f"not so after {seconds:.0f} s"
                raise ClusterError(f"SLURM did not start ({what}: {why})\n{self._logs()}")
            time.sleep(0.2)

    def _logs(self) -> str:
        ends = []
        for name in self._daemons:
            lines = (self.folder / f"{name}.out").read_text(errors="replace").splitlines()
            ends.append("\n".join([f"--- {name}", *lines[-8:]]))
        return "\n".join(ends)

    def _config(self) -> str:
        host = socket.gethostname().split(".")[0]
        ports = free_ports(1 + len(NODES))
        lines = [
            "ClusterName=rig",
            f"SlurmctldHost={host}(127.0.0.1)",
            f"SlurmctldPort={ports[0]}",
            "SlurmUser=root",
            "SlurmdUser=root",
            "AuthType=auth/munge",
            "CredType=cred/munge",
            # A requeued job waits until its old credential has expired; the default is two minutes.
            f"AuthInfo=socket={self.folder}/munge/socket,cred_expire=5",
            "ProctrackType=proctrack/linuxproc",  # neither this nor anything else needs cgroups
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_CPU",
            "SchedulerType=sched/backfill",
            "SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0,batch_sched_delay=0",
            "PreemptType=preempt/partition_prio",
            "PreemptMode=REQUEUE",
            "JobCompType=jobcomp/filetxt",
            f"JobCompLoc={self.folder}/ended",
            f"SlurmctldPidFile={self.folder}/slurmctld.pid",
            f"SlurmdPidFile={self.folder}/%n.pid",
            f"SlurmdSpoolDir={self.folder}/spool.%n",
            f"StateSaveLocation={self.folder}/save",
            "SlurmdParameters=config_overrides",
            "ReturnToService=1",  # a node that was set DOWN stays down, one that was slow does not
            f"KillWait={self.kill_wait}",
            "OverTimeLimit=0",
            "MinJobAge=3600",
            *(
                f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
                f"CPUs={self.cpus} RealMemory=1000 State=UNKNOWN"
                for node, port in zip(NODES, ports[1:], strict=True)
            ),
            "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1",
            "PartitionName=short Nodes=ALL MaxTime=1 DefaultTime=1 State=UP PriorityTier=1",
            "PartitionName=graceful Nodes=ALL State=UP PriorityTier=1 GraceTime=20",
            "PartitionName=urgent Nodes=ALL State=UP PriorityTier=10",
        ]
        return "\n".join(lines) + "\n"


def version() -> tuple[int, int]:
    """SLURM's year and month, e.g. (22, 5)."""
    slurmd = shutil.which("slurmd", path=ADMIN_PATH) or "slurmd"
    text = subprocess.run([slurmd, "-V"], capture_output=True, text=True, check=True).stdout
    year, month = text.split()[-1].split(".")[:2]
    return int(year), int(month)


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def main() -> None:
    """Run a cluster until Ctrl-C."""
    reason = missing()
    if reason:
        sys.exit(reason)
    cluster = Cluster()
    try:
        cluster.start()
        sys.stdout.write(f"export SLURM_CONF={cluster.folder}/slurm.conf  # Ctrl-C ends it\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
