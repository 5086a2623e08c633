"""Owns stdout and stderr: printing that never fails, whoever listens."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import Any, TextIO


def say(text: str, error: bool = False) -> None:
    """Print a line at once; to stderr if `error`. Where it can't be printed, that ends nothing: see `Steady`."""
    stream = sys.stderr if error else sys.stdout
    if stream is not None:  # None: closed before Python started
        print(text, file=Steady(stream), flush=True)


class Steady:
    """A stream of text as one that never fails: what it tells of must not depend on who listens.

    A full disk, a reader or a terminal that has gone: from then on it is quiet, and stderr is told why, unless nobody
    reads any more (`... | head`). What its alphabet lacks is written as escapes.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        """All but what is below is the stream's own."""
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write `text`, if that can be."""
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:
            return self.write(text.encode("ascii", "backslashreplace").decode())
        except (OSError, ValueError) as problem:  # ValueError: it has been closed
            self._give_up(problem)
            return len(text)

    def flush(self) -> None:
        """Hand over what is written, if that can be."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as problem:
            self._give_up(problem)

    def _give_up(self, problem: Exception) -> None:
        go_quiet(self._stream)
        gone = not isinstance(problem, OSError) or problem.errno in (errno.EPIPE, errno.EIO)
        if self._stream is sys.stdout and not gone:
            say(f"can't write to stdout ({problem.strerror}): going on", error=True)  # type: ignore[attr-defined]


def go_quiet(stream: TextIO) -> None:
    """Send what a stream still holds, and all to come, nowhere: else Python complains of it at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def open_streams() -> None:
    """Where stdin, stdout or stderr is closed (`>&-`), lead it nowhere: else the next file opened gets its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115
