"""Owns the checks of how a process in a cluster waits for a run that another one seems to train."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from pathlib import Path

import pytest

from ladder.launch import task
from ladder.paths import write_atomic
from ladder.runs.folder import HEARTBEAT_LIMIT, RunDir, Status


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "LOOK", 0.1)
    monkeypatch.setattr(task, "PATIENCE", 1.0)


def beat(folder: RunDir, ago: float) -> None:
    """A heartbeat of a process on another host, some seconds ago."""
    status = Status(state="running", heartbeat=time.time() - ago, pid=1, host="elsewhere")
    write_atomic(folder.path / "status.json", json.dumps(dataclasses.asdict(status)))


def test_nobody_is_not_waited_for(tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "run")
    folder.create()
    assert task.free(folder, lambda: False)


def test_the_last_heartbeat_of_a_dead_node_is_waited_out(tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "run")
    folder.create()
    (folder.path / ".lock").touch()
    beat(folder, HEARTBEAT_LIMIT - 0.5)
    assert task.free(folder, lambda: False)
    status = folder.read_status()
    assert status is not None
    assert time.time() - status.heartbeat >= HEARTBEAT_LIMIT, "it could have been alive"


def test_who_goes_on_training_is_left_alone(tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "run")
    folder.create()
    (folder.path / ".lock").touch()
    beat(folder, 1.0)
    over = threading.Event()

    def live() -> None:
        while not over.wait(0.05):
            beat(folder, 0.0)

    other = threading.Thread(target=live)
    other.start()
    try:
        assert not task.free(folder, lambda: False)
    finally:
        over.set()
        other.join()


def test_waiting_ends_when_asked_to_stop(tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "run")
    folder.create()
    (folder.path / ".lock").touch()
    beat(folder, 1.0)
    assert task.free(folder, lambda: True), "and training, which will stop at once, says so"
