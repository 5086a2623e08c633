"""Owns the talk with Slurm: job arrays of runs are sent by submitit and found again in the queue by their names.

A study's folder `.slurm/NAME/` belongs to one job array called NAME. `runs.json` in it lists the runs by their number
in the array, and is written before the array is sent. So whoever looks at the study later, also after a launcher that
was killed in the middle of sending, finds in the queue which runs are still to come.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ladder.errors import UserError, one_line
from ladder.launch.slurm_task import Task, main, read_word
from ladder.paths import open_own, strict_json, write_atomic
from ladder.runs.folder import RunDir
from ladder.runs.outcome import Outcome
from ladder.runs.records import read_json_or_none
from ladder.runs.resolve import Run

FOLDER = ".slurm"
LAG = 10.0  # seconds until what a job wrote at its end is surely seen here: file systems of clusters cache
TIMEOUT = 60.0  # seconds that Slurm may take for an answer
SAID = {  # states of jobs that ended without a word, in a person's words
    "OUT_OF_MEMORY": "was killed for taking more memory than asked for: raise hydra.launcher.mem_gb",
    "TIMEOUT": "ran into its time limit before it could save: raise hydra.launcher.signal_delay_s or timeout_min",
    "NODE_FAIL": "lost its node",
    "PREEMPTED": "was preempted",
}
STUCK = re.compile(  # reasons why a job waits that do not pass by themselves, or not soon
    r"(?i)held|hold|PartitionConfig|PartitionDown|PartitionInactive|PartitionNodeLimit|PartitionTimeLimit|BadConstraints"
    r"|ReqNodeNotAvail|InvalidAccount|InvalidQOS|PerJob|NodeDown|are DOWN"
)


@dataclass(frozen=True)
class Entry:
    """A line of the queue."""

    job: str  # 12_3; 12 where it is no array
    state: str  # PENDING, RUNNING, COMPLETING, ...
    reason: str


@dataclass
class Sent:
    """A run in a job array. `missing`: monotonic seconds since when it is not in the queue any more."""

    run: Run
    name: str
    index: int
    job: str = ""
    state: str = "PENDING"  # when it was last seen in the queue
    missing: float | None = None

    @property
    def folder(self) -> Path:
        """Of the job array."""
        return self.run.dir.path.parent / FOLDER / self.name

    @property
    def word(self) -> Path:
        """The file that the job writes last."""
        return self.folder / f"{self.index}.json"

    @property
    def log(self) -> Path:
        """What the job printed before it wrote to the run's own log."""
        return self.folder / f"{self.job}_0_log.err"


