"""Owns how runs end: the outcome of each, its exit code, and the flag by which a signal asks a run to save and stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

NOT_STARTED = "not started"  # the cause of a run that a stopped sweep did not come to
STOPPED = 75  # exit code; EX_TEMPFAIL: try again later


@dataclass(frozen=True)
class Outcome:
    """How a run ended: done, skipped (was done before), stopped (resumable), failed, or refused (a mistake in it)."""

    state: str
    label: str
    error: str | None = None
    again: bool = False  # a failure that another attempt may survive (a NaN or a mistake would only come again)

    @property
    def exit_code(self) -> int:
        """The process's exit code for this outcome."""
        return {"failed": 1, "refused": 2, "stopped": STOPPED}.get(self.state, 0)


OUTCOMES: list[Outcome] = []  # of the runs that this process answers for; launchers add those of their children


class StopFlag:
    """Set by SIGTERM, SIGUSR1, Ctrl-C or `more` signals: save and stop. A second Ctrl-C stops at once."""

    def __init__(self, *more: signal.Signals) -> None:
        self.signal: str | None = None
        self._numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, *more)

    def __call__(self) -> bool:
        return self.signal is not None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number).name

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Listen to the signals within the block (in the main thread; elsewhere do nothing)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {n: signal.signal(n, self._handle) for n in self._numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
