"""Owns the two moves of one run: from a composed config to a run, and from a run to its outcome."""

from __future__ import annotations

from typing import Any

from ladder.networks.timm_hook import without_wandb
from ladder.runs.outcome import Outcome, StopFlag


def prepare(cfg: Any) -> Any:
    """The run that a composed config describes. Raises UserError."""
    with without_wandb():
        from ladder.runs.resolve import resolve

        return resolve(cfg).settled()


def execute(run: Any) -> Outcome:
    """Train a run, resuming it where it was cut off; its folder tells the story. A failed run is an outcome.

    Raises UserError only where the folder can't be used at all (unwritable, another process in it, another format).
    """
    with without_wandb():
        from ladder.runs.session import train_run

    stop = StopFlag()
    with stop.installed():
        return train_run(run, stop)
