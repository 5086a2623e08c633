"""Owns the processes of a sweep: one for each run, as many at a time as there are shares of the machine.

Whatever happens to one of them (an exception, os._exit, the OOM killer, a hang), the others go on, and its run folder
says what happened.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

from ladder.errors import UserError, one_line
from ladder.launch import child, fork_preload
from ladder.launch.jobs import Job, Ledger, Progress, write_end
from ladder.launch.view import View
from ladder.runs.config import DataConfig
from ladder.runs.folder import Status
from ladder.runs.outcome import Outcome
from ladder.runs.resolve import Run

TICK = 0.25  # seconds between looks at the signals
LOOK = 0.5  # seconds between looks at the folders
EXIT_GRACE = 30.0  # seconds that a run may take to end after it has reported its outcome


@dataclass
class Worker:
    """A process and the run that it trains."""

    job: Job
    slot: child.Slot
    process: BaseProcess
    report: Connection[Any, Any]
    born: float  # monotonic seconds, as are the others
    progress: Progress
    status: Status | None = None  # what its folder said last, of this attempt
    outcome: Outcome | None = None  # what it reported
    reported: float = 0.0
    killed_for: str | None = None  # why we kill it
    before: int = 0  # attempts of earlier launches

    @property
    def run(self) -> Run:
        """What it trains."""
        return self.job.run

    def signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid or 0, number)

    def kill(self) -> None:
        """End the process and all that it started, at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):  # had it not made its own group yet
            os.kill(self.process.pid or 0, signal.SIGKILL)


def start_server(preload: Sequence[str]) -> None:
    """Start the fork server; it imports torch and all else in the background."""
    multiprocessing.get_context("forkserver").set_forkserver_preload([fork_preload.__name__, *preload])
    with _forking():
        ensure_running()


@contextlib.contextmanager
def _forking() -> Iterator[None]:
    """Around what asks the fork server for a process, or starts it (again, should it have died)."""
    # OpenBLAS starts its threads when it is loaded
    changed = {fork_preload.FLAG: "1", "OPENBLAS_NUM_THREADS": "1"}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    # a new process would run the script that this one was started with: nothing in it is needed there
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def survey(preload: Sequence[str], data: Sequence[DataConfig]) -> int:
    """How many GPUs torch finds. Raises UserError for a module or a data set that can't be had.

    Done in a process of its own: this one must not import torch (seconds) or touch a GPU (runs could not, then).
    """
    context = multiprocessing.get_context("forkserver")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=child.survey, args=(list(preload), list(data), send), daemon=True)
    try:
        with _forking():
            process.start()
        send.close()
        found: int | str = receive.recv()
    except (EOFError, OSError):
        raise UserError("a first process, which imports torch and opens the data, died: its words are above") from None
    if isinstance(found, str):
        raise UserError(found)
    process.join()
    return found


