"""Owns the tests of the saved view: what W&B's own client sends for it, to a server that records it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from wandb_server import Server

from analysis.report import Contents
from analysis.show import wandb_view
from analysis.show.charts import style

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of wandb_workspaces' own


def folder_of(contents: Contents) -> Path:
    return Path(contents.runs["path"].iloc[0]).parent


def test_a_view_is_created_once_and_updated_then(contents: Contents, server: Server) -> None:
    folder = folder_of(contents)
    where = wandb_view.save(wandb_view.make(contents, "me", "proj", "mine"), folder)
    (first,) = server.views.values()
    assert (first["entityName"], first["projectName"], first["displayName"]) == ("me", "proj", "mine: rungs")
    assert where.startswith("http") and "me/proj" in where
    again = wandb_view.save(wandb_view.make(contents, "me", "proj", "mine"), folder)
    assert len(server.views) == 1 and again == where, "the same one"
    wandb_view.save(wandb_view.make(contents, "me", "proj", "mine"), folder.parent)
    assert len(server.views) == 2, "another folder knows of none"


def test_the_view_filters_groups_and_shows_what_is_promised(contents: Contents, server: Server) -> None:
    wandb_view.save(wandb_view.make(contents, "me", "proj", "mine"), folder_of(contents))
    ((_, view),) = server.views.items()
    section = view["spec"]["section"]
    (runs,) = section["runSets"]
    text = json.dumps(runs["filters"])
    assert '"group"' in text and '"mine"' in text and '"jobType"' in text and '"train"' in text
    assert runs["grouping"] == [{"section": "config", "name": "rung.value"}]
    assert style.BASE in json.dumps(section["customRunColors"]), "the first rung is grey, as in the charts"
    panels = {part["name"]: part["panels"] for part in section["panelBankConfig"]["sections"]}
    assert list(panels) == [
        *("Top-1 of the last epoch: mean and std over seeds", "Training", "Cost", "Runs that failed"),
    ]
    (bars,) = panels["Top-1 of the last epoch: mean and std over seeds"]
    told = {"metrics": ["final/top1"], "groupBy": "rung.value", "groupAgg": "mean", "groupArea": "stddev"}
    assert told.items() <= bars["config"].items()
    costs = ["summary:macs", "summary:params", "summary:images_per_s"]
    assert [panel["config"]["xAxis"] for panel in panels["Cost"]] == costs
    assert [panel["config"]["metrics"] for panel in panels["Training"]] == [["top1"], ["train_loss"], ["eval_loss"]]
    assert "loss is nan \\*here\\*" in json.dumps(panels["Runs that failed"]).replace("\\\\", "\\")


def test_offline_the_spec_is_kept(contents: Contents) -> None:
    path = wandb_view.keep(wandb_view.make(contents, "ENTITY", "proj", "mine"), folder_of(contents))
    kept = json.loads(path.read_text())
    assert kept["title"] == "mine: rungs" and kept["spec"]["section"]["panelBankConfig"]["sections"]


def test_a_kept_view_that_is_broken_is_none(contents: Contents, server: Server) -> None:
    folder = folder_of(contents)
    for text in ("{", "[]", '{"id": 3, "name": "x", "entity": "me", "project": "proj"}'):
        (folder / wandb_view.FILE).write_text(text)
        wandb_view.save(wandb_view.make(contents, "me", "proj", "mine"), folder)
    assert len(server.views) == 3
