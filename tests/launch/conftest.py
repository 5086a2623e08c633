"""Owns the fixtures of tests of launchers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
from sweeps import RUNGS, Sweep, is_alive


@pytest.fixture(autouse=True, scope="module")
def _own_fork_server() -> None:
    """Python has one fork server a process: one that other tests started knows nothing of faults and preloads.

    It is killed: asked to end, it would first wait for whatever process has inherited its life line.
    """
    server = forkserver._forkserver  # type: ignore[attr-defined]
    if server._forkserver_pid is not None:
        os.kill(server._forkserver_pid, signal.SIGKILL)
    server._stop()


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    """A sweep in an empty folder; what still runs at the end is killed."""
    made = Sweep(tmp_path / "sweep")
    yield made
    for status in made.statuses().values():
        if status["state"] == "running" and is_alive(status["pid"]):
            os.kill(status["pid"], signal.SIGKILL)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the four rungs come to when nothing happens."""
    made = Sweep(tmp_path_factory.mktemp("undisturbed"))
    done = made.run(f"rung={','.join(RUNGS)}")
    assert done.code == 0, done.out
    figures = made.figures()
    assert len(figures) == len(RUNGS)
    return figures