class Pool(Ledger):
    """Runs jobs until each has an outcome, or until it is told to stop."""

    def __init__(
        self,
        slots: Sequence[child.Slot],
        view: View,
        max_attempts: int = 1,
        heartbeat_limit: float | None = None,
    ) -> None:
        super().__init__(view, max_attempts, heartbeat_limit)
        self.slots = slots
        self._workers: list[Worker] = []
        self._free = list(reversed(slots))
        self._looked = 0.0

    def run(self, jobs: Sequence[Job], begun: Callable[[], None]) -> dict[Path, Outcome]:
        """See `Ledger.run`."""
        self.waiting.extend(jobs)
        begun()
        obeyed = 0
        with self.listening(), self.view:
            try:
                while self._workers or (self.waiting and not self.stops):
                    if self.stops > obeyed:
                        obeyed = self.stops
                        self._stop()
                    self._fill()
                    self._wait()
                    self._look()
            finally:
                for worker in self._workers:  # only where something above is broken
                    worker.signal(signal.SIGTERM)
        self.end_waiting()
        return self.outcomes

    @property
    def active(self) -> bool:
        """See `Ledger.active`."""
        return bool(self._workers)

    # -------------------------------------------------------------------------------------------------- starting

    def _fill(self) -> None:
        while self._free and not self.stops and (job := self.next()) is not None:
            self._start(job)

    def _start(self, job: Job) -> None:
        slot = self._free.pop()
        job.attempts += 1
        status = job.run.dir.read_status()
        context = multiprocessing.get_context("forkserver")
        receive, send = context.Pipe(duplex=False)
        process = context.Process(target=child.main, args=(job.run, slot, send), name=job.run.label)
        try:
            with _forking():
                process.start()
        except (EOFError, OSError) as error:  # the fork server is gone, or no memory for another process
            self._free.append(slot)
            self.fail(job, f"its process could not be started: {one_line(error)}", again=True)
            return
        finally:
            send.close()
        now = time.monotonic()
        before = status.attempts if status else 0
        self._workers.append(Worker(job, slot, process, receive, now, Progress(now), before=before))
        self.view.started(job.run)

    # -------------------------------------------------------------------------------------------------- watching

    def _wait(self) -> None:
        """Wait for a report or an end, a tick at most, and take up what came."""
        if not self._workers:
            time.sleep(TICK)
            return
        reports = [w.report for w in self._workers if not w.reported]
        wait([*reports, *(w.process.sentinel for w in self._workers)], TICK)
        for worker in list(self._workers):
            self._receive(worker)
            if not worker.process.is_alive():
                self._receive(worker)
                worker.report.close()
                worker.process.join()
                self._workers.remove(worker)
                self._free.append(worker.slot)
                self._judge(worker)

    def _receive(self, worker: Worker) -> None:
        if worker.reported or not worker.report.poll():
            return
        worker.reported = time.monotonic()
        with contextlib.suppress(EOFError, OSError):  # it died; or it was killed in the middle of a word
            worker.outcome = worker.report.recv()

    def _look(self) -> None:
        """Read the folders of the running ones; kill those that hang."""
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        for worker in self._workers:
            status = worker.job.run.dir.read_status()
            if status is not None and status.pid == worker.process.pid:
                worker.progress.look(status, now)
                worker.status = status
            if worker.killed_for is not None:
                worker.kill()
            elif worker.outcome is not None:
                if now - worker.reported > EXIT_GRACE:
                    worker.kill()
            elif hangs := worker.progress.hangs(self.heartbeat_limit, now):
                worker.killed_for = f"{hangs}; what it was doing is in its log"
                worker.signal(child.STACKS)  # killed at the next look
        self.view.tick(self._workers, len(self.waiting), len(self.slots))

    # ---------------------------------------------------------------------------------------------------- ending

    def _judge(self, worker: Worker) -> None:
        """Decide what the end of a process means for its run."""
        job, outcome, code = worker.job, worker.outcome, worker.process.exitcode
        if outcome is None and job.run.dir.is_done:  # it died between its result and its report
            outcome, worker.killed_for = Outcome("done", job.run.label), None
        if outcome is not None and worker.killed_for is None:
            self.judge(job, outcome, time.monotonic() - worker.born)
            return
        worker.kill()  # what it may have left behind, such as workers that load images
        if self.stops and worker.killed_for is None and code in (-signal.SIGTERM, -signal.SIGKILL):
            self._write(worker, "stopped", None)
            self.end(job, Outcome("stopped", job.run.label, "killed" if self.stops > 1 else "stopped"))
            return
        cause = worker.killed_for or _cause(code)
        self._write(worker, "failed", cause)
        self.fail(job, cause, again=True)

    def _write(self, worker: Worker, state: str, error: str | None) -> None:
        write_end(worker.job.run, state, error, worker.process.pid, worker.before + 1)

    # -------------------------------------------------------------------------------------------------- stopping

    def _stop(self) -> None:
        if self.stops == 1:
            self.view.note(f"stopping: {len(self._workers)} running, which save and stop; Ctrl-C again to kill them")
            for worker in self._workers:
                worker.signal(signal.SIGTERM)
        else:
            self.view.note("killing what still runs; the last checkpoints stay")
            for worker in self._workers:
                worker.kill()


def _cause(code: int | None) -> str:
    """The end of a process that left no word, in one line."""
    if code is None or code >= 0:
        return f"its process ended with code {code} without a word"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    hint = " (out of memory?)" if -code == signal.SIGKILL else ""
    return f"killed by signal {-code}, {name}{hint}"
