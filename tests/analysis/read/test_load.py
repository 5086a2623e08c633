"""Owns the tests of reading run folders."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import analysis
from analysis import status
from analysis.read.load import DTYPES
from analysis.read.speeds import from_study
from ladder.errors import UserError
from ladder.runs.folder import METRICS

Make = Callable[..., Any]


def test_one_row_a_run_with_the_numbers_of_its_files(make_study: Make) -> None:
    study = make_study()
    path = study.run("gelu", 1, 96.5)
    frame = analysis.load(study.root)
    assert list(frame.columns) == list(DTYPES)
    row = frame.iloc[0]
    assert (row["study"], row["run"], row["path"]) == ("demo", path.name, str(path))
    assert (row["state"], row["rung"], row["rung_index"], row["parent"]) == ("done", "gelu", 8, "kernel_7")
    assert (row["top1"], row["best_top1"], row["best_epoch"]) == (96.5, 96.8, 2)
    assert (row["macs"], row["torch_version"], row["epochs_done"]) == (35_200_000, "2.15.0", 3)
    assert math.isnan(row["ema_top1"]) and row["peak_memory_bytes"] is pd.NA


def test_every_column_is_documented_in_the_docstring() -> None:
    documented = {
        name.strip()
        for line in (analysis.load.__doc__ or "").splitlines()
        if line.strip().startswith("| ")
        for name in line.split("|")[1].split(",")
    }
    assert set(DTYPES) <= documented


def test_a_half_finished_study_keeps_every_run_and_its_state(make_study: Make) -> None:
    study = make_study()
    study.run("resnet", 0, 90.0)
    study.run("resnet", 1, state="running", epochs_done=2)
    study.run("resnet", 2, state="failed", error="loss is not finite")
    study.run("gelu", 0, state="stopped")
    study.run("gelu", 1, state="pending")
    frame = analysis.load(study.root).set_index(["rung", "seed"]).sort_index()
    assert frame["state"].to_dict() == {
        **{("resnet", 0): "done", ("resnet", 1): "running", ("resnet", 2): "failed"},
        **{("gelu", 0): "stopped", ("gelu", 1): "pending"},
    }
    assert frame["top1"].notna().sum() == 1  # the last epoch's alone, never a running one's
    assert frame.loc[("resnet", 2), "error"] == "loss is not finite"
    assert frame.loc[("resnet", 1), "epochs_done"] == 2


def test_broken_folders_are_rows_that_say_why_and_foreign_ones_are_left_out(make_study: Make, capsys: Any) -> None:
    study = make_study()
    study.run("resnet", 0, 90.0)
    (study.run("resnet", 1) / "result.json").write_text('{"format": 1, "lad')
    other = study.run("resnet", 2) / "result.json"
    other.write_text(json.dumps({**json.loads(other.read_text()), "format": 2}))
    text = study.run("gelu", 0) / "result.json"
    text.write_text(text.read_text().replace('"top1": 90.0', '"top1": "high"', 1))
    lost = study.run("gelu", 1) / "result.json"
    lost.unlink()
    nan = study.run("gelu", 2) / "result.json"
    nan.write_text(nan.read_text().replace('"top1": 90.0', '"top1": NaN', 1))
    (study.run("kernel_7", 0) / "status.json").write_bytes(b"\xff\xfe")
    poor = study.run("kernel_7", 1) / "result.json"
    poor.write_text(json.dumps({k: v for k, v in json.loads(poor.read_text()).items() if k != "group_hash"}))
    (study.run("kernel_7", 2, state="pending") / "config.yaml").write_text("a: [")
    (study.root / "notes").mkdir()
    lines: list[str] = []
    frame = analysis.load(study.root, on_skip=lines.append)
    readable, broken = frame[frame["state"] == "done"], frame[frame["state"] == "unreadable"]
    assert list(zip(readable["rung"], readable["seed"], strict=True)) == [("resnet", 0)]
    assert len(broken) == len(frame) - 1 == 8 and broken["top1"].isna().all()
    by_run = {Path(line.split(": ")[0]).name.rsplit("-", 1)[0]: line.split(": ", 1)[1] for line in lines}
    assert len(by_run) == len(lines) == 9
    assert by_run["resnet-s1"].startswith("result.json is not JSON")
    assert by_run["resnet-s2"] == "result.json is of format 2; this version reads format 1"
    assert by_run["gelu-s0"] == "result.json: final.top1 is 'high', not a number"
    assert by_run["gelu-s1"] == "status.json says done, but there is no result.json"
    assert by_run["gelu-s2"] == "result.json: final.top1 is nan"
    assert by_run["kernel_7-s0"] == "status.json is not UTF-8"
    assert by_run["kernel_7-s1"] == "result.json lacks group_hash"
    assert by_run["kernel_7-s2"].startswith("config.yaml, line 2, column 1: not YAML:")
    assert dict(zip(broken["path"], broken["error"], strict=True)) == {
        path: why for path, why in (line.split(": ", 1) for line in lines) if not path.endswith("notes")
    }
    assert broken["seed"].notna().sum() == 6, "which network and seed it is of is known where a record says so"
    assert by_run["notes"].startswith("not a run folder")
    analysis.load(study.root)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 9 and all(line.startswith("skipped ") for line in told)


def test_hidden_folders_and_what_analysis_writes_are_no_runs(make_study: Make) -> None:
    study = make_study()
    study.run("resnet", 0, 90.0)
    for name in (".submitit", "figures", "_old"):
        (study.root / name).mkdir()
    (study.root / "table.md").write_text("x")
    lines: list[str] = []
    assert len(analysis.load(study.root, on_skip=lines.append)) == 1
    assert lines == []


def test_runs_are_read_whatever_their_folders_are_called(make_study: Make) -> None:
    study = make_study()
    for rung, name in {"resnet": "_gelu-s0-0123abcd", "gelu": ".k5-s0-0123abcd", "kernel_7": ".renamed"}.items():
        study.run(rung, 0, 90.0).rename(study.root / name)
    assert set(analysis.load(study.root)["rung"]) == {"resnet", "gelu", "kernel_7"}
    assert status.counts(status.read(study.root)) == {"done": 3}
    assert {speed.name for speed in from_study(study.root)} == {"resnet", "gelu", "kernel_7"}


def test_several_studies_are_one_frame(make_study: Make) -> None:
    one, two = make_study("one"), make_study("two", ladder="convnext_t")
    one.run("resnet", 0, 90.0)
    two.run("resnet50", 0, 76.0)
    frame = analysis.load([one.root, str(two.root)])
    assert dict(zip(frame["study"], frame["ladder"], strict=True)) == {"one": "convnext_32", "two": "convnext_t"}


def test_an_empty_study_is_an_empty_frame_with_all_columns(make_study: Make) -> None:
    frame = analysis.load(make_study().root)
    assert list(frame.columns) == list(DTYPES) and len(frame) == 0
    assert list(analysis.load_curves(make_study().root).columns[-len(METRICS) :]) == list(METRICS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("runs/dem", r"no study folder .*runs/dem; did you mean .*runs/demo\?"),
        ("nowhere/demo", r"no study folder .*: there is no folder .*nowhere either"),
        ("runs", r"runs is a folder of studies, not a study: give one, such as .*runs/demo"),
        ("runs/demo/RUN", r"RUN is one run, not a study: give its parent folder .*demo"),
        ("runs/demo/RUN/status.json", r"status.json is a file"),
    ],
)
def test_a_wrong_study_is_a_users_mistake(make_study: Make, tmp_path: Path, given: str, message: str) -> None:
    make_study().run("resnet", 0, 90.0).rename(tmp_path / "runs" / "demo" / "RUN")
    with pytest.raises(UserError, match=message):
        analysis.load(tmp_path / given)


def test_curves_hold_every_epoch_of_running_runs_too(make_study: Make) -> None:
    study = make_study()
    study.run("resnet", 0, 90.0)
    study.run("gelu", 1, 91.0, state="running", epochs_done=2)
    study.run("gelu", 2, state="running", epochs_done=0)
    curves = analysis.load_curves(study.root)
    assert list(curves.columns) == ["study", "run", "path", "ladder", "rung", "rung_index", "seed", *METRICS]
    assert curves.groupby(["rung", "seed"])["epoch"].apply(list).to_dict() == {
        ("gelu", 1): [1, 2],
        ("resnet", 0): [1, 2, 3],
    }
    last = curves[(curves["rung"] == "resnet") & (curves["epoch"] == 3)].iloc[0]
    assert last["top1"] == 90.0 and last["step"] == 66 and math.isnan(last["ema_top1"])


def test_broken_curves_are_told_and_the_others_kept(make_study: Make) -> None:
    study = make_study()
    study.chain(rungs=["resnet", "gelu", "kernel_7"])
    paths = sorted(study.root.iterdir())
    (paths[2] / "metrics.csv").write_text((paths[2] / "metrics.csv").read_text().replace("99.0", "oops", 1))
    (paths[5] / "metrics.csv").write_text("epoch,step\n1,2\n")
    text = (paths[7] / "metrics.csv").read_text()
    (paths[7] / "metrics.csv").write_text(text.replace("\n1,", "\n,"))
    lines: list[str] = []
    curves = analysis.load_curves(study.root, on_skip=lines.append)
    assert {Path(line.split(":")[0]).name for line in lines} == {paths[i].name for i in (2, 5, 7)}
    assert sorted(curves["run"].unique()) == [p.name for i, p in enumerate(paths) if i not in (2, 5, 7)]
    assert len(curves) == 6 * 3


def test_a_metrics_file_of_a_later_version_with_more_columns_is_read(make_study: Make) -> None:
    study = make_study()
    study.run("gelu", 0, 91.0)
    path = study.run("resnet", 0, 90.0) / "metrics.csv"
    head, *rest = path.read_text().splitlines()
    path.write_text("\n".join([f"{head},grad_norm", *(f"{line},1.5" for line in rest)]) + "\n")
    assert len(analysis.load_curves(study.root)) == 6


def test_ten_thousand_runs_load_in_seconds(make_study: Make, tmp_path: Path) -> None:
    """2,000 here, in a fifth of the ten seconds that 10,000 may take, twice the time granted for a busy machine."""
    path = make_study().run("gelu", 0, 96.5)
    big = tmp_path / "runs" / "big"
    for number in range(2000):
        (big / f"r{number}").mkdir(parents=True)
        for name in ("status.json", "result.json", "config.yaml"):
            shutil.copyfile(path / name, big / f"r{number}" / name)
    start = time.process_time()
    assert len(analysis.load(big)) == 2000
    assert time.process_time() - start < 4
