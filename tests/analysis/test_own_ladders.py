"""Ladders that do not come with the project: trained, found again by every command, never run by one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import analysis
from analysis.compare.overrides import ladder_of
from analysis.compare.selection import groups
from ladder import cli
from ladder.errors import UserError
from ladder.launch.sweeper import runs_of

ROOT = Path(__file__).resolve().parents[2]
FEW = (
    *("data=digits", "recipe.epochs=1", "recipe.warmup_epochs=0", "data.fraction=0.1", "wandb.mode=disabled"),
    *("engine.threads=1", "device=cpu"),
)


def ladder(folder: Path, *words: str) -> str:
    """What a command prints, run in `folder` as a person would; it must end well."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "ladder.cli", *words], cwd=folder, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the repository, with a ladder over a function, and a study of it."""
    folder = tmp_path_factory.mktemp("outside")
    shutil.copytree(ROOT / "docs" / "my_first", folder / "my_first")
    where = ("--config-dir", "my_first", "ladder=my_first")
    ladder(folder, "train", "-m", *where, "rung=range(3)", "seed=0,1", *FEW, "study=mine")
    ladder(folder, "train", *where, "rung=1", "seed=0", *FEW, "study=single")
    return folder


@pytest.fixture
def place(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    return trained


def test_titles_and_order_come_from_the_study(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("my_first", ignore_errors=True)  # on another machine there is no such file
    assert cli.main(["table", "runs/mine"]) == 0
    out = capsys.readouterr().out
    assert "my first ladder (my_first) on digits" in out and "not installed" not in out
    assert [line.split()[1] for line in out.splitlines() if line[:3] in (" 0 ", " 1 ", " 2 ")] == [
        *("plain", "batch_norm", "shortcuts"),
    ]
    found = ladder_of("my_first", [str(next(Path("runs/single").glob("*-s0-*")))])
    assert found is not None and [rung.title for rung in found.rungs] == ["plain", "batch norm", "shortcuts"]


def test_every_command_takes_such_a_study(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        *(["status", "runs/mine"], ["report", "runs/mine"], ["classes", "runs/mine"], ["effects", "runs/mine"]),
        ["figures", "runs/mine", "--formats", "svg"],
        ["export", "runs/mine", "--out", "packed"],
        ["table", "packed"],
    ):
        assert cli.main(words) == 0, words
        out = capsys.readouterr()
        assert "not installed" not in out.out + out.err, words
    assert "--config-dir DIR" in Path("runs/mine/report.html").read_text()
    assert not list(Path("runs/mine/figures").glob("blocks*"))


def test_one_argument_may_be_another_on_the_command_line(place: Path) -> None:
    if not Path("my_first").exists():
        shutil.copytree(ROOT / "docs" / "my_first", "my_first")
    runs = runs_of(["ladder=my_first", "rung=1,2", "spec.args.width=8", *FEW], "my_first")
    assert [run.config["spec"]["args"]["width"] for run in runs] == [8, 8]
    assert runs[1].spec.to_dict()["args"] == {"norm": True, "shortcuts": True, "width": 8}
    with pytest.raises(UserError, match=r"unknown argument of my_nets.make 'widht'; did you mean width"):
        runs_of(["ladder=my_first", "rung=1", "spec.args.widht=8", *FEW], "my_first")
    with pytest.raises(UserError, match=r"unknown spec field of my_first 'kernel_size'; .*allowed: target, image_size"):
        runs_of(["ladder=my_first", "rung=1", "spec.kernel_size=5", *FEW], "my_first")
    with pytest.raises(UserError, match="--config-dir nowhere: no such folder"):
        runs_of(["ladder=my_first"], "nowhere")


@pytest.mark.slow
def test_edited_code_makes_other_runs_and_the_table_tells_of_it(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "runs" / "mine", tmp_path / "runs" / "mine")
    shutil.copytree(ROOT / "docs" / "my_first", tmp_path / "my_first")
    where = ("--config-dir", "my_first", "ladder=my_first", "seed=0,1", *FEW, "study=mine")
    again = ladder(tmp_path, "train", "-m", *where, "rung=0,1")
    assert "4 skipped" in again, "unchanged code, in another place: the same runs"
    for gone in (tmp_path / "runs" / "mine").glob("shortcuts*"):
        shutil.rmtree(gone)
    code = tmp_path / "my_first" / "ladder" / "my_nets.py"
    code.write_text(code.read_text() + "\n# edited\n")
    ladder(tmp_path, "train", "-m", *where, "rung=2")
    out = ladder(tmp_path, "table", "runs/mine")
    assert "of 2 versions of the code that makes the networks" in " ".join(out.split())


HOSTILE = "import pathlib\npathlib.Path({0!r}).unlink()\ndef make(**more): pathlib.Path({0!r}).unlink()\n"


@pytest.mark.parametrize("with_folder", [False, True])
def test_no_command_runs_the_code_of_a_study(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_folder: bool
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    study = tmp_path / "runs" / "theirs"
    shutil.copytree(trained / "runs" / "mine", study)
    for place in (tmp_path, study, *study.glob("*-s*")):
        (place / "my_nets.py").write_text(HOSTILE.format(str(precious)))
    note = json.loads((study / "study.json").read_text())
    if with_folder:
        note["ladders"]["my_first"]["folder"] = str(study)
    note["ladders"]["other"] = {**note["ladders"]["my_first"], "name": "other"}
    (study / "study.json").write_text(json.dumps(note))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(study))
    monkeypatch.delitem(sys.modules, "my_nets", raising=False)
    for command in ("table", "status", "report", "figures", "effects", "tuning", "classes", "images", "agreement"):
        with contextlib.suppress(UserError):
            cli.main([command, "runs/theirs"])
    cli.main(["export", "runs/theirs", "--out", "packed"])
    cli.main(["table", "packed"])
    runs = analysis.load("runs/theirs")
    found = groups(runs, (), {})[0].ladder
    assert found is None if with_folder else found is not None and found.foreign, "a folder is no key of its ladder"
    import ladder as package

    with pytest.raises(UserError, match=r"build it and give it: load_model\(path, into=network\)"):
        package.load_model(runs["path"].iloc[0])
    assert precious.read_text() == "mine" and "my_nets" not in sys.modules


@pytest.mark.slow
def test_a_step_by_itself_is_not_the_rung_of_its_name(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As designs of few steps have both."""
    if not Path("my_first").exists():
        shutil.copytree(ROOT / "docs" / "my_first", "my_first")
    where = ("--config-dir", "my_first", "ladder=my_first", *FEW, "study=both")
    ladder(place, "train", "-m", *where, "steps=[],[batch_norm],[shortcuts],[batch_norm,shortcuts]", "seed=0,1")
    ladder(place, "train", *where, "rung=shortcuts", "seed=2")
    assert cli.main(["table", "runs/both"]) == 0
    assert "only_shortcuts (not a rung)" in capsys.readouterr().out
    assert cli.main(["effects", "runs/both", "--best"]) == 0
    out = capsys.readouterr().out
    assert "batch_norm+shortcuts" in out and "9 runs of 4 networks" in out
    with pytest.raises(UserError, match="--max-macs: of a function's networks only those that were trained"):
        cli.main(["effects", "runs/both", "--best", "--max-macs", "3"])
