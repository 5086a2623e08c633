"""Owns a Slurm cluster of one node, this machine, for tests: Debian's slurm-wlm and munge, started by root by hand.

    apt-get install slurm-wlm munge
    python tests/support/slurm_cluster.py         runs one until Ctrl-C and says how to use it

All that it writes lies in one temporary folder, and all that it starts ends with it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NEEDS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
CONF = """\
ClusterName=ladder-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
KillWait=30
MaxArraySize=1001
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why there can be no cluster here; None: there can."""
    if os.geteuid() != 0:
        return "starting a Slurm cluster takes root"
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    if lacks := [name for name in NEEDS if shutil.which(name, path=path) is None]:
        return f"no {', '.join(lacks)}: apt-get install slurm-wlm munge"
    try:
        pwd.getpwnam("munge")
    except KeyError:
        return "no user munge: apt-get install munge"
    return None


class SlurmCluster:
    """One node with `cpus` CPUs to give away, whether it has them or not."""

    def __init__(self, cpus: int = 2) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ladder-slurm-"))
        self.host = socket.gethostname().partition(".")[0]
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.folder.chmod(0o755)
        ports = {"controller_port": _free_port(), "node_port": _free_port()}
        values: dict[str, Any] = {"folder": self.folder, "host": self.host, "cpus": cpus, **ports}
        (self.folder / "slurm.conf").write_text(CONF.format(**values))
        for name in ("munge", "state", "spool"):
            (self.folder / name).mkdir(mode=0o755)

    def __enter__(self) -> SlurmCluster:
        try:
            self._start_munge()
            self._start("slurmctld", "-D", "-i")
            self.start_node()
            _wait_for(lambda: "idle" in self.call("sinfo", "--noheader", "--format=%t"), "the node is not ready")
        except BaseException:
            print(self.logs(), file=sys.stderr)
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if "slurmd" in self._daemons:
            with contextlib.suppress(subprocess.SubprocessError, AssertionError):
                self.cancel_all()
        for name in ("slurmd", "slurmctld", "munged"):
            if (daemon := self._daemons.pop(name, None)) is not None:
                daemon.terminate()
                try:
                    daemon.wait(10)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_node(self) -> None:
        """Start the node's daemon."""
        self._start("slurmd", "-D")

    def kill_node(self) -> None:
        """Kill the node's daemon; what it started lives on."""
        daemon = self._daemons.pop("slurmd")
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()

    def call(self, *command: str) -> str:
        """The output of one of Slurm's commands."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def jobs(self) -> dict[str, str]:
        """States of the jobs in the queue, by id (12_3 in an array)."""
        lines = self.call("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def cancel_all(self) -> None:
        """Cancel all jobs, and wait until they are gone."""
        self.call("scancel", "--user=root")
        _wait_for(lambda: not self.jobs(), "jobs are left", 60)

    def logs(self) -> str:
        """What the daemons wrote."""
        return "\n".join(f"--- {path.name}\n{path.read_text()[-4000:]}" for path in sorted(self.folder.glob("*.log")))

    def _start_munge(self) -> None:
        user, home = pwd.getpwnam("munge"), self.folder / "munge"
        key = home / "key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        for path in (home, key):
            os.chown(path, user.pw_uid, user.pw_gid)
        files = [f"--{kind}-file={home / kind}" for kind in ("key", "pid", "log", "seed")]
        command = ["munged", "--foreground", f"--socket={home / 'socket'}", *files]
        self._start(*command, user=user.pw_uid, group=user.pw_gid, extra_groups=[])
        _wait_for((home / "socket").exists, "munged does not start")

    def _start(self, *command: str, **options: Any) -> None:
        environment = {**os.environ, **self.environment}
        environment["PATH"] = os.pathsep.join([environment.get("PATH", ""), "/usr/sbin", "/sbin"])
        with open(self.folder / f"{command[0]}.out.log", "a") as log:
            self._daemons[command[0]] = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, **options
            )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(condition: Callable[[], bool], complaint: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(AssertionError):
            if condition():
                return
        assert time.monotonic() < end, complaint
        time.sleep(0.2)


def main() -> None:
    """Run a cluster until Ctrl-C."""
    if (why := missing()) is not None:
        sys.exit(f"error: {why}")
    with SlurmCluster(os.cpu_count() or 2) as cluster:
        print(f"export SLURM_CONF={cluster.environment['SLURM_CONF']}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
