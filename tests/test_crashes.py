"""Test processes that crash: every other test still runs, and one that can't is named."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CRASHING = """
import os, signal, pytest

@pytest.mark.parametrize("i", range(3))
def test_crash(i):
    os.kill(os.getpid(), signal.SIGABRT)

@pytest.mark.parametrize("i", range(9))
def test_sound(i):
    pass
"""
NAMES = [f"test_crashing.py::test_{kind}[{i}]" for kind, count in (("crash", 3), ("sound", 9)) for i in range(count)]


def run_pytest(tmp_path: Path, restarts: int) -> subprocess.CompletedProcess[str]:
    shutil.copy(Path(__file__).parent / "conftest.py", tmp_path)
    (tmp_path / "test_crashing.py").write_text(CRASHING)
    options = ["-v", "-n", "1", "--dist", "worksteal", "--max-worker-restart", str(restarts), "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400)


def test_tests_beside_one_that_crashes_run(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, 100)
    assert "3 failed, 9 passed" in done.stdout and "did not run" not in done.stdout
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "--max-worker-restart 100" in (Path(__file__).parents[1] / "Makefile").read_text()


def test_tests_that_did_not_run_are_named(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, 1)
    assert done.returncode != pytest.ExitCode.OK
    before, found, after = done.stdout.partition("tests did not run")
    missed = [line for line in after.splitlines() if line in NAMES]
    ran = [name for name in NAMES if f"FAILED {name}" in before or f"PASSED {name}" in before]
    assert found and missed and sorted(missed + ran) == sorted(NAMES)
