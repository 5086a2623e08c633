"""Owns the tests of the report in W&B: what W&B's own client sends for it, to a server that records it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb_server import Server

from analysis.report import Contents
from analysis.show import wandb_report, wandb_view
from ladder.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of wandb_workspaces' own


def folder_of(contents: Contents) -> Path:
    return Path(contents.runs["path"].iloc[0]).parent


def made(contents: Contents) -> Any:
    return wandb_report.make(contents, "me", "proj", "mine", "5um3a7y0")


def test_a_report_is_created_once_updated_then_and_holds_what_is_promised(contents: Contents, server: Server) -> None:
    folder = folder_of(contents)
    where = wandb_report.save(made(contents), folder)
    again = wandb_report.save(made(contents), folder)
    assert again == where and "me/proj/reports" in where
    ((key, sent),) = server.views.items()
    assert json.loads((folder / wandb_report.FILE).read_text())["id"] == key
    assert (sent["type"], sent["displayName"], sent["id"]) == ("runs", "mine: report", key), "the second is an update"
    text = json.dumps(sent["spec"])
    assert "ladder train -m ladder=convnext_32" in text and "points of top-1." in text
    grids = [block for block in sent["spec"]["blocks"] if block["type"] == "panel-grid"]
    charts, *live = [grid["metadata"] for grid in grids]
    assert len(live) == 3
    asked = [panel["config"]["mediaKeys"] for panel in charts["panelBankSectionConfig"]["panels"]]
    assert ["charts/roadmap"] in asked
    shown = json.dumps(charts["runSets"][0]["filters"])
    assert '"5um3a7y0"' in shown and '"name"' in shown, "those of one run, by its id"
    for grid in live:
        (runs,) = grid["runSets"]
        filters = json.dumps(runs["filters"])
        assert '"mine"' in filters and '"train"' in filters and "rung" in json.dumps(runs["grouping"])
    (bars,) = live[0]["panelBankSectionConfig"]["panels"]
    assert {"metrics": ["final/top1"], "groupAgg": "mean", "groupArea": "stddev"}.items() <= bars["config"].items()
    assert not server.unknown


@pytest.mark.parametrize(
    ("fault", "why"), [("refuses", "no right to save views"), ("dies", "in time"), ("is slow", "in time")]
)
@pytest.mark.parametrize("what", ["view", "report"])
def test_a_server_that_fails_is_one_line_and_nothing_is_noted(
    contents: Contents, server: Server, monkeypatch: pytest.MonkeyPatch, what: str, fault: str, why: str
) -> None:
    monkeypatch.setattr(wandb.Api, "_HTTP_TIMEOUT", 2)  # what WANDB_HTTP_TIMEOUT sets where W&B is imported first
    server.fault = fault
    folder = folder_of(contents)
    before = sorted(folder.iterdir())
    view = wandb_view.make(contents, "me", "proj", "mine")
    save = partial(wandb_view.save, view) if what == "view" else partial(wandb_report.save, made(contents))
    with pytest.raises(UserError, match=f"W&B did not take the {what}: .*{why}") as told:
        save(folder)
    assert "\n" not in str(told.value) and sorted(folder.iterdir()) == before


@pytest.mark.parametrize("what", [wandb_view, wandb_report])
def test_what_is_kept_offline_does_not_forget_what_was_saved(contents: Contents, server: Server, what: Any) -> None:
    folder = folder_of(contents)
    rest = ("5um3a7y0",) if what is wandb_report else ()
    where = what.save(what.make(contents, "me", "proj", "mine", *rest), folder)
    kept = json.loads(
        what.keep(what.make(contents, None if rest else "ENTITY", "proj", "mine", *rest), folder).read_text()
    )
    assert kept["entity"] == "me" and kept["id"] in server.views
    assert what.save(what.make(contents, "me", "proj", "mine", *rest), folder) == where and len(server.views) == 1


def test_offline_the_spec_is_kept(contents: Contents) -> None:
    report = wandb_report.make(contents, None, "proj", "mine", "5um3a7y0")
    kept = json.loads(wandb_report.keep(report, folder_of(contents)).read_text())
    assert kept["title"] == "mine: report" and kept["spec"]["blocks"]
    assert "Table, What each step changed" in wandb_report.outline(report)
