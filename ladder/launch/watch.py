"""Owns the watch over runs that a cluster trains: sent, followed by their folders, judged when the cluster is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ladder.errors import UserError, one_line
from ladder.launch.jobs import Job, Ledger, Progress, write_end
from ladder.launch.view import LEFT, View
from ladder.runs.folder import Status, is_dead
from ladder.runs.outcome import Outcome
from ladder.runs.resolve import Run

TICK = 0.25  # seconds between looks at the signals
LOOK = 1.0  # seconds between looks at the folders
FULL = 30.0  # seconds until a cluster that takes no more jobs is asked again


class Cluster(Protocol):
    """Where runs are sent: Slurm, Ray. All methods return quickly."""

    at_a_time: int  # runs that one `send` may hold

    def attach(self, runs: Sequence[Run]) -> list[Run]:
        """Those of `runs` that an earlier launch has sent and that are still to end; from now on as if sent by us."""

    def send(self, runs: Sequence[Run]) -> str:
        """Send runs; returns what to tell of it, if anything. Raises UserError where the cluster refuses them."""

    def ended(self) -> list[tuple[Run, Outcome]]:
        """What has ended since the last look. A run that left no word is `failed`, with its cause."""

    def news(self) -> list[str]:
        """What a person should know, such as a job that is held; each once."""

    def waits(self, run: Run) -> bool:
        """True for a run that is not on a node, as far as is known."""

    def kill(self, run: Run) -> None:
        """End a run at once; `ended` will have it."""

    def stop(self, times: int) -> bool:
        """Somebody asked to stop, for the `times`-th time. True: the runs end now. False: they go on without us."""

    def close(self) -> None:
        """Let go of the cluster."""


@dataclass
class Sent:
    """A run on its way in a cluster."""

    job: Job
    before: int = 0  # attempts of earlier launches
    born: float | None = None  # monotonic seconds; None: not seen running yet
    progress: Progress | None = None  # of the attempt that runs
    status: Status | None = None
    killed_for: str | None = None  # why we ended it

    @property
    def run(self) -> Run:
        """What is trained."""
        return self.job.run


@dataclass
class _Runner:
    """What a view reads of one that runs."""

    run: Run
    status: Status | None
    born: float


class Watch(Ledger):
    """Sends jobs to a cluster and follows them until each has an outcome; with `wait` off, only sends them."""

    def __init__(
        self,
        cluster: Cluster,
        view: View,
        max_attempts: int = 1,
        heartbeat_limit: float | None = None,
        wait: bool = True,
    ) -> None:
        super().__init__(view, max_attempts, heartbeat_limit)
        self._cluster, self._stay = cluster, wait
        self._sent: dict[Path, Sent] = {}
        self._looked = 0.0
        self._full = 0.0  # monotonic seconds before which nothing is sent
        self._told = False  # that it is full

    def run(self, jobs: Sequence[Job], begun: Callable[[], None]) -> dict[Path, Outcome]:
        """See `Ledger.run`. Raises UserError where the cluster takes none of them."""
        self.waiting.extend(jobs)
        try:
            with self.listening(), self.view:
                self._attach()
                self._send()
                begun()
                if self._stay:
                    self._follow()
        finally:
            self._cluster.close()
        self.waiting.extend(sent.job for sent in self._sent.values())
        for job in self.waiting:
            state = "stopped" if self._stay else "queued"
            self.outcomes[job.run.dir.path] = Outcome(state, job.run.label, LEFT)
        return self.outcomes

    @property
    def active(self) -> bool:
        """See `Ledger.active`."""
        return bool(self._sent)

    def _follow(self) -> None:
        obeyed = 0
        while self._sent or (self.waiting and not self.stops):
            if self.stops > obeyed:
                obeyed = self.stops
                if not self._cluster.stop(self.stops):
                    self._tell()
                    return
                self.view.note("stopping: what runs saves and stops; Ctrl-C again to kill it")
            if not self.stops:
                self._send()
            for run, outcome in self._cluster.ended():
                self._record_outcome(run, outcome)
            self._look()
            time.sleep(TICK)
        if self.stops:
            self.end_waiting()
            self.waiting.clear()

    # --------------------------------------------------------------------------------------------------- sending

    def _attach(self) -> None:
        jobs = {job.run.dir.path: job for job in self.waiting}
        found = [run.dir.path for run in self._cluster.attach([job.run for job in self.waiting])]
        for path in found:
            self._note_sent(jobs.pop(path))
        if found:
            self.view.note(f"{len(found)} runs are queued or running since an earlier launch: not sent again")
        self.waiting.clear()
        self.waiting.extend(jobs.values())

    def _send(self) -> None:
        """Send what is due. Where the cluster is full, the rest waits for what is on its way to end."""
        if time.monotonic() < self._full:
            return
        jobs: list[Job] = []
        while (job := self.next()) is not None:
            jobs.append(job)
        for start in range(0, len(jobs), self._cluster.at_a_time):
            part = jobs[start : start + self._cluster.at_a_time]
            try:
                note = self._cluster.send([job.run for job in part])
            except UserError as error:
                if not self._sent and not self.outcomes:
                    raise
                self._refused(jobs[start:], error)
                return
            for job in part:
                job.attempts += 1
                self._note_sent(job)
            if note:
                self.view.note(note)

    def _refused(self, jobs: Sequence[Job], error: UserError) -> None:
        if not self._sent or not self._stay:  # nothing will make room; or nobody will be there to see it
            for job in jobs:
                self.end(job, Outcome("failed", job.run.label, one_line(error)))
            return
        if not self._told:
            self._told = True
            self.view.note(f"{len(jobs)} runs wait for others to end: {one_line(error)}")
        self._full = time.monotonic() + FULL
        self.waiting.extend(jobs)

    def _note_sent(self, job: Job) -> None:
        status = job.run.dir.read_status()
        self._sent[job.run.dir.path] = Sent(job, status.attempts if status else 0)

    # -------------------------------------------------------------------------------------------------- watching

    def _look(self) -> None:
        """Read the folders; end what hangs; show it all."""
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        running = []
        for sent in self._sent.values():
            status = sent.run.dir.read_status()
            if status is None or status.state != "running":
                sent.status = None
                continue
            if sent.progress is None and is_dead(status):  # of an attempt before this one
                continue
            sent.status = status
            if sent.born is None:
                sent.born = now
                self.view.started(sent.run)
            sent.progress = sent.progress or Progress(now)
            sent.progress.look(status, now)
            if sent.killed_for is None and (hangs := sent.progress.hangs(self.heartbeat_limit, now)):
                if self._cluster.waits(sent.run):  # taken off its node, before it could say so
                    sent.progress = None
                    continue
                sent.killed_for = hangs
                self._cluster.kill(sent.run)
            running.append(_Runner(sent.run, status, sent.born))
        self._tell()
        self.view.tick(running, len(self._sent) - len(running) + len(self.waiting), max(1, len(running)))

    def _tell(self) -> None:
        for text in self._cluster.news():
            self.view.note(text)

    def _record_outcome(self, run: Run, outcome: Outcome) -> None:
        sent = self._sent.pop(run.dir.path)
        status = run.dir.read_status()
        if sent.born is None and status is not None and status.attempts > sent.before and outcome.state != "skipped":
            self.view.started(run)  # between two looks
        if run.dir.is_done:
            outcome = outcome if outcome.state == "skipped" else Outcome("done", run.label)
        elif outcome.state in ("done", "skipped"):
            where = run.dir.path.parent
            error = f"it was trained, but its result is not here: do all nodes see one and the same {where}?"
            outcome = Outcome("failed", run.label, error)
        elif sent.killed_for is not None:
            outcome = Outcome("failed", run.label, sent.killed_for, again=True)
        if outcome.state in ("failed", "stopped"):
            if status is not None and status.state == "running":  # it could not say so itself
                write_end(run, outcome.state, outcome.error, None, sent.before + 1)
            elif status is None and outcome.state == "failed" and run.dir.path.is_dir():
                write_end(run, "failed", outcome.error, None, sent.before + 1)
        self._full = 0.0
        seconds = None if sent.born is None else time.monotonic() - sent.born
        self.judge(sent.job, outcome, seconds)
