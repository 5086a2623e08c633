"""What every command does where its output can't go anywhere: a full disk, a reader that left. Never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ladder.cli import MODULES

ROOT = Path(__file__).resolve().parents[1]
FEW = ("data=digits", "recipe.epochs=1", "recipe.warmup_epochs=0", "data.fraction=0.05", "wandb.mode=disabled")
STUDY = str(ROOT / "runs" / "published" / "demo")
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "cost": ("convnext_mini",),
    "signal": ("convnext_mini",),
    "preview": ("data=digits", "recipe=digits", "data.image_size=32"),
    "plan": ("ladder=convnext_mini", "rung=0,1", "data=digits", "seed=0"),
    "bench": ("ladder=convnext_mini", "rungs=[0]", "batch_size=2", "rounds=1", "device=cpu"),
    "train": ("ladder=convnext_mini", "rung=0", *FEW),
    "figures": (STUDY, "--only", "roadmap", "--formats", "svg", "--out", "out"),
    "report": (STUDY, "--out", "report.html"),
    "classes": (STUDY,),
    "images": (STUDY, "resnet", "gelu", "--out", "images.png"),
    "agreement": (STUDY, "convnext_t"),
    "tuning": (str(ROOT / "runs" / "published" / "cifar10_tuning"),),
    "status": ("study",),
    "export": (STUDY, "--out", "packed"),
    "publish": (STUDY, "--mode", "disabled"),
}


def run(name: str, folder: Path, stdout: int) -> tuple[int, str]:
    """A command's exit code and what it says on its error stream."""
    words = ARGUMENTS.get(name, () if name in ("experiments", "doctor") else (STUDY,))
    if name == "status":  # of runs, not of a packed study
        (folder / "study" / "gelu-s0-00000000").mkdir(parents=True)
        (folder / "study" / "gelu-s0-00000000" / "status.json").write_text('{"format": 1, "state": "failed"}')
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    command = [sys.executable, "-m", "ladder.cli", name, *words]
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=env, cwd=folder, timeout=240)
    return done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("name", MODULES)
def test_a_full_disk_behind_the_output_is_one_line(name: str, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        code, told = run(name, tmp_path, full.fileno())
    errors = [line for line in told.splitlines() if "No space left on device" in line]
    assert "Traceback" not in told and "a bug in" not in told, told
    if name == "train":  # the run matters, not who listens
        assert code == 0 and (tmp_path / "runs").is_dir()
    else:
        assert code != 0 and len(errors) == 1, (code, told)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_a_reader_that_left_ends_a_command_quietly(name: str, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code, told = run(name, tmp_path, writer)
    os.close(writer)
    assert "Traceback" not in told and "a bug in" not in told and "BrokenPipe" not in told, told
    assert code in ((0,) if name == "train" else (0, 141)), (code, told)
