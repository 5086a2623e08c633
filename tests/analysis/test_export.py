"""Owns the tests of packed studies: what is exported reads back as the run folders did."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import analysis
from analysis.compare.reproduce import commands, launches
from analysis.compare.summary import summarise
from analysis.export import export, main
from analysis.read import packed
from analysis.report import build
from analysis.show import formats as render
from ladder.common.nested import flatten
from ladder.errors import UserError

Make = Callable[..., Any]
HERE = ["study", "path"]


@pytest.fixture
def mixed(make_study: Make) -> Any:
    """A study with runs in every state."""
    study = make_study("mixed").chain(seeds=(0, 1), rungs=("resnet", "stage_ratio", "gelu"))
    study.run("kernel_7", 0, state="failed", error='loss is "nan",\nat step 3')
    study.run("kernel_7", 1, state="running", epochs_done=2)
    study.run("fewer_norms", 0, state="stopped")
    study.run("fewer_norms", 1, state="pending")
    study.run("layer_norm", 0, 91.123456789012345, wall_s=1 / 3, git_dirty=True, eval_split="holdout")
    return study


def test_frames_of_the_files_are_those_of_the_run_folders(mixed: Any, tmp_path: Path) -> None:
    out = tmp_path / "published" / "mixed"
    export(mixed.root, out)
    before, after = analysis.load(mixed.root), analysis.load(out)
    pd.testing.assert_frame_equal(before.drop(columns=HERE), after.drop(columns=HERE), check_exact=True)
    assert set(after["path"]) == {str(out / run) for run in before["run"]}
    curves = [analysis.load_curves(folder).drop(columns=HERE) for folder in (mixed.root, out)]
    pd.testing.assert_frame_equal(*curves, check_exact=True)
    assert len(curves[1]) == 7 * 3 + 2 + 1 + 1


def test_tables_and_the_report_need_no_run_folder(
    make_study: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study("lr")
    study.chain(seeds=(0, 1)).chain(seeds=(0, 1), recipe={"lr": 0.01})
    out = tmp_path / "elsewhere" / "lr"
    export(study.root, out)
    kept = [summarise(analysis.load(folder), compare=["recipe.lr"]) for folder in (study.root, out)]
    for kind in ("text", "json"):
        assert render.FORMATS[kind](kept[0]) == render.FORMATS[kind](kept[1])
    assert len(summarise(analysis.load(out), where={"recipe.lr": "0.01"})) == 1
    with pytest.raises(UserError, match=r"differ in recipe\.lr"):
        summarise(analysis.load(out))
    assert commands(analysis.load(out)) == commands(analysis.load(study.root))
    monkeypatch.setattr("analysis.show.page.picture", lambda chart: chart.stem)  # drawn from what the tables show
    pages = [build(folder, compare=["recipe.lr"]) for folder in (study.root, out)]
    pages[1] = (pages[1][0].replace("ladder report runs/published/lr", "ladder report runs/lr"), pages[1][1])
    assert pages[0] == pages[1] and "recipe.lr=0.01" in pages[1][0] and "throughput" in pages[1][0]


def test_what_the_launcher_was_told_is_kept_without_places_of_this_machine(
    make_study: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = make_study("mine")
    study.run("resnet", 0, 90.0, data={"root": str(tmp_path / "images")})
    study.run("gelu", 0, state="failed", error=f"no such file: {tmp_path}/images/x.png")
    command = f"ladder train -m rung=0,8 data.root={tmp_path}/images runs_dir=/scratch/me +a.b=c"
    (study.root / "study.json").write_text(json.dumps({"format": 1, "launches": {command: {"runs": ["a", "b"]}}}))
    out = tmp_path / "out" / "mine"
    export(study.root, out)
    everything = "".join(path.read_text() for path in out.iterdir())
    assert str(tmp_path) not in everything and "/scratch" not in everything
    assert launches(analysis.load(out)) == {"ladder train -m rung=0,8 +a.b=c": ["a", "b"]}


def test_a_packed_study_packs_again_to_the_same_files(mixed: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "one" / "mixed", tmp_path / "two" / "mixed"
    export(mixed.root, first)
    export(first, second)
    export(mixed.root, second)  # over what is there
    for name in ("results.csv", "curves.csv", "study.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_the_command_prints_what_it_wrote(make_study: Make, tmp_path: Path, capsys: Any) -> None:
    study = make_study("mine").chain(seeds=(0,))
    assert main([str(study.root), "--out", str(tmp_path / "mine")]) == 0
    written = capsys.readouterr().out.split()
    assert [Path(p).name for p in written] == ["results.csv", "curves.csv", "study.json"]
    assert sum(Path(p).stat().st_size for p in written) < 40_000


def test_what_cannot_be_packed_is_told_in_one_line(make_study: Make, tmp_path: Path) -> None:
    study = make_study("mine").chain(seeds=(0,), rungs=("resnet",))
    with pytest.raises(UserError, match="holds other things"):
        export(study.root, study.root)
    with pytest.raises(UserError, match="has no run"):
        export(make_study("empty").root, tmp_path / "x")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("study.json", lambda text: text[:40], "study.json is not what ladder export writes"),
        ("study.json", lambda text: text.replace('"packed": 1', '"packed": 2'), "this version reads format 1"),
        ("results.csv", lambda text: text.replace("rung_index", "place"), "results.csv lacks rung_index"),
        ("curves.csv", lambda text: text.replace("run,", "", 1), "curves.csv is not what"),
    ],
)
def test_a_broken_packed_study_is_told(
    make_study: Make, tmp_path: Path, name: str, change: Callable[[str], str], message: str
) -> None:
    study = make_study("mine").chain(seeds=(0,), rungs=("resnet",))
    export(study.root, tmp_path / "mine")
    (tmp_path / "mine" / name).write_text(change((tmp_path / "mine" / name).read_text()))
    with pytest.raises(UserError, match=message):
        analysis.load_curves(tmp_path / "mine")


def test_a_missing_file_of_a_packed_study_is_told(make_study: Make, tmp_path: Path) -> None:
    study = make_study("mine").chain(seeds=(0,), rungs=("resnet",))
    for name in ("study.json", "curves.csv"):
        out = tmp_path / name.split(".")[0]
        export(study.root, out)
        (out / name).unlink()
        with pytest.raises(UserError, match=f"{name}: No such file"):
            analysis.load_curves(out)


def test_a_broken_line_is_a_row_that_says_why(make_study: Make, tmp_path: Path) -> None:
    study = make_study("mine").chain(seeds=(0, 1, 2, 3), rungs=("resnet",))
    out = tmp_path / "mine"
    export(study.root, out)
    head, one, two, three, four = (out / "results.csv").read_text().splitlines()
    cells = two.split(",")
    cells[head.split(",").index("top1")] = "high"
    (out / "results.csv").write_text("\n".join([head, one, ",".join(cells), three[:50], four]) + "\n")
    lines: list[str] = []
    frame = analysis.load(out, on_skip=lines.append)
    assert list(frame["state"]) == ["done", "unreadable", "unreadable", "done"]
    assert list(frame["seed"].dropna()) == [0, 3] and list(frame["error"].dropna()) == [
        f"results.csv: {line.rsplit(': ', 1)[1]}" for line in lines
    ]
    assert [line.rsplit(": ", 1)[1] for line in lines] == ["top1 is 'high', not a number", "the line is cut off"]


def test_a_folder_of_packed_studies_is_no_study(make_study: Make, tmp_path: Path) -> None:
    export(make_study("mine").chain(seeds=(0,), rungs=("resnet",)).root, tmp_path / "published" / "mine")
    with pytest.raises(UserError, match=r"is a folder of studies, not a study: give one, such as .*published/mine"):
        analysis.load(tmp_path / "published")


def test_other_commands_know_a_packed_study(make_study: Make, tmp_path: Path) -> None:
    from analysis.read.speeds import from_study
    from analysis.status import read

    study = make_study("mine").chain(seeds=(0, 1), rungs=("resnet", "gelu"))
    export(study.root, tmp_path / "mine")
    ours, theirs = (from_study(folder) for folder in (study.root, tmp_path / "mine"))
    assert [(s.name, s.train, s.macs) for s in ours] == [(s.name, s.train, s.macs) for s in theirs]
    with pytest.raises(UserError, match="is a packed study: nothing runs there"):
        read(tmp_path / "mine")


NUMBERS = st.integers() | st.floats(allow_nan=False)
LEAVES = st.none() | st.booleans() | NUMBERS | st.text() | st.lists(NUMBERS, max_size=3)
KEYS = st.text(st.characters(exclude_characters="."), min_size=1)
CONFIGS = st.dictionaries(KEYS, st.recursive(LEAVES, lambda inner: st.dictionaries(KEYS, inner), max_leaves=8))


@settings(max_examples=30, deadline=None)
@given(st.lists(CONFIGS, min_size=1, max_size=4))
@example([{"a": [1]}, {"a": [1.0]}])
def test_what_configs_share_and_their_own_make_them_again(configs: list[dict[str, Any]]) -> None:
    flat = [flatten(config) for config in configs]
    shared = packed.common(flat)
    for config, one in zip(configs, flat, strict=True):
        own = {key: value for key, value in one.items() if key not in shared}
        again = packed.unflatten(json.loads(json.dumps({**shared, **own})))
        assert repr(_sorted(again)) == repr(_sorted(config))  # 1, 1.0 and True are not the same


def _sorted(value: Any) -> Any:
    return sorted((k, _sorted(v)) for k, v in value.items()) if isinstance(value, dict) else value
