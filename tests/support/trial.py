"""Owns the trial of one command line: run in a child of this process, and judged as a user would judge it.

A child is forked from a process that has torch and Hydra imported already, so that a thousand trials take minutes.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

MODULES = {
    "train": "ladder.train",
    "plan": "analysis.plan",
    "cost": "analysis.cost",
    "preview": "ladder.data.preview",
    "bench": "ladder.bench",
}
PATIENCE = 15.0  # seconds that a command may take; then it is asked to stop, and soon after it is killed
MEMORY = 8 << 30  # bytes of address space; a command that wants more must not take the machine with it
LONGEST_LINE = 1000  # characters that a person reads of an error


@dataclass(frozen=True)
class Case:
    """A command line, and the files that lie in the folder where it is typed."""

    command: str  # a key of MODULES
    arguments: tuple[str, ...]
    files: tuple[tuple[str, bytes], ...] = ()  # relative path, content; a path that ends in / is a folder
    links: tuple[tuple[str, str], ...] = ()  # relative path, what it points to

    def __str__(self) -> str:
        return " ".join([self.command, *(ascii(a if len(a) < 200 else f"{a[:60]}...") for a in self.arguments)])


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code (negative: a signal), what it printed, which paths it left."""

    code: int
    out: str
    err: str
    made: tuple[str, ...]
    statuses: tuple[str, ...]  # the states that run folders tell
    asked_to_stop: bool

    def faults(self) -> list[str]:
        """What a user would complain about; nothing where the command did well."""
        text = self.out + self.err
        # what the bench says of its progress comes before what a full disk makes of its end
        lines = [x for x in self.err.splitlines() if not re.match(r"building |(train|infer): turn ", x)]
        found = []
        if "Traceback (most recent call last)" in text:
            found.append("traceback")
        if "bug in the Modernization Ladder" in text:
            found.append("bug")
        if self.asked_to_stop and self.code not in (0, 1, 2, 75, -signal.SIGTERM):
            found.append("hang")
        elif not self.asked_to_stop and self.code not in (0, 1, 2, 75):
            found.append(f"exit code {self.code}")
        if self.code == 2 and len(lines) != 1:
            found.append("not one line for a mistake")
        if self.code == 2 and self.made:
            found.append("a mistake left files")
        if self.code == 1 and (not lines or "running" in self.statuses):
            found.append("failed without a word")
        if any(len(line) > LONGEST_LINE for line in lines):
            found.append("a line too long to read")
        if any(ord(c) < 32 and c not in "\n\r\t" for c in self.err):
            found.append("control characters")
        return found


def warm_up() -> None:
    """Import what the commands import, once."""
    from ladder.networks.timm_hook import without_wandb

    with without_wandb():
        for module in (*MODULES.values(), "ladder.runs.session", "ladder.data.memory", "matplotlib.figure"):
            importlib.import_module(module)
        import torch

        torch.set_num_threads(1)


def run(case: Case) -> Ended:
    """Run a case in a fresh folder, in a child."""
    with tempfile.TemporaryDirectory(prefix="odd-") as name:
        root = Path(name)
        here = root / "here"
        here.mkdir()
        for path, content in case.files:
            (here / path).parent.mkdir(parents=True, exist_ok=True)
            if path.endswith("/"):
                (here / path).mkdir(exist_ok=True)
            else:
                (here / path).write_bytes(content)
        for path, target in case.links:
            (here / path).parent.mkdir(parents=True, exist_ok=True)
            (here / path).symlink_to(target)
        before = set(_tree(here))
        child = os.fork()
        if child == 0:
            _command(case, here, root)
        code, asked = _wait(child)
        out, err = ((root / f).read_bytes().decode(errors="replace") for f in ("out", "err"))
        made = tuple(sorted(set(_tree(here)) - before))
        return Ended(code, out, err, made, tuple(_statuses(here)), asked)


def _tree(folder: Path) -> list[str]:
    return [
        os.path.relpath(os.path.join(top, name), folder)
        for top, folders, files in os.walk(folder)
        for name in (*folders, *files)
    ]


def _statuses(folder: Path) -> list[str]:
    found = []
    for top, _, files in os.walk(folder):
        if "status.json" in files:
            with contextlib.suppress(ValueError, OSError, KeyError):
                found.append(json.loads((Path(top) / "status.json").read_text())["state"])
    return found


def _wait(child: int) -> tuple[int, bool]:
    begun, asked = time.monotonic(), False
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGKILL)  # what it may have left behind
            return os.waitstatus_to_exitcode(status), asked
        waited = time.monotonic() - begun
        if waited > PATIENCE and not asked:
            asked = True
            os.kill(child, signal.SIGTERM)
        if waited > 2 * PATIENCE:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.003)


def _command(case: Case, here: Path, root: Path) -> None:
    """What happens in the child; never returns."""
    code = 70
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(root / name, os.O_WRONLY | os.O_CREAT), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False, buffering=1)  # noqa: SIM115
        os.chdir(here)
        os.environ.pop("HYDRA_FULL_ERROR", None)
        os.environ["TMPDIR"] = tempfile.tempdir = str(root)
        from ladder.errors import run_cli

        main = importlib.import_module(MODULES[case.command]).main
        sys.argv = [MODULES[case.command], *case.arguments]
        try:
            run_cli(main)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
