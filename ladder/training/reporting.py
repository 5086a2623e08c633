"""Owns what a run tells of itself while it trains: progress and time left, in its status and in a terminal's bar."""

from __future__ import annotations

from torch import Tensor

from ladder.runs.folder import Status
from ladder.training.progress import Bar, Pace


class Reporter:
    """Keeps the figures of a `Status`, and shows them in a bar, where there is one."""

    def __init__(
        self, status: Status, bar: Bar | None, pace: Pace, *, steps_per_epoch: int, eval_every: int, networks: int
    ) -> None:
        """`networks`: how many each evaluation is of; `status.epochs` is set."""
        self._status, self._bar, self._pace = status, bar, pace
        self._steps_per_epoch, self._every, self._networks = steps_per_epoch, eval_every, networks
        self._evaluated = 0  # networks, in this epoch
        status.steps = status.epochs * steps_per_epoch

    def at(self, epoch: int, step: int) -> None:
        """So many epochs are done, and so many steps of the next."""
        self._status.epoch, self._status.step = epoch, epoch * self._steps_per_epoch + step

    def begin_epoch(self) -> None:
        """An epoch begins, or goes on."""
        if self._bar is not None:
            self._bar.start_epoch(self._status.epoch, self._step)

    def stepped(self, epoch: int, step: int) -> None:
        """A step is taken."""
        self._pace.stepped()
        self.at(epoch, step)

    def training(self, images_per_s: float, sums: Tensor) -> None:
        """The speed; `sums`, of this epoch: loss times images, images."""
        self._status.images_per_s, self._status.eta_s = images_per_s, self._left()
        if self._bar is not None:
            loss, count = sums.tolist()
            self._bar.update(self._step, loss / max(count, 1), images_per_s, self._status.eta_s)

    def evaluating(self, part: float, seconds: float) -> None:
        """How much of the split the present network has seen, from 0 to 1, and for how long."""
        whole = (self._evaluated + min(part, 1.0)) / self._networks
        self._status.evaluated, self._status.eta_s = whole, self._left(whole, seconds)
        if self._bar is not None:
            self._bar.evaluate(whole, self._status.eta_s)

    def evaluated(self, seconds: float) -> None:
        """A network has seen the whole split."""
        self._evaluated += 1
        self._status.evaluated = None
        self._pace.evaluated(seconds)

    def end_epoch(self, epoch: int, loss: float, top1: float | None, images_per_s: float) -> None:
        """So many epochs are done; top1 None: the last one was not evaluated."""
        self._evaluated = 0
        self.at(epoch, 0)
        self._status.images_per_s, self._status.eta_s = images_per_s, self._left()
        if top1 is not None:
            self._status.top1 = top1
        if self._bar is not None:
            self._bar.end_epoch(loss, top1, images_per_s, self._status.eta_s)

    def close(self) -> None:
        """Give the terminal back."""
        if self._bar is not None:
            self._bar.close()

    @property
    def _step(self) -> int:
        return self._status.step - self._status.epoch * self._steps_per_epoch

    def _left(self, evaluated: float = 0.0, seconds: float = 0.0) -> float | None:
        """Seconds left. `evaluated`: how much of the present evaluation is done; `seconds`: of its present network."""
        status, every = self._status, self._every
        due = status.epochs // every - status.epoch // every
        due += status.epochs % every != 0 and status.epoch < status.epochs
        return self._pace.left(status.steps - status.step, (due - evaluated) * self._networks, seconds)
