"""Owns the checks of what a sweep shows: lines without a terminal, a table in one, every failure at the end."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console

from ladder.launch.view import View, _names, summary
from ladder.runs.folder import RunDir, Status
from ladder.runs.outcome import Outcome
from ladder.training.progress import Pace
from ladder.training.reporting import Reporter


class Folder:
    path = Path("runs/demo/gelu-s3-0a")

    def read_status(self) -> Status:
        return Status(top1=91.5)


class Rung:
    name = "gelu"


class Run:
    rung, seed, label, dir = Rung, 3, "gelu-s3-0a", Folder()
    config: ClassVar[dict[str, Any]] = {"recipe": {"lr": 0.004}, "seed": 3}


@dataclass
class Worker:
    """A run on its way, as far as a view reads it."""

    status: Status | None
    born: float
    run: Any = Run


def worker(eta: float | None, age: float = 10.0, step: int = 15, steps: int = 60) -> Any:
    status = Status(epoch=1, epochs=6, step=step, steps=steps, top1=55.25, images_per_s=1234.0, eta_s=eta)
    return Worker(status, time.monotonic() - age)


def test_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    run: Any = Run
    with View("runs/demo", total=10, skipped=2, terminal=False) as view:
        view.started(run)
        view.ended(run, Outcome("done", run.label), 61.0)
        view.ended(run, Outcome("failed", run.label, "a fault"), None)
        view.tick([worker(5.0)], 3, 2)  # nothing new within a minute
    assert capsys.readouterr().out.splitlines() == [
        "[ 2/10] started gelu-s3-0a",
        "[ 3/10] done    gelu-s3-0a  top-1 91.50  1:01",
        "[ 4/10] failed  gelu-s3-0a  a fault",
    ]


def test_news_of_a_long_sweep_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with View("runs/demo", total=10, skipped=0, terminal=False) as view:
        view._news -= 1000
        view.tick([worker(5.0)], 0, 2)
    assert capsys.readouterr().out == "[ 0/10] running gelu s3 1/6; about 0:05 left\n"


def test_the_table_of_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    view = View("runs/demo", total=10, skipped=2, terminal=False)
    starting = Worker(None, time.monotonic())
    console = Console(width=100, record=True)
    console.print(view._table([worker(65.0), starting], 6, 65.0))
    head, titles, first, second = [line.split() for line in console.export_text().splitlines()]
    assert " ".join(head) == "runs/demo: 2 skipped, 2 running, 6 to come; about 1:05 left"
    assert titles == ["run", "epoch", "top-1", "images/s", "left"]
    assert first == ["gelu", "s3", "1.5/6", "55.25", "1,234", "1:05"]
    assert second == ["gelu", "s3", "starting"]


def test_an_evaluation_is_work_too(capsys: pytest.CaptureFixture[str]) -> None:
    busy = worker(5.0)
    busy.status.evaluated = 0.4
    view = View("runs/demo", total=10, skipped=0, terminal=False)
    console = Console(width=100, legacy_windows=False)
    console.print(view._table([busy, Worker(Status(), time.monotonic())], 0, 2))
    shown = capsys.readouterr().out
    assert "2/6, evaluating 40%" in shown and "starting" in shown


def test_the_pace_counts_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = Pace(batch_size=10, eval_size=60)
    assert pace.left(20, 2) is None, "nothing to judge by"
    for _ in range(10):
        now += 1.0
        pace.stepped()
    assert pace.left(20, 2) == pytest.approx(20 + 2 * 2), "60 images forwards are as dear as 20 in training"
    now += 5.0
    pace.evaluated(5.0)
    assert pace.left(20, 2) == pytest.approx(20 + 2 * 5)
    now += 2.0
    assert pace.left(10, 0.5, evaluating=2.0) == pytest.approx(10 + 2.5)


def test_an_evaluation_of_two_networks_runs_once_from_0_to_1(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    status = Status(epochs=5)
    reporter = Reporter(status, None, Pace(10, 30), steps_per_epoch=4, eval_every=2, networks=2)
    assert status.steps == 20
    for step in range(1, 5):
        now += 1.0
        reporter.stepped(1, step)
    assert (status.epoch, status.step) == (1, 8)
    parts = []
    for _ in range(2):
        now += 2.0
        reporter.evaluating(0.5, 2.0)
        parts.append((status.evaluated, status.eta_s))
        now += 2.0
        reporter.evaluated(4.0)
        assert status.evaluated is None
    # 12 steps of a second, and of 3 evaluations (after epochs 2, 4 and 5) of two networks what is not done of them
    assert parts == [(0.25, pytest.approx(12 + 5.5 * 1)), (0.75, pytest.approx(12 + 4.5 * 4))]
    reporter.end_epoch(2, 0.5, 60.0, 100.0)
    assert (status.epoch, status.step, status.top1) == (2, 8, 60.0)
    assert status.eta_s == pytest.approx(12 + 4 * 4)


def test_time_left() -> None:
    view = View("runs/demo", total=10, skipped=0, terminal=False)
    assert view.left([], 5, 2) is None, "nothing is known yet"
    assert view.left([worker(20.0, age=10.0, step=0)], 0, 2) == pytest.approx(20, abs=0.1)
    # one at a time, 30 s each by the only one seen: its 20 s and three more
    assert view.left([worker(20.0, age=10.0, step=0)], 3, 1) == pytest.approx(110, abs=0.5)
    view.seconds = [10.0, 30.0]
    # two at a time, 20 s each: 40 s of work for each place
    assert view.left([worker(20.0), worker(None)], 2, 2) == pytest.approx(40, abs=0.5)


def test_a_resumed_run_does_not_stand_for_a_whole_one() -> None:
    view = View("runs/demo", total=10, skipped=0, terminal=False)
    resumed = worker(20.0, age=10.0, step=80, steps=100)
    # of the run 0.8 was done before: a whole one takes 150 s
    assert view.left([resumed], 1, 1) == pytest.approx(20 + 150, abs=1)
    view.ended(resumed.run, Outcome("done", "a"), 30.0)
    assert view.seconds == [pytest.approx(150)]


def test_the_summary_names_every_failure() -> None:
    outcomes = {
        Path(f"runs/demo/{name}"): Outcome(state, name, error)
        for name, state, error in (("a", "done", None), ("b", "failed", "one"), ("c", "failed", "two"))
    }
    lines = summary("runs/demo", outcomes, "the command").splitlines()
    assert lines[0] == "runs/demo: 1 done, 2 failed"
    assert lines[1:5] == [
        "  failed b: one",
        "         log: runs/demo/b/train.log",
        "  failed c: two",
        "         log: runs/demo/c/train.log",
    ]
    assert "the command" in lines[5]
    done = summary("runs/demo", {Path("my runs/demo/a"): Outcome("done", "a")}, "the command").splitlines()
    where = "'my runs/demo'"
    assert done == ["runs/demo: 1 done", f"What came out: ladder table {where}   as charts: ladder figures {where}"]


def test_in_a_terminal_a_sweep_ends_with_the_first_lines_of_its_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    study = Path(__file__).resolve().parents[2] / "runs" / "published" / "demo"
    lines = summary("demo", {study / "a": Outcome("done", "a")}, "the command").splitlines()
    assert any(line.startswith(" 0 resnet") for line in lines) and len(lines) < 32
    assert lines[-1].startswith("What came out: ladder table ")
    nothing = summary("demo", {tmp_path / "a": Outcome("done", "a")}, "the command").splitlines()
    assert [line for line in nothing if line] == ["demo: 1 done", nothing[-1]]


def test_runs_of_one_rung_and_seed_are_told_apart_by_what_differs() -> None:
    class Faster(Run):
        config: ClassVar[dict[str, Any]] = {"recipe": {"lr": 0.008}, "seed": 3}

    both: Any = [Run, Faster]
    assert _names(both) == ["gelu s3 lr=0.004", "gelu s3 lr=0.008"]
    assert _names(both[:1]) == ["gelu s3"]


def test_what_went_wrong_with_wandb_is_said_once(tmp_path: Path) -> None:
    outcomes = {}
    for name in ("a", "b"):
        RunDir(tmp_path / name).create()
        RunDir(tmp_path / name).write_status(Status(state="done", tracking="W&B is not reached: going on offline"))
        outcomes[tmp_path / name] = Outcome("done", name)
    lines = summary("runs/demo", outcomes, "the command").splitlines()
    assert lines[1] == "  W&B is not reached: going on offline (2 runs, such as a)"


def test_a_sweep_that_was_tracked_offline_names_the_line_that_sends_it(tmp_path: Path) -> None:
    folder = tmp_path / "demo" / "gelu-s0-0a"
    (folder / "wandb" / "offline-run-1").mkdir(parents=True)
    told = summary("demo", {folder: Outcome("done", "gelu-s0-0a")}, "ladder train").splitlines()[-1]
    line = told.removeprefix("To send it to W&B: ").replace("wandb sync", "echo sync")
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout == f"sync {folder}/wandb/offline-run-1\n"
    shutil.rmtree(folder / "wandb")
    assert "wandb" not in summary("demo", {folder: Outcome("done", "gelu-s0-0a")}, "ladder train")
