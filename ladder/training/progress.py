"""Owns what one run shows while it trains: a live bar in a terminal, lines in train.log, quiet elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from pathlib import Path
from typing import Any, TextIO, cast

from ladder.common.streams import Steady


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss.

    >>> duration(3661), duration(59.6)
    ('1:01:01', '1:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def in_words(seconds: float) -> str:
    """A time with its unit, to two digits or whole minutes: what a reader plans with.

    >>> in_words(42.4), in_words(2343), in_words(9900), in_words(400000)
    ('42 s', '39 min', '2.8 h', '111 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 10 else f"{hours:,.0f} h"


def open_log(path: Path, name: str) -> logging.Logger:
    """A logger that appends to `path` and nowhere else."""
    logging.raiseExceptions = False  # W&B's logs too: on a full disk they would print a traceback for each line
    logger = logging.getLogger(f"ladder.run.{name}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    close_log(logger)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger.addHandler(handler)
    return logger


def close_log(logger: logging.Logger) -> None:
    """Close the file behind a logger of `open_log`."""
    for handler in list(logger.handlers):
        with contextlib.suppress(OSError):  # a full disk
            handler.close()
        logger.removeHandler(handler)


class Pace:
    """Seconds that a run has left, from those that its steps and evaluations took so far.

    Before the first evaluation an image of it counts as a third of one in training, which goes through the network
    forwards and, at twice the price, backwards.
    """

    def __init__(self, batch_size: int, eval_size: int) -> None:
        self._first = eval_size / batch_size / 3  # steps that an evaluation takes
        self._steps = self._evaluations = 0
        self._since = time.monotonic()
        self._evaluating = 0.0  # seconds, whole evaluations

    def stepped(self) -> None:
        """A step is taken."""
        self._steps += 1

    def evaluated(self, seconds: float) -> None:
        """The split is evaluated."""
        self._evaluations += 1
        self._evaluating += seconds

    def left(self, steps: int, evaluations: float, evaluating: float = 0.0) -> float | None:
        """Seconds for so many steps and evaluations more; None before the first step here.

        `evaluating`: seconds of a present evaluation, so far.
        """
        if not self._steps:
            return None
        step = (time.monotonic() - self._since - self._evaluating - evaluating) / self._steps
        each = self._evaluating / self._evaluations if self._evaluations else self._first * step
        return step * steps + each * evaluations


class Bar:
    """A bar per epoch on a terminal's stderr: loss, top-1, images/s, time left. Silent elsewhere."""

    def __init__(self, epochs: int, steps_per_epoch: int, quiet: bool = False) -> None:
        self._progress: Any = None
        self._epochs, self._steps = epochs, steps_per_epoch
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            console = Console(file=cast(TextIO, Steady(sys.stderr)))
            self._progress = Progress(
                TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.fields[text]}"), console=console
            )
            self._progress.start()
            self._task: Any = None

    def start_epoch(self, epoch: int, step: int) -> None:
        """Begin the bar of an epoch (from 0) at a step."""
        if self._progress is not None:
            width = len(str(self._epochs))
            self._task = self._progress.add_task(
                f"epoch {epoch + 1:{width}}/{self._epochs}", total=self._steps, completed=step, text=""
            )
            self._since = time.monotonic()

    def update(self, step: int, loss: float, images_per_s: float, left: float | None) -> None:
        """Show a step (of the epoch), the mean loss so far, the speed and the seconds left of the run."""
        if self._progress is not None:
            text = f"loss {loss:.3f}  {images_per_s:,.0f} images/s{_left(left)}"
            self._progress.update(self._task, completed=step, text=text)

    def evaluate(self, part: float, left: float | None) -> None:
        """Show how much of the evaluation is done, from 0 to 1."""
        if self._progress is not None:
            text = f"evaluating, {100 * part:.0f}%{_left(left)}"
            self._progress.update(self._task, completed=round(part * self._steps), text=text)

    def end_epoch(self, loss: float, top1: float | None, images_per_s: float, left: float | None) -> None:
        """Complete the bar with the epoch's figures; top1 None: not evaluated."""
        if self._progress is not None:
            evaluated = "" if top1 is None else f"top-1 {top1:.2f}  "
            text = f"loss {loss:.3f}  {evaluated}{images_per_s:,.0f} images/s{_left(left)}"
            self._progress.update(self._task, completed=self._steps, text=text)

    def close(self) -> None:
        """Give the terminal back."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"  {duration(seconds)} left"
