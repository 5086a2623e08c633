"""Owns what tests of launchers share: real sweeps in real processes, of networks that train in a second."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from ladder import train
from ladder.runs.outcome import OUTCOMES

HERE = Path(__file__).parent
_FOLDER = tempfile.TemporaryDirectory(prefix="ladder-faults-")  # gone with this process
FAULTS = Path(_FOLDER.name) / "faults.txt"  # one: the fork server knows its name
TINY = (
    "ladder=convnext_32",
    "data=digits",
    "data.image_size=16",
    "spec.depths=[1,1,1,1]",
    "spec.widths=[4,4,8,8]",
    "recipe.epochs=2",
    "wandb.mode=disabled",
    "device=cpu",
    "study=tiny",
    "hydra.launcher.preload=[ladder_faults]",
)
RUNGS = ("resnet", "patchify_stem", "kernel_7", "separate_downsampling")


@dataclass
class Ended:
    """How a launcher ended."""

    code: int
    out: str
    err: str = ""


@dataclass
class Sweep:
    """A launcher process over one folder of runs."""

    root: Path
    faults: dict[str, str] = field(default_factory=dict)
    launcher: tuple[str, ...] = ("hydra.launcher.n_jobs=2",)  # which one, and how
    environment: dict[str, str] = field(default_factory=dict)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)  # the launchers that `start` began

    @property
    def study(self) -> Path:
        """The folder of the study."""
        return self.root / "runs" / "tiny"

    def command(self, *overrides: str) -> list[str]:
        """The arguments of `ladder train`."""
        return ["-m", *TINY, *self.launcher, f"runs_dir={self.root / 'runs'}", *overrides]

    def start(self, *overrides: str) -> subprocess.Popen[str]:
        """Launch in a process of its own, and go on."""
        with self.surroundings():
            command = [sys.executable, "-m", "ladder.train", *self.command(*overrides)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.processes.append(process)
        return process

    def run(self, *overrides: str) -> Ended:
        """Launch in this process, whose fork server all such sweeps share, and wait for the end."""
        output = io.StringIO()
        OUTCOMES.clear()
        with self.surroundings(), contextlib.redirect_stdout(output):
            before, sys.argv = sys.argv, ["ladder.train", *self.command(*overrides)]
            try:
                code = train.main()
            finally:
                sys.argv = before
        return Ended(code, output.getvalue())

    @contextlib.contextmanager
    def surroundings(self) -> Iterator[None]:
        """The environment of a launcher, with the rungs of `faults` failing."""
        self.write_faults()
        paths = [str(HERE), str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")]
        changed = {
            **self.environment,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "LADDER_FAULTS": str(FAULTS),
            "OMP_NUM_THREADS": "1",
            "HYDRA_FULL_ERROR": "",
            "PYTHONDONTWRITEBYTECODE": "",  # else each process of a cluster compiles torch again
        }
        before = {name: os.environ.get(name) for name in changed}
        os.environ.update(changed)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def kill(self) -> None:
        """Kill the launchers that still run: one that a failed test leaves would send its jobs to the next test."""
        for process in self.processes:
            process.kill()
            process.communicate()

    def write_faults(self) -> None:
        """Let the rungs of `faults` fail from now on, and no others."""
        FAULTS.write_text("".join(f"{rung} {kind}\n" for rung, kind in self.faults.items()))

    def statuses(self) -> dict[str, dict[str, Any]]:
        """What the folders say, by rung (and seed, where it isn't 0)."""
        found = {}
        for path in sorted(self.study.glob("*/status.json")):
            status = json.loads(path.read_text())
            found[status["rung"] + (f"-{status['seed']}" if status["seed"] else "")] = status
        return found

    def figures(self) -> dict[str, Any]:
        """What each run came to, without what only measures time; by the name of its folder."""
        results = {path.parent.name: json.loads(path.read_text()) for path in self.study.glob("*/result.json")}
        return {name: (r["final"], r["best"], r["params"], r["steps"]) for name, r in sorted(results.items())}

    def wait_for(self, condition: Callable[[dict[str, dict[str, Any]]], bool], seconds: float = 120) -> None:
        """Poll the folders until `condition(statuses)`."""
        end = time.monotonic() + seconds
        while not condition(self.statuses()):
            assert time.monotonic() < end, f"waited too long: {self.statuses()}"
            time.sleep(0.05)


def finish(process: subprocess.Popen[str], seconds: float = 600) -> Ended:
    """Wait for a launcher; kill it if that takes too long."""
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return Ended(process.returncode, out, err)


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """The first line of a launcher's output with that text in it; fails at the end of the output."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        if text in line:
            return line
        seen.append(line)
    raise AssertionError(f"{text!r} is in no line of {seen}")


def started(out: str) -> list[str]:
    """The rungs whose processes a launcher says it started, sorted."""
    return sorted(re.findall(r"started (\w+)-s\d+-", out))


def is_alive(pid: int) -> bool:
    """True while there is such a process (a zombie that nobody has waited for doesn't count)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    if not Path("/proc").is_dir():
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone between the two looks
        return False


def end_fork_server() -> None:
    """Python has one fork server a process: one that other tests started knows nothing of faults and preloads.

    It is killed: asked to end, it would first wait for whatever process has inherited its life line.
    """
    server = forkserver._forkserver  # type: ignore[attr-defined]
    if server._forkserver_pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server._forkserver_pid, signal.SIGKILL)
    server._stop()
