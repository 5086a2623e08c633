"""Owns the training of one run in a process that a cluster started: it waits for its turn and always has an outcome."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ladder.errors import UserError
from ladder.launch.child import import_all
from ladder.runs.folder import HEARTBEAT_LIMIT, Busy, RunDir
from ladder.runs.outcome import Outcome
from ladder.runs.resolve import Run

PATIENCE = 60.0  # seconds that a run which another process trains is waited for: it may be about to end
LOOK = 2.0  # seconds between looks at it


def train(run: Run, threads: int, preload: Sequence[str], stop: Callable[[], bool]) -> Outcome:
    """Train `run`; "busy" where another process does, which is alive."""
    import torch

    from ladder.networks.timm_hook import without_wandb

    with without_wandb():
        from ladder.runs.session import train_run
    try:
        import_all(preload)
        if not free(run.dir, stop):
            return Outcome("busy", run.label)
        if run.engine.threads is None:  # else the engine sets it
            torch.set_num_threads(threads)
        return train_run(run, stop)
    except Busy:
        return Outcome("busy", run.label)
    except UserError as error:
        return Outcome("failed", run.label, str(error))


def free(folder: RunDir, stop: Callable[[], bool]) -> bool:
    """Wait until nobody trains this run. False where somebody goes on doing so.

    A node that died leaves a last heartbeat behind, which blocks the run until it is old; one that a cluster gave up
    may go on for a moment.
    """
    began = time.monotonic()
    first = folder.read_status()
    while folder.is_busy and not stop():
        status = folder.read_status()
        alive = status is not None and first is not None and status.heartbeat != first.heartbeat
        if time.monotonic() - began > (PATIENCE if alive else HEARTBEAT_LIMIT + LOOK):
            return False
        time.sleep(LOOK)
    return True
