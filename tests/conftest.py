"""Owns what holds for all tests: no GPU, no deadline for an example of hypothesis, no test that is silently not run."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# before torch looks: a process that forked after it used autograd beside a GPU can't use it
os.environ["CUDA_VISIBLE_DEVICES"] = ""
settings.register_profile("patient", deadline=None)  # a shared machine stalls
settings.load_profile("patient")

# Of the process that hands tests out (pytest-xdist); elsewhere empty.
_collected: dict[str, None] = {}
_reported: set[str] = set()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(ids: list[str]) -> None:
    _collected.update(dict.fromkeys(ids))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _reported.add(report.nodeid)


def _not_run() -> list[str]:
    return [name for name in _collected if name not in _reported]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if _not_run() and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that no process ran: too many of those processes crashed, or the first failure was to stop all."""
    if names := _not_run():
        terminalreporter.section(f"{len(names)} tests did not run", red=True)
        for name in names:
            terminalreporter.line(name)
