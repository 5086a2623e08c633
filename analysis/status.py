"""Owns the command `ladder status`: what of a study is done, running, dead, failed, stopped, to come."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from analysis.compare.overrides import ladder_of
from analysis.read.load import holds_runs
from analysis.read.threads import map_threads
from analysis.show import options
from ladder.common.command import FOLDER, command
from ladder.common.text import printable
from ladder.errors import UserError, run_cli
from ladder.paths import strict_json
from ladder.runs.folder import FORMAT, Status, folders_in, is_dead, is_run, status_in
from ladder.runs.records import Unreadable, read_json, read_json_or_none
from ladder.runs.study import planned
from ladder.training.progress import duration

STATES = ("done", "running", "dead", "failed", "unreadable", "stopped", "pending")
MEANING = {
    "dead": "its process ended without a word; the same launch resumes it",
    "stopped": "saved when asked to stop; the same launch resumes it",
    "pending": "not started yet",
    "unreadable": "its files are broken or of another version; the others are not affected",
}
SHOWN = 12  # names of a state in the text, before "and N more"
NOTIFY_TIMEOUT = 60.0  # seconds
QUIET_S = 120.0  # a launcher starts the next run sooner

EXAMPLES = """examples:
  ladder status runs/demo
  ladder status runs/demo --watch          again every 2 seconds, until all is done or Ctrl-C
  ladder status runs/demo --notify 'curl -d "$LADDER_NEWS" ntfy.sh/my-topic'    of runs that fail, and of the end
  ladder status runs/demo --format json

