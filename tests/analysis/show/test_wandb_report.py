"""Owns the tests of the report in W&B: what W&B's own client sends for it, to a server that records it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb_server import KEY, Server

from analysis.report import Contents, gather
from analysis.show import wandb_report, wandb_view
from ladder.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of wandb_workspaces' own

Make = Callable[..., Any]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server("me", "proj", []) as running:
        monkeypatch.setenv("WANDB_BASE_URL", running.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield running


@pytest.fixture
def contents(make_study: Make) -> Contents:
    study = make_study("mine").chain(seeds=(0, 1), rungs=("resnet", "stage_ratio", "gelu"))
    return gather(study.root)


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


def test_offline_the_spec_is_kept(contents: Contents) -> None:
    report = wandb_report.make(contents, None, "proj", "mine", "5um3a7y0")
    kept = json.loads(wandb_report.keep(report, folder_of(contents)).read_text())
    assert kept["title"] == "mine: report" and kept["spec"]["blocks"]
    assert "Table, What each step changed" in wandb_report.outline(report)
