"""Owns the cluster that the tests of the Slurm launcher share, and what its runs come to elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from slurm_cluster import SlurmCluster, missing
from sweeps import Sweep, finish

OPTIONS = ("hydra/launcher=slurm", "hydra.launcher.poll_s=0.5", "hydra.launcher.cpus_per_task=1")


@pytest.fixture(scope="session")
def cluster() -> Iterator[SlurmCluster]:
    """A Slurm of one node that gives away two CPUs."""
    why = missing() or (None if find_spec("submitit") else "no submitit: pip install submitit")
    if why is not None:
        pytest.skip(f"no Slurm: {why}")
    with SlurmCluster(cpus=2) as made:
        yield made


@pytest.fixture
def sweep(cluster: SlurmCluster, tmp_path: Path) -> Iterator[Sweep]:
    """A sweep in Slurm; no launcher and no job of it is left at the end."""
    made = Sweep(tmp_path / "sweep", launcher=OPTIONS, environment=cluster.environment)
    yield made
    made.kill()
    cluster.cancel_all()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the 13 rungs come to on this machine, without Slurm, when nothing happens."""
    made = Sweep(tmp_path_factory.mktemp("undisturbed"))
    done = finish(made.start("rung=range(13)"))
    assert done.code == 0, done.out + done.err
    return made.figures()
