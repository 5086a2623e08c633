"""Owns the tests of studies that somebody else made: their links, their names, folders of theirs that can't be read."""

from __future__ import annotations

import csv
import importlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import analysis
from analysis.compare.summary import summarise
from analysis.export import export
from analysis.report import build
from analysis.show import collection
from analysis.show.escape import markdown
from analysis.show.formats import FORMATS
from analysis.table import main as table
from ladder.errors import UserError

Make = Callable[..., Any]
ODD = ("\x1b[31mred", "=1+1", "@x", "a|b", "<b>x</b>", "[x](y)", "`x`", "*x*", "two\nlines", "\u202eabc", "-1", "null")


@pytest.fixture
def only_the_roadmap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other charts cost time and are no different."""
    charts = collection.study_charts
    monkeypatch.setattr(
        collection, "study_charts", lambda *given: [c for c in charts(*given) if c[1].stem == "roadmap"]
    )


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file and a folder that no study may reach."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("precious")
    return tmp_path / "outside"


@pytest.mark.usefixtures("only_the_roadmap")
@pytest.mark.parametrize(
    ("command", "link", "target"),
    [
        (["report"], "report.html", "file"),
        (["report"], "report.html", "new"),
        (["figures", "--formats", "svg"], "figures", "."),
        (["publish", "--mode", "disabled"], "wandb", "."),
    ],
)
def test_nothing_is_written_through_a_link_of_the_study(
    make_study: Make, outside: Path, command: list[str], link: str, target: str
) -> None:
    study = make_study().chain(seeds=(0,), rungs=("resnet", "stage_ratio"))
    (study.root / link).symlink_to(outside / target)
    name, *options = command
    with pytest.raises(UserError, match=f"{link} is a link: nothing is written through links in a study; remove it"):
        importlib.import_module(f"analysis.{name}").main([str(study.root), *options])
    assert [path.name for path in outside.iterdir()] == ["file"] and (outside / "file").read_text() == "precious"


@pytest.mark.usefixtures("only_the_roadmap")
def test_files_below_a_folder_replace_links_and_a_named_file_is_written_through_one(
    make_study: Make, outside: Path, tmp_path: Path
) -> None:
    study = make_study().chain(seeds=(0,), rungs=("resnet", "stage_ratio"))
    places = (study.root / "figures" / "roadmap.svg", tmp_path / "packed" / "results.csv", tmp_path / "named.md")
    for place in places:
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(outside / "file")
    importlib.import_module("analysis.figures").main([str(study.root), "--formats", "svg"])
    export(study.root, tmp_path / "packed")
    assert not any(place.is_symlink() for place in places[:2]) and (outside / "file").read_text() == "precious"
    assert table([str(study.root), "--out", str(places[2])]) == 0
    assert places[2].is_symlink() and (outside / "file").read_text().startswith("### ")


def test_a_misspelt_study_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("report", "figures", "publish", "table", "tuning"):
        with pytest.raises(UserError, match=r"no study folder runs/dmeo"):
            importlib.import_module(f"analysis.{name}").main(["runs/dmeo"])
    with pytest.raises(UserError, match=r"no study folder runs/dmeo"):
        importlib.import_module("analysis.report").main(["runs/dmeo", "--out", "new/page.html"])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_read_is_a_note_and_the_table_stands(make_study: Make) -> None:
    study = make_study().chain(rungs=["resnet", "stage_ratio"])
    (study.run("gelu", 0) / "result.json").write_text("{")
    lost = study.run("gelu", 1, state="pending")
    (lost / "config.yaml").write_text("seed: [")
    (made,) = summarise(analysis.load(study.root, on_skip=lambda line: None))
    text = " ".join(FORMATS["text"]([made]).split())
    assert "6 of 7 runs done (1 unreadable)" in text, "the other's ladder is not known"
    assert "unreadable: gelu-s0-" in text and "(result.json is not JSON (" in text and f"; {lost.name} (" in text
    assert made.row("gelu").states == {"unreadable": 1}  # type: ignore[union-attr]


def test_settings_of_a_run_whose_config_is_gone_are_not_known(make_study: Make) -> None:
    study = make_study()
    for lr in (0.001, 0.004):
        study.chain(rungs=["resnet"], recipe={"lr": lr}, seeds=(0, 1))
    broken = next(study.root.glob("resnet-s0-*"))
    (broken / "config.yaml").write_text("recipe: 3\nladder: convnext_32\nseed: 0\n")
    runs = analysis.load(study.root)
    for options in ({"compare": ["recipe.lr"]}, {"where": {"recipe.lr": "0.001"}}):
        tables = summarise(runs, **options)
        note = f"unreadable: {broken.name} (config.yaml: recipe is no mapping)"
        assert all(note in one.notes for one in tables), options
        assert sum(len(one.row("resnet").values) for one in tables) in (1, 2, 3)  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"unknown config key 'recipe.lrr'; did you mean recipe.lr"):
        summarise(runs, compare=["recipe.lrr"])


@pytest.mark.parametrize("name", ODD)
def test_a_name_is_text_in_every_format(make_study: Make, tmp_path: Path, name: str) -> None:
    study = make_study()
    study.run("resnet", 0, 90.0, data={"name": name}, recipe={"name": name})
    study.run(
        "gelu",
        1,
        91.0,
        data={"name": name},
        recipe={"name": name},
        result={"title": name, "rung": name, "rung_index": None},
    )
    study.run("kernel_7", 1, state="failed", error=name, recipe={"name": name})
    runs = analysis.load(study.root)
    tables = summarise(runs)
    shown = name.replace("\x1b", "\\x1b").replace("\n", " ").replace("\u202e", "\\u202e")
    for kind, made in FORMATS.items():
        content = made(tables)
        assert all(c.isprintable() or c == "\n" for c in content), kind
    assert shown in FORMATS["text"](tables)
    assert markdown(shown) in FORMATS["md"](tables) and ("<b>" not in FORMATS["md"](tables).replace("\\<b>", ""))
    assert "<b>" not in FORMATS["html"](tables)
    cells = [cell for row in csv.reader(io.StringIO(FORMATS["csv"](tables))) for cell in row]
    assert not any(re.match(r"[=@\t\r]|[+-](?![\d.])", cell) for cell in cells)
    assert any(row["title"] == shown for row in json.loads(FORMATS["json"](tables))["tables"][0]["rows"])
    export(study.root, tmp_path / "out")
    again = analysis.load(tmp_path / "out")
    assert set(again["rung"]) == set(runs["rung"]) and set(again["error"].dropna()) == set(runs["error"].dropna())
    first = [line.partition(",")[2].partition(",")[2] for line in (tmp_path / "out" / "results.csv").open()]
    assert not any(re.search(r"(^|,)\"?[=@]", line) for line in first)


def test_a_report_of_odd_names_can_be_written(
    make_study: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("analysis.show.page.picture", lambda chart: "")
    study = make_study("t")
    for seed, name in enumerate(ODD):
        study.run("resnet", seed, 80.0 + seed)
        study.run("gelu", seed, state="failed", error=name + "\ud800")
        study.run("kernel_7", seed, state="pending")
    (study.root / "caf\udce9").mkdir()
    content, skipped = build(study.root)
    content.encode()
    assert len(skipped) == 1 and "caf\\udce9: not a run folder" in skipped[0]
    assert "Not started (12)" in content and "Failed (12)" in content