It reads the run folders alone, so it works from any terminal and host that sees them, while a sweep runs or after.
"""


@dataclass(frozen=True)
class Row:
    """One run. Times in seconds, top1 in percent; None where unknown."""

    run: str  # name of its folder
    state: str
    rung: str | None = None
    seed: int | None = None
    epoch: float | None = None  # epochs done, the present one in part
    epochs: int | None = None
    top1: float | None = None  # after the last whole epoch
    images_per_s: float | None = None
    eta_s: float | None = None
    evaluated: float | None = None  # how much of the present evaluation is done, from 0 to 1; None: it trains
    attempts: int | None = None
    error: str | None = None
    heartbeat_age_s: float | None = None
    host: str | None = None
    pid: int | None = None
    log: str | None = None

    @property
    def name(self) -> str:
        """Short, for a table."""
        return self.run if self.rung is None else f"{self.rung} s{self.seed}"


def _tell(line: str) -> None:
    print(f"skipped {line}", file=sys.stderr)


def read(study: Path, *, on_skip: Callable[[str], None] = _tell) -> list[Row]:
    """The runs of a study: those it was asked for in that order, then others by name. Raises UserError for no study.

    `on_skip` gets a line where the note of what it was asked for can't be read (by default it goes to stderr).
    """
    if not study.is_dir():
        raise UserError(f"no study folder {study}: give one, such as runs/demo")
    if is_run(study):
        raise UserError(f"{study} is one run, not a study: give its parent folder {study.parent}")
    if (study / "results.csv").exists():
        raise UserError(f"{study} is a packed study: nothing runs there; see ladder table {study}")
    try:
        found, others = folders_in(study)
    except OSError as error:
        raise UserError(f"study folder {study}: {error.strerror}") from None
    exists = set(found)
    try:
        asked = planned(study)
    except Unreadable as reason:
        asked = []
        on_skip(printable(f"{study}: {reason}"))
    names = list(dict.fromkeys([*asked, *found]))
    now = time.time()
    rows = map_threads(lambda name: _read(study / name, name in exists, now), names)
    inner = [] if names else others
    if studies := [study / name for name in inner if holds_runs(str(study / name))]:
        raise UserError(f"{study} is a folder of studies, not a study: give one, such as {studies[0]}")
    wanted = set(asked)  # a folder without a status is a run only if somebody asked for it
    return [row for row in rows if row.state != "pending" or row.run in wanted]


def _read(path: Path, exists: bool, now: float) -> Row:
    name = printable(path.name)
    if not exists:
        return Row(name, "pending")
    log = printable(str(path / "train.log"))
    try:
        status, result = status_in(path), read_json(path / "result.json")
        if result is not None:
            result.check_format(FORMAT)
        if status is None:
            return Row(name, "pending" if result is None else "done")
        return _row(name, status, result is not None, now, log)
    except Unreadable as reason:
        return Row(name, "unreadable", error=str(reason), log=log)


def _row(name: str, status: Status, done: bool, now: float, log: str) -> Row:
    state = "done" if done else "dead" if is_dead(status, now) else status.state
    if state == "done" and not done:
        raise Unreadable("status.json says done, but there is no result.json")
    if state not in STATES:
        raise Unreadable(f"status.json: state {state!r:.60}; known are running, stopped, failed, done")
    epoch = status.step / status.steps * status.epochs if status.steps else float(status.epoch)
    return Row(
        run=name,
        state=state,
        rung=status.rung,
        seed=status.seed,
        epoch=round(epoch, 2),
        epochs=status.epochs,
        top1=status.top1,
        images_per_s=status.images_per_s,
        eta_s=status.eta_s if state == "running" else None,
        evaluated=status.evaluated if state == "running" else None,
        attempts=status.attempts,
        error=None if done else status.error,
        heartbeat_age_s=round(max(0.0, now - status.heartbeat), 1),
        host=status.host,
        pid=status.pid,
        log=log,
    )


def counts(rows: Iterable[Row]) -> dict[str, int]:
    """How many runs are in each state, states without runs left out."""
    counter = Counter(row.state for row in rows)
    return {state: counter[state] for state in STATES if counter[state]}


def text(study: Path, rows: Sequence[Row]) -> str:
    """What a person reads."""
    text = ", ".join(f"{n} {state}" for state, n in counts(rows).items())
    lines = [f"{study}: {len(rows)} runs" + (f": {text}" if text else "")]
    by_state = {state: [row for row in rows if row.state == state] for state in STATES}
    if by_state["running"]:
        lines += ["", *_table(by_state["running"])]
    for row in by_state["dead"]:
        ago = duration(row.heartbeat_age_s or 0)
        lines += [
            "",
            f"dead    {row.run}: last heartbeat {ago} ago, pid {row.pid} on {row.host}",
            f"        log: {row.log}",
        ]
    for row in by_state["failed"]:
        lines += ["", f"failed  {row.run}: {row.error}", f"        log: {row.log}"]
    if by_state["unreadable"]:
        lines += ["", *(f"unreadable {row.run}: {row.error}" for row in by_state["unreadable"])]
    for state in ("stopped", "pending"):
        if names := [row.run for row in by_state[state]]:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            lines += ["", f"{state:7} {', '.join(names[:SHOWN])}{more}"]
    explained = [f"{state}: {meaning}" for state, meaning in MEANING.items() if by_state[state]]
    explained += _legend(study, [row.run for row in rows])
    return "\n".join([*lines, *(["", *explained] if explained else [])])


def _legend(study: Path, names: Sequence[str]) -> list[str]:
    """What the numbers in the folders of subsets stand for."""
    for name in names:
        if name.startswith("steps_") and (record := read_json_or_none(study / name / "status.json")):
            ladder = ladder_of(str(record.get("ladder")), [str(study / name)])
            if ladder is not None:
                steps = ", ".join(f"{number} {step.name}" for number, step in enumerate(ladder.steps, 1))
                return [f"steps_: {steps}"]
    return []


def _table(rows: Sequence[Row]) -> list[str]:
    """The running ones, columns aligned."""
    cells = [("running", "epoch", "top-1", "images/s", "left")]
    for row in rows:
        cells.append(
            (
                row.name,
                f"{row.epoch:.1f}/{row.epochs}"
                + (f", evaluating {100 * row.evaluated:.0f}%" if row.evaluated is not None else ""),
                "" if row.top1 is None else f"{row.top1:.2f}",
                "" if row.images_per_s is None else f"{row.images_per_s:,.0f}",
                "" if row.eta_s is None else duration(row.eta_s),
            )
        )
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in cells
    ]


def as_json(study: Path, rows: Sequence[Row]) -> str:
    """What a program reads: `study`, `counts` by state, `runs` with the fields of `Row`."""
    content: dict[str, Any] = {"study": str(study), "counts": counts(rows), "runs": [asdict(row) for row in rows]}
    return strict_json(content, 1)


def news(study: Path, before: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    """What happened between two looks, in a line each: runs that failed, died or were stopped, and the sweep's end."""
    known = {row.run: row.state for row in before}
    bad = [row for row in rows if row.state in ("failed", "dead", "stopped") and known.get(row.run) != row.state]
    lines = [f"{study}: {row.state} {row.run}{f': {row.error}' if row.error else ''}" for row in bad]
    if _over(rows):
        lines.append(f"{study}: " + ", ".join(f"{n} {state}" for state, n in counts(rows).items()))
    return lines


