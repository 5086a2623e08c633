"""Owns what a launcher knows of its runs: attempts, outcomes, who else trains one, how often it was asked to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from ladder.errors import UserError
from ladder.launch.view import View
from ladder.runs.folder import HEARTBEAT_LIMIT, Status
from ladder.runs.outcome import NOT_STARTED, Outcome
from ladder.runs.resolve import Run

SURELY_ALIVE = 5.0  # seconds since a heartbeat within which somebody must be training
ELSEWHERE = 2.0  # seconds between looks at a run that another launcher has
PATIENCE = 3  # times its slowest step so far that a run may take for one


@dataclass
class Job:
    """A run that this launcher is to see done."""

    run: Run
    attempts: int = 0  # of this launch
    due: float = 0.0  # monotonic seconds before which it isn't looked at
    elsewhere: bool = False  # another launcher had it


@dataclass
class Progress:
    """When a run last got on, by this host's clock, and whether it hangs.

    A run hangs that took no step (and evaluated no batch) for `limit` seconds, and for three times as long as the
    slowest of this attempt took: steps of an hour are as healthy as those of a second. Its heartbeat says nothing of
    that, as it comes from a thread of its own.
    """

    since: float  # monotonic seconds
    last_step: float = 0.0  # the time of its last step, as its status has it
    slowest: float = 0.0

    def look(self, status: Status, now: float) -> None:
        """Take up what the status of this attempt says."""
        if status.progress != self.last_step:
            self.last_step, self.since = status.progress, now
        self.slowest = status.slowest

    def hangs(self, limit: float | None, now: float) -> str | None:
        """What to say of a run that hangs; None for one that doesn't."""
        if limit is None or now - self.since <= (allowed := max(limit, PATIENCE * self.slowest)):
            return None
        return f"no step for {allowed:.0f} s (hydra.launcher.heartbeat_limit={limit:g}): killed"


class Ledger:
    """The books of one sweep; `run`, which each kind of launcher has its own of, sees that all jobs have an outcome."""

    def __init__(self, view: View, max_attempts: int = 1, heartbeat_limit: float | None = None) -> None:
        self.view, self.max_attempts, self.heartbeat_limit = view, max_attempts, heartbeat_limit
        self.outcomes: dict[Path, Outcome] = {}  # by run folder
        self.waiting: deque[Job] = deque()
        self.stops = 0  # times that somebody asked to stop
        self._began = time.time()

    def run(self, jobs: Sequence[Job], begun: Callable[[], None]) -> dict[Path, Outcome]:
        """The outcome of each job, by its run's folder. `begun` is called once, when the first one is on its way."""
        raise NotImplementedError

    @property
    def active(self) -> bool:
        """True while a job is on its way."""
        raise NotImplementedError

    def next(self) -> Job | None:
        """The next job to start. One that another launcher has goes to the back of the queue."""
        for _ in range(len(self.waiting)):
            job = self.waiting.popleft()
            if job.due > time.monotonic():
                self.waiting.append(job)
            elif job.run.dir.is_done:
                self.end(job, Outcome("skipped", job.run.label))
            elif job.run.dir.is_busy:
                self.defer(job)
            elif job.elsewhere and (error := self._failed_elsewhere(job)) is not None:
                # the other launcher may try it again: wait until there is nothing else to do
                if self.active or any(not j.elsewhere for j in self.waiting):
                    self.defer(job)
                else:
                    self.end(job, Outcome("failed", job.run.label, error))
            else:
                return job
        return None

    def defer(self, job: Job, seconds: float = ELSEWHERE) -> None:
        """Leave a job to the launcher that has it, and look again later."""
        if not job.elsewhere:
            job.elsewhere = True
            self.view.note(f"{job.run.label} is being trained by another launcher: left to it")
        job.due = time.monotonic() + seconds
        self.waiting.append(job)

    def _failed_elsewhere(self, job: Job) -> str | None:
        status = job.run.dir.read_status()
        if status is None or status.state != "failed" or status.heartbeat < self._began:
            return None
        return status.error or "failed in another launcher"

    def judge(self, job: Job, outcome: Outcome, seconds: float | None) -> None:
        """Take up what the process of a job reported."""
        if outcome.state == "busy":  # another launcher was faster
            job.attempts -= 1
            self.defer(job)
        elif outcome.state == "failed":
            self.fail(job, outcome.error or "failed", outcome.again)
        else:
            self.end(job, outcome, seconds)

    def fail(self, job: Job, error: str, again: bool) -> None:
        """Try a failed job again, if that may help and it has attempts left."""
        if again and job.attempts < self.max_attempts and not self.stops:
            self.view.note(f"{job.run.label} failed, attempt {job.attempts} of {self.max_attempts}: {error}")
            self.waiting.append(job)
        else:
            self.end(job, Outcome("failed", job.run.label, error))

    def end(self, job: Job, outcome: Outcome, seconds: float | None = None) -> None:
        """Note how a job ended; `seconds`: how long it ran."""
        self.outcomes[job.run.dir.path] = outcome
        self.view.ended(job.run, outcome, seconds)

    def end_waiting(self, error: str = NOT_STARTED) -> None:
        """Note of the jobs that nobody came to that they are stopped."""
        for job in self.waiting:
            self.outcomes[job.run.dir.path] = Outcome("stopped", job.run.label, error)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Count Ctrl-C and SIGTERM instead of dying of them (in the main thread; elsewhere do nothing)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def count(number: int, frame: FrameType | None) -> None:
            self.stops += 1

        before = {number: signal.signal(number, count) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def write_end(run: Run, state: str, error: str | None, pid: int | None, attempts: int) -> None:
    """Write the status that a process could not write any more itself.

    Args:
        pid: of that process; None where it ran on another host, and the cluster knows that it ended.
        attempts: of the run, where the process died before its first heartbeat.
    """
    for _ in range(5):
        try:
            with run.dir.lock(HEARTBEAT_LIMIT if pid is not None else SURELY_ALIVE):
                status = run.dir.read_status()
                if status is None or (pid is not None and status.pid != pid):
                    status = status or Status()
                    status.attempts = attempts
                    status.ladder, status.rung, status.seed = run.ladder.name, run.rung.name, run.seed
                status.state, status.error, status.eta_s = state, error, None
                run.dir.write_status(status)
                return
        except UserError:  # what it left behind is not quite dead yet, or another launcher has taken the run up
            time.sleep(0.1)
        except OSError:  # no folder, or a full disk: the dead pid in the old status tells
            return
