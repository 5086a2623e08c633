"""Owns the tests of W&B as a source: runs as W&B has them give the frames that their run folders give."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sweeps import Sweep, end_fork_server
from tiny import run_of
from wandb_files import read_back
from wandb_server import KEY, Server

import analysis
from analysis.compare.summary import summarise
from analysis.read import wandb_source
from analysis.read.load import home
from analysis.read.wandb_source import Record, study_folders
from ladder.errors import UserError
from ladder.runs.session import train_run

HERE = ["study", "path", "heartbeat"]  # W&B's server tells its own heartbeat
BEAT = "2026-01-02T03:04:05Z"


def after(steps: int) -> Callable[[], bool]:
    """A wish to stop that comes up after some steps."""
    counter = iter(range(steps))
    return lambda: next(counter, None) is None


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study tracked by W&B offline, in every state: done; failed; killed, stopped and resumed; stopped."""
    end_fork_server()
    sweep = Sweep(tmp_path_factory.mktemp("swept"))
    launch = ("rung=resnet,patchify_stem,kernel_7", "wandb.mode=offline", "hydra.launcher.max_attempts=1")
    sweep.faults = {"patchify_stem": "nan", "kernel_7": "kill"}
    assert sweep.run(*launch).code == 1
    sweep.faults = {"patchify_stem": "nan"}
    assert sweep.run(*launch).code == 1
    for rung, again in (("gelu", True), ("layer_norm", False)):
        run = run_of(sweep.root / "runs", f"rung={rung}", "study=tiny", "wandb.mode=offline", "recipe.epochs=2")
        assert train_run(run, after(30)).state == "stopped"  # in the second of two epochs of 22 steps
        for thread in threading.enumerate():  # a stopped run waits for W&B for seconds only; this process sees it end
            if thread.name == "wandb":
                thread.join(60)
        if again:
            assert train_run(run, lambda: False).state == "done"
    return sweep.study


def as_server_has(folder: Path) -> dict[str, Any]:
    """The W&B run of a run folder, as the server has it after `wandb sync`: the segments of one id, joined."""
    segments = read_back(folder)
    run: dict[str, Any] = {**segments[-1], "history": [], "values": {}, "config": {}}
    for segment in segments:
        run["history"] += segment["history"]
        run["values"] |= segment["values"]
        run["config"] |= segment["config"]
    state = {0: "finished", None: "crashed"}.get(segments[-1]["exit"], "failed")
    return {**run, "state": state, "heartbeatAt": BEAT}


@pytest.fixture(scope="module")
def on_server(swept: Path) -> list[dict[str, Any]]:
    return [as_server_has(path.parent) for path in sorted(swept.glob("*/status.json"))]


def record(run: dict[str, Any], **changed: Any) -> Record:
    """A run of the server in plain values."""
    keys = ("id", "name", "group", "job_type", "state", "config")
    values = {**{key: run[key] for key in keys}, "heartbeat": 0.0, "summary": run["values"]}
    return Record(**{**values, "history": lambda: run["history"], **changed})


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def assert_same_frames(source: Any, folder: Path) -> None:
    ours, theirs = (analysis.load(x).drop(columns=HERE) for x in (folder, source))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    curves = [analysis.load_curves(x).drop(columns=["study", "path"]) for x in (folder, source)]
    pd.testing.assert_frame_equal(*curves, check_exact=True)


def test_one_wandb_run_for_each_run_folder(swept: Path, on_server: list[dict[str, Any]]) -> None:
    folders = sorted(path.parent for path in swept.glob("*/status.json"))
    ids = [{one["id"] for one in read_back(folder)} for folder in folders]
    assert len(folders) == 5 and all(len(one) == 1 for one in ids)
    assert len(set.union(*ids)) == 5
    segments = {folder.name.split("-")[0]: len(read_back(folder)) for folder in folders}
    del segments["kernel_7"]  # killed in its first step: W&B may not have begun
    assert segments == {"resnet": 1, "patchify_stem": 2, "gelu": 2, "layer_norm": 1}
    assert {run["group"] for run in on_server} == {"tiny"} and {run["job_type"] for run in on_server} == {"train"}
    exits = {run["name"]: run["exit"] for run in on_server}
    assert exits == {"resnet-s0": 0, "patchify_stem-s0": 1, "kernel_7-s0": 0, "gelu-s0": 0, "layer_norm-s0": 75}


def test_frames_from_wandb_are_those_of_the_run_folders(swept: Path, on_server: list[dict[str, Any]]) -> None:
    (folder,) = study_folders("wandb://me/proj/tiny", on_skip=pytest.fail, records=map(record, on_server))
    assert_same_frames(folder, swept)
    assert folder.name == "tiny"
    (ours,), (theirs,) = (summarise(analysis.load(x)) for x in (swept, folder))
    assert [row.top1 for row in ours.rows] == [row.top1 for row in theirs.rows]
    # W&B has no predictions, which is what the intervals of a study of one seed are judged by

    def said(table: Any) -> list[str]:
        return [note for note in table.notes if "other test images" not in note and "one seed" not in note]

    assert said(ours) == said(theirs)


