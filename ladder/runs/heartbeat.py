"""Owns the sign of life of a run: `status.json` written from a thread of its own, however long a step takes."""

from __future__ import annotations

import contextlib
import threading
import time

from ladder.runs.folder import RunDir, Status

BEAT = 1.0  # seconds between two writes


class Heartbeat:
    """Writes `status.json` every second until `end`.

    It beats for as long as the process lives, also while the main thread hangs. So `tick` says that training itself
    gets on: `Status.progress` is the time of the last one, `Status.slowest` the longest time between two of them. From
    these a launcher tells a run that hangs from one whose steps are long (`ladder.launch.jobs.Progress`).
    """

    def __init__(self, folder: RunDir, status: Status, active: bool = True) -> None:
        """`active` off: another rank of the run writes, and every call is free."""
        self.status, self._folder, self._active = status, folder, active
        self._ticked: float | None = None  # monotonic seconds
        self._over = threading.Event()
        self._lock = threading.Lock()  # two writers of one file would share its temporary one
        self._thread = threading.Thread(target=self._work, name="heartbeat", daemon=True)
        if active:
            self._thread.start()

    def tick(self) -> None:
        """A step is taken, a batch evaluated, or a checkpoint written."""
        now = time.monotonic()
        if self._ticked is not None:
            self.status.slowest = max(self.status.slowest, now - self._ticked)
        self._ticked, self.status.progress = now, time.time()

    def write(self, durable: bool = False) -> None:
        """Write the status now. Raises OSError."""
        if self._active:
            with self._lock:
                self._folder.write_status(self.status, durable)

    def end(self) -> None:
        """Write no more from the thread: what is written next stays."""
        self._over.set()
        if self._active:
            self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(BEAT):
            with contextlib.suppress(OSError):  # a full disk: a checkpoint that can't be written will say so
                self.write()
