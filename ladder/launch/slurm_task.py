"""Owns what happens in a Slurm job: it trains one run, saves and requeues itself in time, and leaves a word."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ladder.errors import one_line
from ladder.launch.child import LOG, redirect
from ladder.launch.task import train
from ladder.paths import strict_json, write_atomic
from ladder.runs.outcome import STOPPED, Outcome, StopFlag
from ladder.runs.records import read_json_or_none
from ladder.runs.resolve import Run

WARNING = signal.SIGUSR2  # before the time limit; submitit's choice, as NCCL may use SIGUSR1
RESTARTS = 2  # of a job, after which one that was stopped must have got on


@dataclass(frozen=True)
class Task:
    """A run and what its job needs to know."""

    run: Run
    word: Path  # file that says how it ended
    folder: Path  # where the launcher was started
    timeout_min: int
    preload: tuple[str, ...] = ()


def main(task: Task) -> None:
    """Train the run. Ends the process with exit code 0 done, 1 failed, 75 stopped, so that Slurm's own books are right.

    SIGTERM (scancel, preemption, requeue) and the warning before the time limit both save and stop. After the warning
    the job requeues itself, once the save is complete.
    """
    run, environment = task.run, os.environ
    is_main = environment.get("SLURM_PROCID", "0") == "0"
    logging.getLogger("submitit").setLevel(logging.ERROR)  # it tells of signals, which are ours here
    stop = StopFlag(WARNING)
    with stop.installed():
        os.chdir(task.folder)
        if is_main:
            task.word.unlink(missing_ok=True)  # of before it was requeued
            run.dir.create()
            redirect(run.dir.path / LOG)
        before = _steps(run)
        outcome = train(run, int(environment.get("SLURM_CPUS_PER_TASK", 1)), task.preload, stop)
        if not is_main:
            if outcome.state == "failed":  # the others wait for it in vain: srun ends them
                leave_word(task.word, outcome)
                sys.exit(1)
            return  # not before the first: srun would end that one
        if outcome.state == "stopped" and _signal_of(stop) in (WARNING.name, signal.SIGUSR1.name):
            outcome = _requeue(task, outcome, got_on=_steps(run) > before)
        leave_word(task.word, outcome)
        if outcome.state == "stopped":  # not by way of W&B, whose own process the signal has ended, which it would tell
            sys.stdout.flush()
            os._exit(STOPPED)
        sys.exit(STOPPED if outcome.state == "busy" else outcome.exit_code)


def _signal_of(stop: StopFlag) -> str | None:
    """What stopped the run. Another rank may have been told before this one."""
    end = time.monotonic() + 5
    while stop.signal is None and time.monotonic() < end:
        time.sleep(0.1)
    return stop.signal


def leave_word(path: Path, outcome: Outcome) -> None:
    """Write how a run ended to where the launcher looks."""
    write_atomic(path, strict_json(dataclasses.asdict(outcome)))


def read_word(path: Path) -> Outcome | None:
    """How a run ended; None where its job left no word."""
    word = read_json_or_none(path)
    return None if word is None else Outcome(**word)


def _steps(run: Run) -> int:
    status = run.dir.read_status()
    return status.step if status is not None else 0


def _requeue(task: Task, outcome: Outcome, got_on: bool) -> Outcome:
    """Put this job back into the queue; what it returns counts only where that is of no use."""
    if not got_on and int(os.environ.get("SLURM_RESTART_COUNT", 0)) >= RESTARTS:
        return Outcome(
            "failed",
            task.run.label,
            f"not one step within the time limit of {task.timeout_min} min, {RESTARTS + 1} times: raise"
            " hydra.launcher.timeout_min",
        )
    try:
        subprocess.run(
            ["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        why = one_line(Exception(getattr(error, "stderr", None) or str(error)))
        return Outcome("failed", task.run.label, f"saved at its time limit, but could not be requeued: {why}", True)
    return outcome
