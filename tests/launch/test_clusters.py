"""Owns the checks of what Slurm and Ray are asked for, and of the mistakes that are told without them."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tiny
from sweeps import Sweep

from ladder import train
from ladder.errors import UserError
from ladder.launch.ray import RayLauncher
from ladder.launch.slurm import COMMANDS, SlurmLauncher
from ladder.launch.slurm_task import read_word
from ladder.runs.outcome import OUTCOMES
from ladder.training.distributed import srun_ranks


@pytest.fixture
def on_a_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Pretend that submitit and Slurm's commands are here; returns the folder of the latter."""
    submitit = ModuleType("submitit")
    submitit.__spec__ = ModuleSpec("submitit", None)
    monkeypatch.setitem(sys.modules, "submitit", submitit)
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in COMMANDS:
        (commands / name).write_text("#!/bin/sh\nexit 1\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(commands))
    return commands


def refused(sweep: Sweep, launcher: str, *overrides: str) -> str:
    sweep.launcher = (f"hydra/launcher={launcher}",)
    with pytest.raises(UserError) as caught:
        sweep.run("rung=0,1", *overrides)
    assert not sweep.study.exists()
    return str(caught.value)


def test_what_is_not_installed_is_told(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, launcher in (("submitit", "slurm"), ("ray", "ray")):
        monkeypatch.setitem(sys.modules, module, None)
        assert f"pip install 'modernization-ladder[{launcher}]'" in refused(sweep, launcher)


def test_a_machine_without_slurm_is_told(sweep: Sweep, on_a_cluster: Path) -> None:
    (on_a_cluster / "sbatch").unlink()
    assert "needs Slurm's sbatch, which is not on PATH" in refused(sweep, "slurm")


@pytest.mark.usefixtures("on_a_cluster")
@pytest.mark.parametrize(
    ("launcher", "override", "words"),
    [
        ("slurm", "hydra.launcher.timeout_min=0", "timeout_min=0: must be a whole number from 1"),
        ("slurm", "hydra.launcher.timeout_min=2", "signal_delay_s=120: must be less than timeout_min=2"),
        ("slurm", "hydra.launcher.mem_gb=much", "mem_gb=much: must be a number above 0"),
        ("slurm", "hydra.launcher.additional_parameters=a", "additional_parameters: must be a mapping"),
        ("slurm", "hydra.launcher.tasks_per_node=3", "must be a multiple of 3 (hydra.launcher.nodes=1 x"),
        (
            "slurm",
            "hydra.launcher.partitoin=gpu",
            "unknown setting of hydra/launcher=slurm 'partitoin'; did you mean partition",
        ),
        ("ray", "hydra.launcher.num_gpus=-1", "num_gpus=-1: must be a number from 0, or null"),
        ("ray", "hydra.launcher.init=x", "hydra.launcher.init: must be a mapping"),
    ],
)
def test_a_mistake_is_told(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, launcher: str, override: str, words: str
) -> None:
    if launcher == "ray":
        module = ModuleType("ray")
        module.__spec__ = ModuleSpec("ray", None)
        monkeypatch.setitem(sys.modules, "ray", module)
    assert words in refused(sweep, launcher, override)


def test_a_launcher_without_a_sweep_is_told(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep.launcher = ("hydra/launcher=slurm",)
    monkeypatch.setattr(sys, "argv", ["ladder.train", *sweep.command("rung=0")[1:]])
    OUTCOMES.clear()
    assert train.main() == 2
    assert "hydra/launcher=slurm is for sweeps" in capsys.readouterr().err
    assert not sweep.study.exists()


def test_what_a_slurm_job_asks_for(tmp_path: Path) -> None:
    def asked(*overrides: str, **launcher: Any) -> dict[str, Any]:
        return SlurmLauncher(**launcher).parameters([tiny.run_of(tmp_path, "data.loader=memory", *overrides)])

    plain = asked("device=auto")
    assert (plain["gpus_per_node"], plain["tasks_per_node"], plain["cpus_per_task"]) == (1, 1, 2)
    assert plain["slurm_additional_parameters"] == {"requeue": True}
    assert "slurm_partition" not in plain and "mem_gb" not in plain
    assert "gpus_per_node" not in asked("device=cpu")
    assert asked("device=auto", tasks_per_node=8, nodes=2)["gpus_per_node"] == 8
    assert asked("device=auto", gpus_per_node=0).get("gpus_per_node") is None
    assert asked("data.loader=timm", "data.workers=10")["cpus_per_task"] == 12
    assert asked("engine.threads=16")["cpus_per_task"] == 16
    wished = asked(partition="gpu", mem_gb=64, cpus_per_task=3, additional_parameters={"requeue": False})
    assert (wished["slurm_partition"], wished["mem_gb"], wished["cpus_per_task"]) == ("gpu", 64, 3)
    assert wished["slurm_additional_parameters"] == {"requeue": False}


def test_what_a_ray_task_asks_for(tmp_path: Path) -> None:
    def asked(resources: dict[str, float], device: str = "auto", **launcher: Any) -> float:
        runs = [tiny.run_of(tmp_path, f"device={device}")]
        found: float = RayLauncher(**launcher)._options(runs, {"CPU": 8, **resources})["num_gpus"]
        return found

    assert asked({}) == 0
    assert asked({"GPU": 4}) == 1
    assert asked({"GPU": 4}, device="cpu") == 0
    assert asked({"GPU": 4}, num_gpus=0.25) == 0.25
    with pytest.raises(UserError, match="Ray has 0 GPUs"):
        asked({}, num_gpus=0.25)
    with pytest.raises(UserError, match="Ray has 8 CPUs"):
        asked({}, num_cpus=9)


def test_the_ranks_of_srun() -> None:
    step = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "20123"}
    ranks = srun_ranks({**step, "SLURM_STEP_NODELIST": "gpu7"})
    assert (ranks["RANK"], ranks["WORLD_SIZE"], ranks["LOCAL_RANK"]) == ("3", "4", "1")
    assert (ranks["MASTER_ADDR"], ranks["MASTER_PORT"]) == ("gpu7", "12123")
    assert srun_ranks({**step, "CUDA_VISIBLE_DEVICES": "0,1"})["LOCAL_RANK"] == "1"
    assert srun_ranks({**step, "CUDA_VISIBLE_DEVICES": "1"})["LOCAL_RANK"] == "0", "Slurm shows each its own GPU"
    assert srun_ranks({**step, "WORLD_SIZE": "2"}) == {}, "torchrun has the last word"
    assert srun_ranks({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) == {}, "a batch script that did not call srun"
    assert srun_ranks({**step, "SLURM_STEP_NUM_TASKS": "1"}) == {}
    assert srun_ranks({}) == {}


def test_no_word_and_half_a_word_are_none(tmp_path: Path) -> None:
    assert read_word(tmp_path / "0.json") is None
    (tmp_path / "0.json").write_text('{"state": "do')
    assert read_word(tmp_path / "0.json") is None
