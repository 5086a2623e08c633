"""Owns the sweeps that tests launch on a Ray of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sweeps import RUNGS, Sweep, finish

OPTIONS = ("hydra/launcher=ray", "+hydra.launcher.init.num_cpus=2")


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """A sweep on two CPUs of Ray's."""
    pytest.importorskip("ray", reason="no Ray: pip install ray")
    return Sweep(tmp_path / "sweep", launcher=OPTIONS)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the four rungs come to without Ray, when nothing happens."""
    made = Sweep(tmp_path_factory.mktemp("undisturbed"))
    done = finish(made.start(f"rung={','.join(RUNGS)}"))
    assert done.code == 0, done.out + done.err
    return made.figures()
