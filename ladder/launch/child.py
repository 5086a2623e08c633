"""Owns what happens in the process of one run: bound to a slot of the machine, its output in the run's log."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path

from ladder.errors import UserError, as_mistake, bug_report, one_line
from ladder.runs.config import DataConfig
from ladder.runs.execute import execute
from ladder.runs.folder import Busy
from ladder.runs.outcome import Outcome
from ladder.runs.resolve import Run

LOG = "train.log"  # in the run folder: the engine's messages, and all that the process prints
GRACE = 120.0  # seconds to save after the launcher died
STACKS = signal.SIGUSR2  # makes a run write the stacks of its threads into its log


@dataclass(frozen=True)
class Slot:
    """The part of the machine that one run gets. `gpus` None: whatever there is."""

    threads: int
    gpus: tuple[str, ...] | None = None


def main(run: Run, slot: Slot, report: Connection[Outcome, None]) -> None:
    """Train a run and report its outcome ("busy": another process has it). The target of the pool's processes."""
    os.setsid()  # a Ctrl-C in the terminal reaches the launcher alone, and what we start dies with us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    threading.Thread(target=_die_with_launcher, daemon=True).start()
    try:
        run.dir.create()
        redirect(run.dir.path / LOG)
        faulthandler.register(STACKS, all_threads=True, chain=False)
        _bind(run, slot)
        outcome = execute(run)
    except Busy as error:
        outcome = Outcome("busy", run.label, str(error))
    except UserError as error:
        outcome = Outcome("failed", run.label, str(error))
    with contextlib.suppress(OSError):  # the launcher may be gone
        report.send(outcome)
    report.close()


def survey(preload: Sequence[str], data: Sequence[DataConfig], report: Connection[int | str, None]) -> None:
    """Report how many GPUs torch finds; or, in a line, what is wrong with a module or with a data set.

    Each data set is opened once before all runs open it at a time: what is missing is told once, or downloaded once.
    """
    import torch

    from ladder.data.sources import open_source

    try:
        import_all(preload)
        for each in data:
            if each.source != "timm":  # which may be a stream from far away
                open_source(each)
        report.send(torch.cuda.device_count())
    except Exception as error:
        report.send(as_mistake(error) or bug_report(error))
    report.close()


def import_all(names: Sequence[str]) -> None:
    """Import what the user wants imported before a run. Raises UserError for a module that can't be."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(f"hydra.launcher.preload: {one_line(error)}") from None


def _bind(run: Run, slot: Slot) -> None:
    if slot.gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(slot.gpus)
    if run.engine.threads is None:  # else the engine sets it
        import torch

        torch.set_num_threads(slot.threads)


def redirect(path: Path) -> None:
    """Append all that this process prints to `path`, also what a crash says."""
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    faulthandler.enable()


def _die_with_launcher() -> None:
    """Stop as on SIGTERM when the launcher is gone, however it went; if that takes too long, end at once."""
    launcher = parent_process()
    if launcher is None:
        return
    wait([launcher.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.killpg(os.getpid(), signal.SIGKILL)
