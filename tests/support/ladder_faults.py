"""Owns the faults that tests of launchers put into chosen rungs: preloaded by the launcher, never part of the product.

LADDER_FAULTS names a file of lines `RUNG KIND`, read when a run starts, so that a cause can be removed meanwhile.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from ladder.training.engine import Engine

_train_step = Engine._train_step


def _faulty_step(self: Engine, batches: Any) -> None:
    kind = ""
    for line in Path(os.environ["LADDER_FAULTS"]).read_text().splitlines():
        rung, _, what = line.partition(" ")
        if rung == self.run.rung.name:
            kind = what
    if kind == "raise":
        raise RuntimeError("a fault of the test")
    if kind == "exit":
        os._exit(9)
    if kind == "kill" or (kind == "kill once" and not (self.folder.path / "killed").exists()):
        (self.folder.path / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "nan":
        next(self.model.parameters()).data.fill_(float("nan"))
    if kind == "hang":
        (self.folder.path / "hangs").touch()
        time.sleep(3600)
    if kind.startswith("print") and self.step == 0:
        name = kind.split()[1]
        print(f"{name}={os.environ.get(name)}", flush=True)
    if kind.startswith("slow"):
        time.sleep(float(kind.split()[1]))
    _train_step(self, batches)


if os.environ.get("LADDER_FAULTS"):
    Engine._train_step = _faulty_step  # type: ignore[method-assign]
