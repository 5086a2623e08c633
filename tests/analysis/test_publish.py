"""Owns the tests of publishing: what the summary run holds, read back from W&B's offline files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from wandb_files import read_back

import analysis
from analysis.publish import main, publish
from analysis.show import collection
from ladder.errors import UserError

Make = Callable[..., Any]


def only(monkeypatch: pytest.MonkeyPatch, *stems: str) -> None:
    """Draw some of the charts alone: the others cost time and are no different."""
    charts = collection.study_charts
    monkeypatch.setattr(collection, "study_charts", lambda *given: [c for c in charts(*given) if c[1].stem in stems])


def test_the_summary_run_holds_tables_charts_report_and_numbers(
    make_study: Make, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "roadmap", "changes", "curves")
    study = make_study("mine").chain(seeds=(0, 1), rungs=("resnet", "stage_ratio", "gelu"))
    study.run("kernel_7", 0, state="failed", error="loss is nan")
    study.run("kernel_9", 0, 91.0, result={"rung": "null", "rung_index": None, "parent": None, "title": "NA"})
    assert main([str(study.root), "--mode", "offline"]) == 0
    (folder,) = (study.root / "wandb").glob("offline-run-*")
    assert f"mine: logged offline; send it with: wandb sync {folder}" in capsys.readouterr().out
    (run,) = read_back(study.root)
    assert (run["name"], run["group"], run["job_type"], run["exit"]) == ("mine summary", "mine", "summary", 0)
    assert run["tags"] == {"convnext_32", "digits", "summary"}
    assert run["config"]["study"] == "mine"
    media = folder / "files"
    table = json.loads((media / run["values"]["table"]["path"]).read_text())
    rungs = [row[table["columns"].index("rung")] for row in table["data"]]
    assert rungs[:3] == ["resnet", "stage_ratio", "patchify_stem"]
    means = {row[table["columns"].index("rung")]: row[table["columns"].index("top1")] for row in table["data"]}
    assert means["gelu"] == pytest.approx(94.05) and means["patchify_stem"] is None
    assert means["null"] == 91.0 and "NA" in {row[table["columns"].index("title")] for row in table["data"]}
    assert run["summary"]["top1/gelu"] == pytest.approx(94.05)
    runs = json.loads((media / run["values"]["runs"]["path"]).read_text())
    assert len(runs["data"]) == 8 and "failed" in {row[runs["columns"].index("state")] for row in runs["data"]}
    charts = {key.removeprefix("charts/"): value for key, value in run["values"].items() if key.startswith("charts/")}
    assert set(charts) == {"roadmap", "changes", "curves"}
    for value in charts.values():
        with Image.open(media / value["path"]) as image:
            assert image.width > 1000
    assert "</html>" in (media / run["values"]["report"]["path"]).read_text()
    assert ("study", "study-mine") in run["artifacts"]
    lines: list[str] = []
    assert len(analysis.load(study.root, on_skip=lines.append)) == 8 and lines == []  # it is no run of the study


def test_disabled_makes_all_and_logs_nothing(make_study: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "roadmap")
    study = make_study("mine").chain(seeds=(0, 1), rungs=("resnet", "stage_ratio"))
    assert "nothing was logged" in publish(study.root, mode="disabled")
    assert not list(study.root.glob("wandb/*run*"))


def test_online_without_login_is_told_before_anything_is_drawn(
    make_study: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    study = make_study("mine").chain(seeds=(0,), rungs=("resnet",))
    with pytest.raises(UserError, match="not logged in to W&B, or no answer from it: run `wandb login`, or use --mode"):
        publish(study.root, mode="online")


def test_a_study_without_a_finished_run_is_told(make_study: Make) -> None:
    study = make_study("mine")
    study.run("resnet", 0, state="running")
    with pytest.raises(UserError, match="no run is done yet"):
        publish(study.root, mode="offline")


def test_a_view_and_a_report_offline_are_kept_and_said(
    make_study: Make, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "changes")
    study = make_study("mine").chain(seeds=(0,), rungs=("resnet", "gelu"))
    assert main([str(study.root), "--mode", "offline", "--view", "--report"]) == 0
    out = capsys.readouterr().out
    assert "view, not sent: mine: rungs (Top-1 of the last epoch" in out and str(study.root / "wandb-view.json") in out
    assert "report, not sent: mine: report (Table, What each step changed, Charts, " in out
    (run,) = (path.name.rpartition("-")[2] for path in study.root.glob("wandb/offline-run-*"))
    kept = json.loads((study.root / "wandb-report.json").read_text())
    assert run in json.dumps(kept["spec"]), "the charts are those of this summary run"
    assert len(analysis.load(study.root)) == 2, "it is no run of the study"


def test_a_view_that_is_refused_tells_what_was_made(make_study: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "changes")
    study = make_study("mine").chain(seeds=(0,), rungs=("resnet", "gelu"))
    (study.root / "wandb-view.json").mkdir()
    with pytest.raises(UserError, match=r"can't write .*wandb-view\.json: .*; made before: mine: logged offline"):
        publish(study.root, mode="offline", view=True)