class Queue:
    """Slurm, as `ladder.launch.watch.Cluster`."""

    def __init__(
        self,
        parameters: dict[str, Any],
        timeout_min: int,
        array_size: int = 1000,
        preload: Sequence[str] = (),
        poll_s: float = 10.0,
    ) -> None:
        self.at_a_time = array_size
        self._parameters, self._timeout_min, self._preload = parameters, timeout_min, tuple(preload)
        self._poll, self._looked, self._failures = poll_s, 0.0, 0
        self._sent: dict[Path, Sent] = {}
        self._news: list[str] = []
        self._told: set[str] = set()
        self._studies: set[Path] = set()

    def attach(self, runs: Sequence[Run]) -> list[Run]:
        """See `Cluster.attach`."""
        self._studies |= {run.dir.path.parent for run in runs}
        found = [run for study, part in _by_study(runs).items() for run in self._attach(study, part)]
        self._looked = 0.0
        return found

    def _attach(self, study: Path, runs: Sequence[Run]) -> list[Run]:
        names = {path.parent.name: path for path in (study / FOLDER).glob("*/runs.json")}
        wanted = {run.label: run for run in runs if run.dir.path not in self._sent}
        if not names or not wanted:
            return []
        queue = ask_queue(names)
        found = []
        for name, path in names.items():
            for index, label in enumerate((read_json_or_none(path) or {}).get("runs", [])):
                entry = queue.get((name, index))
                if entry is not None and label in wanted:
                    run = wanted.pop(label)
                    self._sent[run.dir.path] = Sent(run, name, index, entry.job)
                    found.append(run)
        return found

    def send(self, runs: Sequence[Run]) -> str:
        """See `Cluster.send`."""
        messages = []
        for study, part in _by_study(runs).items():
            with _alone(study):  # two launchers at once: the second one sees what the first has sent
                other = self._attach(study, part)
                mine = [run for run in part if run not in other]
                if other:
                    messages.append(f"{len(other)} runs have been sent by another launcher meanwhile")
                if mine:
                    messages.append(self._submit(study, mine))
        return "\n".join(messages)

    def _submit(self, study: Path, runs: Sequence[Run]) -> str:
        import submitit

        name = f"ladder-{study.name}-{secrets.token_hex(3)}"
        folder = (study / FOLDER / name).absolute()
        sent = [Sent(run, name, index) for index, run in enumerate(runs)]
        try:
            folder.mkdir(parents=True)
            write_atomic(folder / "runs.json", strict_json({"runs": [run.label for run in runs]}))
            with _outside_of_jobs(), contextlib.redirect_stderr(io.StringIO()):  # submitit prints what it raises
                executor = submitit.AutoExecutor(folder, cluster="slurm")
                executor.update_parameters(name=name, **self._parameters)
                tasks = [Task(s.run, s.word.absolute(), Path.cwd(), self._timeout_min, self._preload) for s in sent]
                jobs = executor.map_array(main, tasks)
        except (OSError, RuntimeError, ValueError) as error:
            _slurm("scancel", f"--name={name}")  # should it have been sent all the same
            shutil.rmtree(folder, ignore_errors=True)
            text = re.sub(r"(sbatch: )?error: ", "", one_line(error))
            raise UserError(f"Slurm did not take the jobs: {text}") from None
        for each, job in zip(sent, jobs, strict=True):
            each.job = job.job_id
            self._sent[each.run.dir.path] = each
        return f"{len(runs)} runs sent to Slurm as job {jobs[0].job_id.partition('_')[0]}, called {name}"

    # ------------------------------------------------------------------------------------------------- following

    def ended(self) -> list[tuple[Run, Outcome]]:
        """See `Cluster.ended`."""
        now = time.monotonic()
        if now - self._looked < self._poll or not self._sent:
            return []
        self._looked = now
        try:
            queue = ask_queue({sent.name for sent in self._sent.values()})
            self._failures = 0
        except UserError as error:  # the controller may be busy, or restarting: the jobs are none the worse for it
            self._failures += 1
            if self._failures == 3:
                self._news.append(f"{error}; asking on")
            return []
        over = []
        for sent in list(self._sent.values()):
            entry = queue.get((sent.name, sent.index))
            if entry is not None:
                sent.job, sent.state, sent.missing = entry.job, entry.state, None
                if STUCK.search(entry.reason) and entry.reason not in self._told:
                    self._told.add(entry.reason)
                    self._news.append(f"Slurm's job {entry.job} does not start: {entry.reason}")
            elif (outcome := self._verdict(sent, now)) is not None:
                over.append((sent.run, outcome))
                del self._sent[sent.run.dir.path]
        return over

    def news(self) -> list[str]:
        """See `Cluster.news`."""
        news, self._news = self._news, []
        return news

    def _verdict(self, sent: Sent, now: float) -> Outcome | None:
        """How a run ended whose job has left the queue; None: wait for its word."""
        label = sent.run.label
        word = _read_anew(sent)
        if word is not None and word.state != "stopped":
            return word
        if sent.run.dir.is_done:
            return Outcome("done", label)
        sent.missing = sent.missing or now
        if word is None and now - sent.missing < LAG:
            return None
        state = _state_of(sent.job)
        if state is None:
            return None
        if not state and sent.state == "PENDING":  # what was cancelled while it waited leaves no trace
            state = "CANCELLED"
        if state.startswith("CANCELLED") or (word is not None and state not in SAID):
            return Outcome("stopped", label, "cancelled" if word is None else word.error)
        how = SAID.get(state) or f"ended{' as ' + state if state else ''} without a word"
        if not sent.run.dir.path.is_dir():
            how += f"; do the nodes see {sent.run.dir.path.parent}?"
        return Outcome("failed", label, f"its Slurm job {sent.job} {how}; it printed {sent.log}", again=True)

    def waits(self, run: Run) -> bool:
        """See `Cluster.waits`."""
        return self._sent[run.dir.path].state == "PENDING"

    def kill(self, run: Run) -> None:
        """See `Cluster.kill`."""
        _slurm("scancel", self._sent[run.dir.path].job)

    def stop(self, times: int) -> bool:
        """Leave the jobs in the queue: that is what a queue is for."""
        names = ",".join(sorted({sent.name for sent in self._sent.values()}))
        self._news.append(f"to cancel the jobs: scancel --name={names}")
        return False

    def close(self) -> None:
        """Remove what job arrays have left behind whose runs are all done."""
        for study in self._studies:
            for path in (study / FOLDER).glob("*/runs.json"):
                labels = (read_json_or_none(path) or {}).get("runs", [])
                if all(RunDir(study / label).is_done for label in labels):
                    shutil.rmtree(path.parent, ignore_errors=True)


