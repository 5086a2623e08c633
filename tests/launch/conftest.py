"""Owns the fixtures of tests of launchers."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sweeps import RUNGS, Sweep, end_fork_server, is_alive


@pytest.fixture(autouse=True, scope="module")
def _own_fork_server() -> None:
    end_fork_server()


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    """A sweep in an empty folder; what still runs at the end is killed."""
    made = Sweep(tmp_path / "sweep")
    yield made
    for status in made.statuses().values():
        if status["state"] == "running" and is_alive(status["pid"]):
            with contextlib.suppress(ProcessLookupError):
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
