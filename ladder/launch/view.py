"""Owns what a sweep shows: a live table in a terminal, plain lines elsewhere, and at the end every failure."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO, cast

from ladder.common.nested import flatten
from ladder.common.streams import Steady, say
from ladder.launch.child import LOG
from ladder.runs.folder import RunDir, Status
from ladder.runs.outcome import NOT_STARTED, Outcome
from ladder.runs.resolve import Run
from ladder.training.progress import duration

REFRESH = 4  # a second
LEFT = "left in the queue"  # the cause of a run that goes on, or will, without this launcher
TABLE_LINES, TABLE_S = 24, 60.0  # of the table at the end: its first lines, and seconds to wait for it
NEWS = 60.0  # seconds between lines about the whole sweep, where there is no terminal


class Running(Protocol):
    """A run on its way, as far as a view reads it."""

    @property
    def run(self) -> Run:
        """What is trained."""

    @property
    def status(self) -> Status | None:
        """What its folder said last; None: nothing yet."""

    @property
    def born(self) -> float:
        """When it started, in monotonic seconds."""


class View:
    """Tells of one sweep. A context manager: the terminal is given back at its end."""

    def __init__(self, study: str, total: int, skipped: int, terminal: bool | None = None) -> None:
        self.study, self.total = study, total
        self.counts = Counter({"skipped": skipped} if skipped else {})
        self.seconds: list[float] = []  # that the runs done here take as a whole
        self._begun_at: dict[str, float] = {}  # what part of a run was done before it started here
        self._terminal = sys.stdout.isatty() if terminal is None else terminal
        self._live: Any = None
        self._console: Any = None
        self._news = time.monotonic()

    def __enter__(self) -> View:
        """Take the terminal, if there is one."""
        if self._terminal:
            from rich.console import Console
            from rich.live import Live

            self._console = Console(file=cast(TextIO, Steady(sys.stdout)), highlight=False)
            self._live = Live(console=self._console, refresh_per_second=REFRESH, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    # -------------------------------------------------------------------------------------------------- what came

    def note(self, text: str) -> None:
        """Say something once, above the live table."""
        if self._live is not None:
            self._console.print(text, markup=False)
        else:
            say(text)

    def started(self, run: Run) -> None:
        """A run's process has started."""
        if self._live is None:
            self.note(f"{self._counter()} started {run.label}")

    def ended(self, run: Run, outcome: Outcome, seconds: float | None) -> None:
        """A run has its outcome. `seconds`: how long its process lived."""
        self.counts[outcome.state] += 1
        took = ""
        if seconds is not None:
            took = f"  {duration(seconds)}"
            if outcome.state == "done":
                self.seconds.append(self._whole(run, seconds))
        if outcome.state == "done":
            status = run.dir.read_status()
            what = f"top-1 {status.top1:.2f}" if status is not None and status.top1 is not None else ""
        else:
            what = outcome.error or ""
        if self._live is not None and outcome.state in ("done", "skipped"):
            return  # the table counts it
        self.note(f"{self._counter()} {outcome.state:7} {run.label}  {what}{took}".rstrip())

    def tick(self, workers: Sequence[Running], waiting: int, width: int) -> None:
        """Show the runs that are running; `width` could at a time."""
        left = self.left(workers, waiting, width)
        if self._live is not None:
            self._live.update(self._table(workers, waiting, left))
        elif (workers or waiting) and time.monotonic() - self._news > NEWS:
            self._news = time.monotonic()
            names = _names([w.run for w in workers])
            rows = [f"{n} {_epoch(w.status, 0)}" for n, w in zip(names, workers, strict=True) if w.status]
            self.note(f"{self._counter()} running {', '.join(rows) or 'none yet'}{_about(left)}")

    def left(self, workers: Sequence[Running], waiting: int, width: int) -> float | None:
        """Seconds until the sweep is done, if runs to come take as long as those that were; None: unknown."""
        for w in workers:
            if w.status is not None and w.status.steps:
                self._begun_at.setdefault(w.run.label, w.status.step / w.status.steps)
        known = [(w, w.status.eta_s) for w in workers if w.status is not None and w.status.eta_s is not None]
        etas = [eta for _, eta in known]
        spans = self.seconds or [self._whole(w.run, eta + time.monotonic() - w.born) for w, eta in known]
        if not spans:
            return None
        each = sum(spans) / len(spans)
        running = sum(etas) + each * (len(workers) - len(etas))
        return max([*etas, (running + each * waiting) / max(min(width, len(workers) + waiting), 1)])

    def _whole(self, run: Run, seconds: float) -> float:
        """The seconds that a run takes from its start, by what it took from where it was."""
        return seconds / max(1 - self._begun_at.get(run.label, 0.0), 0.01)

    def _counter(self) -> str:
        ended = sum(self.counts.values())
        return f"[{ended:{len(str(self.total))}}/{self.total}]"

    def _table(self, workers: Sequence[Running], waiting: int, left: float | None) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        parts = [f"{self.counts[s]} {s}" for s in ("done", "skipped", "failed", "stopped") if self.counts[s]]
        parts += [f"{len(workers)} running", f"{waiting} to come"]
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("run", no_wrap=True)
        for name in ("epoch", "top-1", "images/s", "left"):
            table.add_column(name, justify="right", no_wrap=True)
        for worker, name in zip(workers, _names([worker.run for worker in workers]), strict=True):
            status = worker.status
            if status is None:
                table.add_row(name, "starting", "", "", "")
                continue
            table.add_row(
                name,
                _epoch(status, 1),
                "" if status.top1 is None else f"{status.top1:.2f}",
                "" if status.images_per_s is None else f"{status.images_per_s:,.0f}",
                "" if status.eta_s is None else duration(status.eta_s),
            )
        return Group(Text(f"{self.study}: {', '.join(parts)}{_about(left)}", style="bold"), table)


