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
from ladder.networks.build import build_net
from ladder.networks.rungs import load_ladder
from ladder.networks.weights import save_model

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
        (["recipe=null"], "recipe=null: must be the name of a file; allowed: cifar"),
        (["data=1.5"], "data=1.5: must be the name of a file; allowed: cifar10"),
        (["ladder=-1"], "ladder=-1"),
        (["experiment=[nan]"], "experiment=[nan]: must be the name of a file"),
        (["hydra/launcher=2"], "allowed: local, ray, slurm"),
        (["hydra.launcher.jobs=1"], "unknown setting of hydra/launcher=local 'jobs'; did you mean n_jobs"),
        (["hydra/launcher=basic", "hydra.launcher.n_jobs=1"], "hydra/launcher=basic has no settings"),
        (["--resolve"], "--resolve flag can only be used in conjunction with --cfg"),
        (["-m", "--cfg", "job"], "Only one of"),
        (["--jobs"], "unrecognized arguments: --jobs; see --help"),
        (["--package", "x", "seed=1"], "flags go before or after all KEY=VALUE"),
        (["study=" + "a" * 300], "study="),
        (["seed=" + "9" * 5000], "seed=999"),
        (["recipe.epochs=" + "9" * 400], "recipe.epochs=999"),
        (["epochs=3"], "unknown config key 'epochs'; did you mean recipe.epochs?"),
        (["image_size=3"], "did you mean data.image_size?"),
        (["data.mean=0.5"], "data.mean=0.5: must be a list of numbers: data.mean=[0.5]"),
        (["steps=gelu"], "steps=gelu: must be a list of names, or null: steps=[gelu]"),
        (["recipe.betas=[0.9,x]"], "recipe.betas[1]=x: must be a number"),
        (["recipe.lr=null"], "recipe.lr=null: must be a number"),
        (["data.download=maybe"], "data.download=maybe: must be true or false"),
        (["runs_dir=/x[1]"], """as text: 'runs_dir="/x[1]"'"""),
        (["data.root=/home/josé"], """as text: 'data.root="/home/josé"'"""),
        (["recipe.crop_scale=[0.1"], "its brackets don't match"),
        (["rung"], "'rung': must be KEY=VALUE"),
        (["rung=f(x)"], "Unknown function 'f'"),
        (["~seed"], "seed is not set: give seed=..."),
        (["~recipe"], "recipe.name is not set: give recipe=NAME"),
        (["~recipe.lr"], "~recipe.lr: a key can't be taken out of the config"),
        (["~recipe.clip_grad"], "~recipe.clip_grad: a key can't be taken out of the config"),
        (["data.root=${nothing}"], "data.root: Interpolation key 'nothing' not found"),
        (["study=${oc.env:NOTHING_SET}"], "Environment variable 'NOTHING_SET' not found"),
        (["seed=${runs_dir}"], "Value 'runs' of type 'str' could not be converted to Integer"),
        (["rung=0,1"], "multirun"),
        (["recipe.batch_size=15", "recipe.mixup=0.8"], "an even number of images a micro-batch, not 15"),
        (["rung=resnet", "recipe.batch_size=1"], "BatchNorm needs more than one value a channel"),
        (["recipe.min_lr=1"], "recipe.min_lr=1 is above the applied learning rate"),
        (["weights=nowhere"], "weights=nowhere: No such file or directory; give a run folder"),
        (["weights=/dev/zero"], "weights=/dev/zero: no safetensors file"),
        (
            ["spec.widths=[1000000000,1,1,1]"],
            "spec.widths=[1000000000, 1, 1, 1]: must be whole numbers from 1 to 65,536",
        ),
        (["spec.widths=[65536,65536,65536,65536]", "spec.expansion=64"], "the weights of this network take"),
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


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rung=gelu,resnet", "weights=gelu.safetensors"], "weights=gelu.safetensors: of another network: stages.0"),
        (["rung=resnet,layer_norm", "recipe.batch_size=1"], "BatchNorm needs more than one value a channel"),
        (["recipe.batch_size=16,15", "recipe.cutmix=1"], "an even number of images a micro-batch, not 15"),
        (["spec.widths=[8,8,8,8],[8,8,8,1000000000]"], "must be whole numbers from 1 to 65,536"),
        (["data.mean=0.5,0.4"], "data.mean=0.5: must be a list of numbers: data.mean=[0.5]"),
        (["hydra.launcher=null"], "hydra.launcher"),
        (["rung=range(0,1,0)"], "range() arg 3 must not be zero"),
    ],
)
def test_a_mistake_in_some_runs_is_told_before_any_starts(
    command: Command, tmp_path: Path, arguments: list[str], says: str
) -> None:
    spec = load_ladder("convnext_32").rung("gelu").spec.replace(depths=[1, 1, 1, 1], widths=[4, 4, 8, 8])
    net = build_net(spec, num_classes=7, in_chans=1)  # another classifier is no other network
    save_model(tmp_path / "gelu.safetensors", net, spec, {"num_classes": 7, "in_chans": 1})
    code, out, err = command("-m", *TINY, *arguments, tiny=False)
    assert says in err
    assert (code, err.count("\n"), out) == (2, 1, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gelu.safetensors"]


def test_weights_that_fit_but_for_the_classifier_are_taken(command: Command, tmp_path: Path) -> None:
    spec = load_ladder("convnext_32").rung("gelu").spec.replace(depths=[1, 1, 1, 1], widths=[4, 4, 8, 8])
    about = {"num_classes": 7, "in_chans": 1}
    save_model(tmp_path / "gelu.safetensors", build_net(spec, **about), spec, about)
    assert command("rung=gelu", "weights=gelu.safetensors", "recipe.epochs=1", "recipe.warmup_epochs=0")[0] == 0


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
    assert "\ntraining convnext_32, rung 8 gelu, seed 0; recipe digits" in out and "\ndone runs/default/gelu-s0-" in out
    assert "\nskipped runs/default/gelu-s0-" in command("rung=gelu", "recipe.epochs=1")[1]


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
