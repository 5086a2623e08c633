"""Owns the command `ladder doctor`: what a bug report needs of this machine, and whether a network trains here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ladder.common.command import command
from ladder.errors import one_line, run_cli

DISTRIBUTION = "modernization-ladder"
EXTRAS = {"slurm": "submitit", "ray": "ray", "notebooks": "jupyterlab"}
STEP = (
    *("ladder=convnext_mini", "data=digits", "recipe.epochs=1", "data.fraction=0.034", "recipe.batch_size=48"),
    *("spec.depths=[1,1,1,1]", "study=doctor", "wandb.mode=disabled"),
)
EXAMPLES = """examples:
  ladder doctor
  ladder doctor > report.txt       for a bug report: it holds no name, path or key of yours
"""


@command("doctor", examples=EXAMPLES)
def main() -> int:
    """What a bug report needs: versions, devices, disk, extras. Then one training step; exit code 1 if that fails."""
    for name, value in facts():
        print(f"{name:<14}{value}", flush=True)
    problem = train_one_step()
    print(f"{'training step':<14}{problem or 'ok'}")
    return 1 if problem else 0


def facts() -> Iterator[tuple[str, str]]:
    """What this machine and installation are: name and value. A part that is broken says so in place of its value."""
    yield "ladder", _version(DISTRIBUTION) + _commit()
    yield "python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield "system", platform.platform()
    for name in _dependencies():
        yield name, _version(name)
    yield from _devices()
    free, total = shutil.disk_usage(".").free, shutil.disk_usage(".").total
    yield "disk here", f"{free / 1e9:,.0f} of {total / 1e9:,.0f} GB free"
    for extra, name in EXTRAS.items():
        yield f"[{extra}]", _version(name)


def train_one_step() -> str | None:
    """Train a small network for one step in a process of its own, its run folder thrown away. None, or what failed."""
    with tempfile.TemporaryDirectory(prefix="ladder-doctor-") as folder:
        arguments = [*STEP, f"runs_dir={folder}"]
        process = [sys.executable, "-m", "ladder.train", *arguments]
        try:
            done = subprocess.run(
                process, check=False, capture_output=True, text=True, timeout=600, cwd=folder, env=_environment()
            )
        except subprocess.TimeoutExpired:
            return "FAILED: no end after 10 minutes"
    if done.returncode == 0:
        return None
    why = f"killed by signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    return f"FAILED, {why}\n{(done.stderr or done.stdout).strip()}"


def _environment() -> dict[str, str]:
    """Ours, with this `ladder` on the path, also where it is no installed one."""
    path = [str(Path(__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def _dependencies() -> list[str]:
    """The distributions that ours requires, extras aside."""
    try:
        required = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in required if "extra ==" not in each]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    from ladder.runs.session import git_state

    commit, changed = git_state()
    return "" if commit is None else f", commit {commit[:12]}{' with changes' if changed else ''}"


def _devices() -> Iterator[tuple[str, str]]:
    try:
        import torch

        from ladder.launch.local import usable_cores
        from ladder.training.distributed import device_name

        yield "cpu", device_name(torch.device("cpu"))
        yield "instructions", torch.backends.cpu.get_cpu_capability()
        yield "cores", f"{usable_cores()} usable of {os.cpu_count()}"
        yield "cuda", f"{torch.version.cuda or 'none'}, cuDNN {torch.backends.cudnn.version() or 'none'}"
        for index in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(index).total_memory
            yield f"gpu {index}", f"{torch.cuda.get_device_name(index)}, {memory / 2**30:.0f} GiB"
        yield "device=auto", "cuda" if torch.cuda.is_available() else "cpu"
    except Exception as error:  # whatever is broken is what a report is about
        yield "torch", f"BROKEN: {one_line(error)}"


if __name__ == "__main__":
    run_cli(main)