@pytest.fixture
def server(on_server: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """W&B's server with the study in group tiny, and what is no run of ours beside it."""
    foreign = {**on_server[0], "id": "other", "name": "gpt", "group": "llm", "job_type": None, "config": {"lr": 0.1}}
    summary = {**on_server[0], "id": "sum", "name": "tiny summary", "job_type": "summary", "config": {}}
    with Server("me", "proj", [*on_server, foreign, summary]) as running:
        monkeypatch.setenv("WANDB_BASE_URL", running.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield running
        assert running.unknown == []


def test_the_same_frames_through_the_public_api(swept: Path, server: Server, capsys: Any) -> None:
    assert_same_frames("wandb://me/proj/tiny", swept)
    assert capsys.readouterr().err == ""
    done = {run["id"] for run in server.runs if run["state"] == "finished"} - {"other", "sum"}
    assert done <= set(server.history_read)
    server.history_read.clear()
    beats = analysis.load("wandb://me/proj/tiny")["heartbeat"]
    assert set(beats) == {pd.Timestamp(BEAT).timestamp()}
    assert server.history_read and not done & set(server.history_read), "what is done is not fetched again"
    lines: list[str] = []
    assert len(analysis.load("wandb://me/proj", on_skip=lines.append)) == 5
    assert lines == ["wandb://me/proj, run other (gpt): not a run of this toolkit (no ladder and seed in its config)"]


def test_a_run_deleted_in_wandb_is_gone_at_the_next_look(server: Server) -> None:
    assert len(analysis.load("wandb://me/proj/tiny")) == 5
    server.runs.pop(0)
    assert len(analysis.load("wandb://me/proj/tiny")) == 4


def test_commands_take_wandb_for_a_study(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from analysis import export, figures, table

    monkeypatch.chdir(tmp_path)
    assert table.main(["wandb://me/proj/tiny"]) == 0
    assert figures.main(["wandb://me/proj/tiny", "--only", "roadmap", "--formats", "png"]) == 0
    assert (tmp_path / "runs" / "tiny" / "figures" / "roadmap.png").is_file()
    assert export.main(["wandb://me/proj/tiny", "--out", "packed"]) == 0
    assert len(analysis.load("packed")) == 5


@pytest.mark.parametrize(
    ("source", "key", "message"),
    [
        ("wandb://me/nothing", KEY, "no such project, or no right to read it"),
        ("wandb://me/proj/none", KEY, r"no run of group none \(a study is a group\)"),
        ("wandb://me/proj/llm", KEY, "none of its 1 W&B runs is a training run of this toolkit"),
        ("wandb://me/proj", "f" * 40, "not logged in to W&B, or not with a valid key; run `wandb login`"),
        ("wandb://me/proj", "", "not logged in to W&B"),
        ("wandb://me", KEY, "must be wandb://ENTITY/PROJECT or wandb://ENTITY/PROJECT/GROUP"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, key: str, message: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("HOME", str(tmp_path))  # no ~/.netrc
    with pytest.raises(UserError, match=message) as told:
        analysis.load(source, on_skip=lambda line: None)
    assert "\n" not in str(told.value)


def test_no_network_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(wandb_source, "TIMEOUT", 3)
    with pytest.raises(UserError, match="no answer from W&B"):
        analysis.load("wandb://me/proj")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"lr": 1}}, "not a run of this toolkit"),
        ({"summary": {}}, "finished, but its summary lacks `result`"),
    ],
)
def test_a_run_that_is_not_ours_is_left_out_with_a_line(
    on_server: list[dict[str, Any]], change: dict[str, Any], message: str
) -> None:
    done = [run for run in on_server if run["state"] == "finished"]
    lines: list[str] = []
    records = [record(done[0], **change), record(done[1])]
    (folder,) = study_folders("wandb://me/proj", lines.append, records)
    assert len(analysis.load(folder)) == 1
    assert len(lines) == 1 and message in lines[0]


def test_a_folder_trained_again_is_one_run_the_finished_one(on_server: list[dict[str, Any]]) -> None:
    run = next(run for run in on_server if run["state"] == "finished")
    lines: list[str] = []
    records = [record(run, id="old", state="crashed", summary={}), record(run, id="new")]
    (folder,) = study_folders("wandb://me/proj", lines.append, records)
    assert list(analysis.load(folder)["state"]) == ["done"]
    assert lines == [f"wandb://me/proj, run old ({run['name']}): an older W&B run of tiny/{run['config']['run']}"]


def test_a_crashed_run_failed_without_a_word(on_server: list[dict[str, Any]]) -> None:
    run = next(run for run in on_server if run["state"] == "finished")
    values = {key: value for key, value in run["values"].items() if key != "result"}
    (folder,) = study_folders("wandb://me/proj", pytest.fail, [record(run, state="crashed", summary=values)])
    row = analysis.load(folder).iloc[0]
    assert (row["state"], row["error"]) == ("failed", "ended without a word (W&B: crashed)")


def test_names_from_wandb_stay_below_the_cache(on_server: list[dict[str, Any]], tmp_path: Path) -> None:
    run = next(run for run in on_server if run["state"] == "finished")
    (folder,) = study_folders("wandb://../..", pytest.fail, [record(run, group="../../../evil")])
    assert (tmp_path / "cache").resolve() in folder.resolve().parents
    bad = record(run, config={**run["config"], "run": "../../x"})
    lines: list[str] = []
    with pytest.raises(UserError):
        study_folders("wandb://me/proj", lines.append, [bad])
    assert len(lines) == 1


def test_files_about_wandbs_runs_go_to_runs() -> None:
    assert home("wandb://me/proj/tiny") == Path("runs/tiny")
    assert home("wandb://me/proj") == Path("runs/proj")
    assert home("runs/x") == Path("runs/x")