def ask_queue(names: Iterable[str]) -> dict[tuple[str, int], Entry]:
    """The jobs of these names that are queued, running or about to end, by name and number in their array.

    Raises UserError where Slurm doesn't answer.
    """
    done = _slurm("squeue", "--noheader", "--array", "--format=%i|%T|%j|%r", f"--name={','.join(sorted(names))}")
    if done.returncode:
        raise UserError(f"Slurm's queue can't be read: {one_line(Exception(done.stderr))}")
    found = {}
    for line in done.stdout.splitlines():
        job, state, name, reason = line.strip().split("|", 3)
        found[name, int(job.partition("_")[2] or 0)] = Entry(job, state, reason)
    return found


def _state_of(job: str) -> str | None:
    """The state of a job that has ended, such as OUT_OF_MEMORY; "" where Slurm knows none, None: it doesn't answer."""
    shown = _slurm("scontrol", "--oneliner", "show", "job", job)
    if shown.returncode and not re.search(r"not found|Invalid job id", shown.stdout + shown.stderr):
        return None
    state = re.search(r"JobState=(\S+)", shown.stdout)
    return state[1] if state else ""


def _slurm(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SQUEUE_")}
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT, env=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", one_line(error))


def _read_anew(sent: Sent) -> Outcome | None:
    """The job's word, past what a network file system may have cached."""
    for folder in (sent.folder, sent.run.dir.path):
        with contextlib.suppress(OSError):
            os.listdir(folder)
    return read_word(sent.word)


def _by_study(runs: Sequence[Run]) -> dict[Path, list[Run]]:
    parts: dict[Path, list[Run]] = {}
    for run in runs:
        parts.setdefault(run.dir.path.parent, []).append(run)
    return parts


@contextlib.contextmanager
def _alone(study: Path) -> Iterator[None]:
    """Hold the study's job arrays for this process."""
    (study / FOLDER).mkdir(parents=True, exist_ok=True)
    lock = study / FOLDER / ".lock"
    with open(open_own(lock), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            if os.listdir(study / FOLDER) == [lock.name] and os.listdir(study) == [FOLDER]:
                shutil.rmtree(study, ignore_errors=True)  # nothing was sent: leave nothing
                with contextlib.suppress(OSError):  # it may hold other studies
                    study.parent.rmdir()


@contextlib.contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Without what Slurm told this process, should it run in a job itself: sbatch would take it for our wishes."""
    ours = {k: v for k, v in os.environ.items() if k.startswith("SLURM_") and k != "SLURM_CONF"}
    for key in ours:
        del os.environ[key]
    try:
        yield
    finally:
        os.environ.update(ours)
