"""Owns the tests of what all commands share: one name, one list, fast help, mistakes in one line."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

import ladder
from ladder import cli, doctor
from ladder.common.command import Command
from ladder.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
OURS = [name for name in cli.MODULES if name != "train"]


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, cwd=ROOT, env=env)


def main_of(name: str) -> Command:
    found = importlib.import_module(cli.MODULES[name]).main
    assert isinstance(found, Command)
    return found


def test_every_command_is_listed() -> None:
    files = [path for package in ("ladder", "analysis") for path in (ROOT / package).rglob("*.py")]
    commands = [path for path in files if '\nif __name__ == "__main__":' in path.read_text()]
    there = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in commands} - {"ladder.cli"}
    assert there == set(cli.MODULES.values())


@pytest.mark.parametrize("name", OURS)
def test_a_command_has_its_name_help_and_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = main_of(name)
    assert main.name == name
    assert cli.main([name, "--help"]) == 0
    through_ladder = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == through_ladder, "python -m MODULE is the same command"
    assert through_ladder.startswith(f"Usage: ladder {name} ")
    assert f"\n  ladder {name}" in through_ladder, "an example"
    assert "python -m" not in through_ladder
    for parameter in main.params:
        assert getattr(parameter, "help", None), f"{parameter.name} says nothing"


@pytest.mark.parametrize("name", OURS)
def test_an_unknown_option_is_told_in_one_line_that_names_the_others(name: str) -> None:
    with pytest.raises(UserError) as told:
        cli.main([name, "--nonsense"])
    assert "unknown option '--nonsense'" in str(told.value) and "--help" in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tabel"], "unknown command 'tabel'; did you mean table?"),
        (["--verion"], "unknown option '--verion'"),
        (["table", "runs/demo", "--format", "yaml"], "'yaml' is not one of 'text', 'md', 'csv'"),
        (["table", "runs/demo", "--where", "recipe.lr"], "--where recipe.lr: must be KEY=VALUE"),
        (["agreement"], "missing STUDY: a folder of runs"),
        (["images", "a", "b", "c", "d"], "unexpected extra argument"),
        (["export", "runs/demo"], "missing --out"),
        (["cost", "convnext_t", "--image-size", "big"], "'--image-size': 'big' is not a valid integer"),
        (["status", "runs/demo", "--watch=soon"], "'--watch': 'soon' is not a valid float"),
        (["bench", "laddre=convnext_t"], "did you mean ladder?"),
    ],
)
def test_a_mistake_is_one_line_with_what_is_allowed(arguments: list[str], says: str) -> None:
    with pytest.raises(UserError) as told:
        cli.main(arguments)
    assert says in str(told.value)
    assert "\n" not in str(told.value)


def test_a_mistake_ends_with_code_2_and_nothing_but_its_line() -> None:
    done = python("-m", "ladder.cli", "table", "--formt", "md")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: unknown option '--formt'; did you mean --format")
    assert done.stderr.count("\n") == 1


def test_without_arguments_it_shows_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    shown = re.findall(r"^  ladder (\S+)", out, re.M)
    assert shown == ["train", "table", "figures", *cli.MODULES]
    assert cli.main(["--help"]) == 0
    assert capsys.readouterr().out == out
    assert max(len(line) for line in out.splitlines()) <= 100


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, ladder.cli\n"
        f"for arguments in (['--help'], *([name, '--help'] for name in {OURS})):\n"
        "    assert ladder.cli.main(arguments) == 0\n"
        "    heavy = {'torch', 'pandas', 'timm', 'wandb', 'matplotlib', 'hydra'} & set(sys.modules)\n"
        "    assert not heavy, f'{heavy} for {arguments}'\n"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


def test_train_gets_its_arguments_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    from ladder import train

    seen = []
    monkeypatch.setattr(sys, "argv", ["ladder"])
    monkeypatch.setattr(train, "main", lambda: seen.append(sys.argv[1:]) or 75)
    given = ["-m", "ladder=convnext_t", "--config-dir", "a b", "--", "-h", "--cfg=job", "seed=0,1", "--help"]
    assert cli.main(["train", *given]) == 75
    assert seen == [given]


def test_train_composes_as_hydra_does() -> None:
    arguments = ["ladder=convnext_32", "data=digits", "seed=3", "--cfg", "job", "--package", "recipe"]
    ours = python("-m", "ladder.cli", "train", *arguments)
    theirs = python("-m", "ladder.train", *arguments)
    assert ours.returncode == theirs.returncode == 0, ours.stderr
    assert ours.stdout == theirs.stdout and "lr:" in ours.stdout


def offered(*words: str) -> list[str]:
    """What a shell offers for the last word."""
    *before, incomplete = words
    shell = ShellComplete(cli._ladder, {}, "ladder", cli.COMPLETION)
    return [item.value for item in shell.get_completions(before, incomplete)]


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (["ta"], ["table"]),
        (["table", "x", "--fo"], ["--format"]),
        (["table", "x", "--format", ""], ["text", "md", "csv", "latex", "html", "json"]),
        (["cost", "convnext_"], ["convnext_32", "convnext_b", "convnext_isotropic"]),
        (["train", "-m", "recipe.ep"], ["recipe.epochs=", "recipe.eps="]),
        (["train", "data=cif"], ["data=cifar10", "data=cifar100"]),
        (["train", "data", "=", "cif"], ["cifar10", "cifar100"]),  # bash
        (["train", "seed", "=", "1", "data", "="], ["cifar10", "cifar100", "digits"]),  # bash
        (["train", "ladder=convnext_t", "rung=kernel_1"], ["rung=kernel_11"]),
        (["train", "rung", "=", "kernel_"], ["kernel_7", "kernel_5"]),
        (["plan", "experiment=pap"], ["experiment=paper_b", "experiment=paper_kernel", "experiment=paper_t"]),
        (["preview", "recipe=dig"], ["recipe=digits"]),
        (["train", "ladder=nonsense", "rung="], []),
        (["train", "data=a'b", "recipe=di"], []),
    ],
    ids=" ".join,
)
def test_the_tab_key(words: list[str], first: list[str]) -> None:
    assert offered(*words)[: len(first)] == first


@pytest.mark.parametrize("option", [["--config-dir", "{}"], ["--config-dir={}"]])
def test_completion_knows_a_folder_of_ones_own_ladders(option: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "conf" / "ladder"
    folder.mkdir(parents=True)
    lines = ["name: mine", "title: Mine", "network: roadmap", "image_size: 32"]
    lines += [
        "base: {from: convnext_mini, rung: gelu}",
        "steps:",
        "  - {name: big, title: Big, change: {kernel_size: 9}}",
    ]
    (folder / "mine.yaml").write_text("\n".join(lines))
    given = [word.format(folder.parent) for word in option]
    assert offered("train", *given, "ladder=mi") in (["ladder=mine"], ["mine"])
    assert offered("train", *given, "ladder=convnext_m") in (["ladder=convnext_mini"], ["convnext_mini"])
    assert offered("train", *given, "ladder=mine", "rung=b") in (["rung=big"], ["big"])
    assert offered("train", *given, "ladder=gone", "rung=b") == []


@pytest.mark.parametrize("shell", cli.SHELLS)
def test_completion_is_installed_once(shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    startup = Path(cli.SHELLS[shell][1]).expanduser()
    if shell != "fish":
        startup.write_text("mine")
    assert cli.main(["--install-completion"]) == 0
    once = startup.read_text()
    assert cli.main(["--install-completion", shell]) == 0
    assert startup.read_text() == once
    assert "mine\n" in once or shell == "fish"
    assert cli.COMPLETION in Path(cli.SHELLS[shell][0]).expanduser().read_text()


def test_completion_for_a_shell_that_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/dash")
    with pytest.raises(UserError, match=r"unknown shell 'dash'.*bash, zsh, fish"):
        cli.main(["--install-completion"])


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"ladder {ladder.__version__}\n"


def test_doctor_says_what_is_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "STEP", ("ladder=convnext_tt",))
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    for name in ("python", "torch", "timm", "instructions", "cores", "disk here", "[slurm]"):
        assert re.search(rf"^{re.escape(name)} +\S", out, re.M), name
    assert "BROKEN" not in out
    assert "training step FAILED, exit code 2\nerror: unknown ladder 'convnext_tt'; did you mean convnext_t" in out


@pytest.mark.slow
def test_doctor_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert doctor.train_one_step() is None
    assert not list(tmp_path.iterdir())