def outline(runs: Sequence[Run]) -> str:
    """What a sweep trains, how and on what, in a line."""

    def each(values: Iterable[object], most: int = 4) -> str:
        found = list(dict.fromkeys(map(str, values)))
        return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")

    networks, seeds = {(run.ladder.name, run.spec) for run in runs}, {run.seed for run in runs}
    words = [
        f"{len(networks)} network{'s' * (len(networks) != 1)} of {each(run.ladder.name for run in runs)}",
        f"{len(seeds)} seed{'s' * (len(seeds) != 1)}",
        f"recipe {each(run.recipe.name for run in runs)}",
        f"epochs {each(run.recipe.epochs for run in runs)}",
        f"batch {each(run.recipe.batch_size for run in runs)}",
        f"data {each(run.data.name for run in runs)}, {each(run.data.image_size for run in runs)} px",
    ]
    return ", ".join(words)


def _epoch(status: Status, digits: int) -> str:
    """How many epochs are done of how many; of an evaluation how much of it."""
    if not status.epochs:
        return "starting"
    if status.evaluated is not None:
        return f"{status.epoch + 1}/{status.epochs}, evaluating {100 * status.evaluated:.0f}%"
    done = status.step / status.steps * status.epochs if status.steps and digits else status.epoch
    return f"{done:.{digits}f}/{status.epochs}"


def _name(run: Run) -> str:
    return f"{run.rung.name} s{run.seed}"


def _names(runs: Sequence[Run]) -> list[str]:
    """Rung and seed of each; where several have the same, also the settings in which they differ (`lr=0.004`)."""
    names = [_name(run) for run in runs]
    out = []
    for name, run in zip(names, runs, strict=True):
        if names.count(name) == 1:
            out.append(name)
            continue
        twins = [flatten(other.config) for other, same in zip(runs, names, strict=True) if same == name]
        mine = flatten(run.config)
        keys = [k for k in mine if k != "study" and any(twin.get(k) != mine[k] for twin in twins)]
        out.append(" ".join([name, *(f"{key.rpartition('.')[2]}={mine[key]}" for key in keys[:3])]))
    return out


def _about(left: float | None) -> str:
    return "" if left is None else f"; about {duration(left)} left"


def summary(study: str, outcomes: Mapping[Path, Outcome], again: str) -> str:
    """The last words on a sweep: how many ended how, and each failure with its cause and its log."""
    counts = Counter(o.error if o.error in (NOT_STARTED, LEFT) else o.state for o in outcomes.values())
    states = ("done", "skipped", "stopped", NOT_STARTED, LEFT, "failed")
    lines = [f"{study}: " + ", ".join(f"{counts[s]} {s}" for s in states if counts[s])]
    lines += _untracked(outcomes)
    for folder, outcome in outcomes.items():
        if outcome.state == "failed":
            lines += [f"  failed {outcome.label}: {outcome.error}", f"         log: {folder / LOG}"]
    if counts[LEFT]:
        lines.append(f"What is queued or running goes on. How far it is: ladder status {study} --watch")
    if counts["failed"] or counts["stopped"] or counts[NOT_STARTED] or counts[LEFT]:
        lines.append(f"To go on, type the same again ({again}): what is done is skipped, what was cut off is resumed.")
    elif counts["done"]:
        studies = list(dict.fromkeys(folder.parent for folder in outcomes))
        places = " ".join(shlex.quote(str(study)) for study in studies)
        if len(studies) == 1 and sys.stdout.isatty():
            lines += ["", *_first_lines(studies[0]), ""]
        lines.append(f"What came out: ladder table {places}   as charts: ladder figures {places}")
        if any(next(folder.glob("wandb/offline-run-*"), None) for folder in outcomes):
            lines.append(f"To send it to W&B: find {places} -name 'offline-run-*' -print0 | xargs -0 -n 100 wandb sync")
    return "\n".join(lines)


def _first_lines(study: Path) -> list[str]:
    """The first lines of the study's table; none where it can't be had in time."""
    command = [sys.executable, "-m", "ladder.cli", "table", str(study)]
    environment = {**os.environ, "COLUMNS": str(shutil.get_terminal_size().columns)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TABLE_S, env=environment, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    lines = done.stdout.splitlines()
    return lines if len(lines) <= TABLE_LINES else [*lines[: TABLE_LINES - 1], "…"]


def _untracked(outcomes: Mapping[Path, Outcome]) -> list[str]:
    """A line for each thing that went wrong with W&B, however many runs met it."""
    found: dict[str, list[str]] = {}
    for folder, outcome in outcomes.items():
        if outcome.state in ("done", "failed", "stopped"):
            status = RunDir(folder).read_status()
            if status is not None and status.tracking:
                found.setdefault(status.tracking, []).append(outcome.label)
    return [f"  {message} ({len(labels)} runs, such as {labels[0]})" for message, labels in found.items()]
