"""Owns the checks of what a launcher decides about runs in a cluster, with a cluster that does as it is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import tiny

from ladder.errors import UserError
from ladder.launch import watch
from ladder.launch.jobs import Job, Progress
from ladder.launch.view import LEFT, View
from ladder.launch.watch import Watch
from ladder.runs.folder import Status
from ladder.runs.outcome import Outcome
from ladder.runs.resolve import Run


class Cluster:
    """Has `room` for runs; they end as `ends` says, one outcome an attempt."""

    def __init__(self, room: int = 99, ends: Sequence[str] = ("failed",), at_a_time: int = 99) -> None:
        self.room, self.ends, self.at_a_time = room, ends, at_a_time
        self.sendings: list[list[str]] = []
        self.inside: list[Run] = []
        self.told = ["news"]
        self.closed = False

    def attach(self, runs: Sequence[Run]) -> list[Run]:
        return [run for run in runs if run in self.inside]

    def send(self, runs: Sequence[Run]) -> str:
        if len(self.inside) + len(runs) > self.room:
            raise UserError("the cluster is full")
        self.sendings.append([run.rung.name for run in runs])
        self.inside += runs
        return ""

    def ended(self) -> list[tuple[Run, Outcome]]:
        if not self.inside:
            return []
        run = self.inside.pop(0)
        attempt = sum(run.rung.name in names for names in self.sendings)
        end = self.ends[min(attempt, len(self.ends)) - 1]
        return [(run, Outcome(end.split()[0], run.label, "a cause", again="again" in end))]

    def news(self) -> list[str]:
        told, self.told = self.told, []
        return told

    def waits(self, run: Run) -> bool:
        return False

    def kill(self, run: Run) -> None:
        raise AssertionError("nothing hangs here")

    def stop(self, times: int) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "TICK", 0)
    monkeypatch.setattr(watch, "LOOK", 0)
    monkeypatch.setattr(watch, "FULL", 0)


def jobs(folder: Path, *rungs: str) -> list[Job]:
    return [Job(tiny.run_of(folder, f"rung={rung}")) for rung in rungs]


def follow(cluster: Cluster, todo: list[Job], attempts: int = 1, wait: bool = True) -> list[tuple[str, str | None]]:
    begun: list[int] = []
    view = View("runs/tiny", len(todo), 0, terminal=False)
    outcomes = Watch(cluster, view, attempts, None, wait).run(todo, lambda: begun.append(len(cluster.inside)))
    assert cluster.closed and len(begun) == 1
    return [(outcomes[job.run.dir.path].state, outcomes[job.run.dir.path].error) for job in todo]


def test_what_may_succeed_another_time_is_sent_again(tmp_path: Path) -> None:
    cluster = Cluster(ends=["failed again", "failed again", "failed again"])
    assert follow(cluster, jobs(tmp_path, "gelu"), attempts=2) == [("failed", "a cause")]
    assert cluster.sendings == [["gelu"], ["gelu"]]
    cluster = Cluster(ends=["failed", "done"])
    assert follow(cluster, jobs(tmp_path, "gelu"), attempts=2) == [("failed", "a cause")]
    assert cluster.sendings == [["gelu"]]


def test_a_word_is_not_believed_without_a_result(tmp_path: Path) -> None:
    (outcome,) = follow(Cluster(ends=["done"]), jobs(tmp_path, "gelu"))
    assert outcome[0] == "failed" and "do all nodes see" in str(outcome[1])


def test_a_full_cluster_gets_the_rest_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster(room=2, at_a_time=2)
    todo = jobs(tmp_path, "0", "1", "2", "3")
    assert follow(cluster, todo) == [("failed", "a cause")] * 4
    assert [len(names) for names in cluster.sendings] == [2, 2]
    out = capsys.readouterr().out
    assert out.count("2 runs wait for others to end: the cluster is full") == 1
    assert "news" in out


def test_a_cluster_that_takes_nothing_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="full"):
        follow(Cluster(room=0), jobs(tmp_path, "gelu"))


def test_without_waiting_what_was_sent_is_left_and_what_was_refused_is_told(tmp_path: Path) -> None:
    todo = jobs(tmp_path, "0", "1", "2")
    cluster = Cluster(room=2, at_a_time=2)
    assert follow(cluster, todo, wait=False) == [("queued", LEFT), ("queued", LEFT), ("failed", "the cluster is full")]


def test_what_an_earlier_launch_has_sent_is_not_sent_again(tmp_path: Path) -> None:
    todo = jobs(tmp_path, "0", "1")
    cluster = Cluster()
    cluster.inside.append(todo[1].run)
    assert follow(cluster, todo, wait=False) == [("queued", LEFT)] * 2
    assert cluster.sendings == [["resnet"]]


def test_the_folder_of_a_run_that_left_no_word_says_why(tmp_path: Path) -> None:
    (job,) = jobs(tmp_path, "gelu")
    job.run.dir.create()
    job.run.dir.write_status(Status(state="running", attempts=1))
    follow(Cluster(), [job])
    status = job.run.dir.read_status()
    assert status is not None and (status.state, status.error, status.attempts) == ("failed", "a cause", 1)


@pytest.mark.parametrize("began", [True, False])
def test_a_run_that_ends_between_two_looks_is_said_to_have_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], began: bool
) -> None:
    (job,) = jobs(tmp_path, "gelu")
    job.run.dir.create()
    job.run.dir.write_status(Status(state="stopped", attempts=1))

    class Quick(Cluster):
        def ended(self) -> list[tuple[Run, Outcome]]:
            if began and self.inside:
                job.run.dir.write_status(Status(state="stopped", attempts=2))
            return super().ended()

    assert follow(Quick(ends=["stopped"]), [job]) == [("stopped", "a cause")]
    told = [line.split("]")[1].split()[0] for line in capsys.readouterr().out.splitlines() if "gelu-s0" in line]
    assert told == ["started", "stopped"][not began :]


def test_a_hang_is_told_by_steps_not_by_the_heartbeat() -> None:
    progress = Progress(since=0.0)
    assert progress.hangs(None, 1e9) is None, "null: never"
    assert progress.hangs(30, 30.0) is None
    assert "no step for 30 s" in str(progress.hangs(30, 31.0)), "one that never began"
    progress.look(Status(progress=5.0, slowest=2.0, heartbeat=5.0), 31.0)
    assert progress.hangs(30, 60.0) is None
    progress.look(Status(progress=5.0, slowest=2.0, heartbeat=60.0), 60.0)
    assert progress.hangs(30, 62.0) is not None, "it beats, and does not get on"


def test_steps_longer_than_the_limit_are_no_hang() -> None:
    progress = Progress(since=0.0)
    progress.look(Status(progress=100.0, slowest=100.0), 100.0)
    assert progress.hangs(30, 100.0 + 3 * 100) is None
    assert "no step for 300 s" in str(progress.hangs(30, 100.0 + 3 * 100 + 1))