def _over(rows: Sequence[Row]) -> bool:
    return bool(rows) and not {"running", "pending"} & set(counts(rows))


def tell(command: str, line: str) -> None:
    """Run a shell command with the line in LADDER_NEWS; where it fails, say so and go on."""
    try:
        environment = {**os.environ, "LADDER_NEWS": line}
        done = subprocess.run(command, shell=True, env=environment, timeout=NOTIFY_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        print(f"--notify: {command}: ended after {NOTIFY_TIMEOUT:g} s", file=sys.stderr)
        return
    if done.returncode:
        print(f"--notify: {command}: exit code {done.returncode}", file=sys.stderr)


def follow(study: Path, every: float, notify: str | None = None) -> int:
    """Show the text again and again, until nothing is left to wait for, or Ctrl-C; `notify`: a command for news."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    shown, before = "", read(study) if notify else []
    moved: float | None = time.monotonic()  # when a run was last seen to run or to change; None once that was told
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                rows = read(study)
                now = text(study, rows)
                if console.is_terminal:
                    live.update(Text(now), refresh=True)
                elif now != shown:
                    print(now, flush=True)
                shown = now
                for line in news(study, before, rows) if notify else ():
                    tell(str(notify), line)
                if _over(rows):
                    return 0
                if rows != before or "pending" not in counts(rows) or "running" in counts(rows):
                    moved = time.monotonic()
                elif moved is not None and time.monotonic() - moved > QUIET_S:
                    moved = None
                    line = f"{study}: nothing runs; {counts(rows)['pending']} pending wait in a queue, or for a launch"
                    if notify:
                        tell(notify, line)
                    else:
                        live.console.print(line, markup=False, highlight=False, soft_wrap=True)
                before = rows
                time.sleep(every)
        except KeyboardInterrupt:
            return 0


@command("status", examples=EXAMPLES)
@click.argument("study", type=FOLDER, help="folder of runs, such as runs/demo")
@options.output_format("text", "json")
@click.option(
    "--watch", type=float, is_flag=False, flag_value=2.0, metavar="[SECONDS]", help="again every 2 (or SECONDS)"
)
@click.option(
    "--notify",
    metavar="CMD",
    help="a shell command for each run that fails or stops and at the end, the news in $LADDER_NEWS",
)
def main(study: Path, kind: str, watch: float | None, notify: str | None) -> int | None:
    """What of a study is done, running (and how far), dead, failed (and why), stopped, to come."""
    if notify is not None and watch is None:
        watch = 2.0
    if watch is not None:
        if kind != "text":
            raise UserError("--watch and --notify go with --format text")
        if not watch > 0:
            raise UserError(f"--watch {watch:g}: must be seconds above 0")
        return follow(study, watch, notify)
    rows = read(study)
    print(as_json(study, rows) if kind == "json" else text(study, rows))
    return 0


if __name__ == "__main__":
    run_cli(main)
