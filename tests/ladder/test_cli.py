"""What a person gets who types something wrong: one line, the right exit code, nothing half-written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tiny import TINY

from ladder import train
from ladder.errors import run_cli

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs `ladder train ARGUMENTS` in this process, in an empty folder: exit code, stdout, stderr."""

    def run(*arguments: str, tiny: bool = True) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["ladder.train", *(TINY if tiny else ()), *arguments])
        monkeypatch.setattr(train, "OUTCOMES", [])
        monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
        with pytest.raises(SystemExit) as ended:
            run_cli(train.main)
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


def images(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (200, 10, 10)).save(root / name)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rung=99"], "rung 99 of convnext_32: allowed are 0 to 12"),
        (["rung=-1"], "rung -1"),
        (["rung=gleu"], "did you mean gelu?"),
        (["seed=abc"], "seed=abc"),
        (["seed=-1"], "seed=-1"),
        (["sed=1"], "did you mean seed"),
        (["ladder=convnext_33"], "did you mean convnext_32"),
        (["recipe=digit"], "did you mean digits"),
        (["data=digit"], "did you mean digits"),
        (["experiment=demi"], "did you mean demo"),
        (["recipe.epoch=1"], "did you mean epochs"),
        (["recipe.epochs=many"], "recipe.epochs=many"),
        (["recipe.lr=-1"], "recipe.lr"),
        (["spec.kernal_size=5"], "did you mean kernel_size"),
        (["spec.kernel_size=4"], "odd"),
        (["steps=[gellu]"], "did you mean gelu"),
        (["rung=3", "steps=[gelu]"], "exclude each other"),
        (["study=a/b"], "study="),
        (["device=tpu"], "allowed: auto, cpu"),
        (["wandb.mode=maybe"], "online, offline, disabled"),
        (["engine.precision=int8"], "float32, bf16, fp16"),
        (["data=imagefolder", "data.root=nowhere"], "nowhere"),
        (["data.image_size=4"], "data.image_size=4"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(command: Command, tmp_path: Path, arguments: list[str], says: str) -> None:
    code, out, err = command(*arguments)
    assert says in err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err + out
    assert code == 2
    assert not (tmp_path / "runs").exists()


def test_a_class_folder_without_images(command: Command, tmp_path: Path) -> None:
    images(tmp_path / "set", "train/a/1.png", "train/b/1.png", "test/a/1.png")
    (tmp_path / "set/test/b").mkdir()
    code, _, err = command("data=imagefolder", "data.root=set", "recipe.batch_size=2")
    assert (code, err.count("\n")) == (2, 1), err
    assert "test/b" in err
    assert not (tmp_path / "runs").exists()


def test_an_image_that_cannot_be_decoded(command: Command, tmp_path: Path) -> None:
    images(tmp_path / "set", *(f"{split}/{c}/{i}.png" for split in ("train", "test") for c in "ab" for i in range(4)))
    (tmp_path / "set/train/b/2.png").write_bytes(b"no image")
    code, _, err = command("data=imagefolder", "data.root=set", "recipe.batch_size=2", "data.loader=memory")
    assert (code, err.count("\n")) == (2, 1), err
    assert "train/b/2.png" in err
    assert not (tmp_path / "runs").exists()


def test_an_unwritable_runs_dir(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = command("runs_dir=file/runs")
    assert (code, err.count("\n")) == (2, 1), err
    assert "file/runs" in err


def test_a_run_folder_of_another_format(command: Command, tmp_path: Path) -> None:
    assert command("recipe.epochs=1")[0] == 0
    (status,) = (tmp_path / "runs").glob("*/*/status.json")
    status.write_text(status.read_text().replace('"format": 1', '"format": 7'))
    code, _, err = command("recipe.epochs=1")
    assert (code, err.count("\n")) == (2, 1), err
    assert "format 7" in err


def test_a_run_says_where_it_is(command: Command, tmp_path: Path) -> None:
    code, out, err = command("rung=gelu", "recipe.epochs=1")
    assert (code, err) == (0, "")
    assert out.startswith("done runs/default/gelu-s0-")
    assert command("rung=gelu", "recipe.epochs=1")[1].startswith("skipped runs/default/gelu-s0-")


def test_a_failed_run_is_exit_code_1(command: Command) -> None:
    code, _, err = command("rung=gelu", "recipe.lr=1e30", "recipe.warmup_epochs=0")
    assert code == 1
    assert "not finite at step" in err
    assert err.count("\n") == 1


def test_help_lists_the_choices(command: Command) -> None:
    code, out, _ = command("--help", tiny=False)
    assert code == 0
    for name in ("convnext_t", "digits", "demo", "kernel_size", "batch_size"):
        assert name in out
