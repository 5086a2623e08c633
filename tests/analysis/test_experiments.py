"""Owns the checks of `ladder experiments`: a line for each study, measured where it was, else planned."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis import experiments
from ladder.launch.sweeper import runs_of
from ladder.paths import conf_dir


@pytest.fixture
def only_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each experiment takes seconds to plan; what the README shows is checked with the documents."""
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    shutil.copy(conf_dir() / "experiment" / "demo.yaml", tmp_path / "conf" / "experiment")
    monkeypatch.setattr(experiments, "conf_dir", lambda: tmp_path / "conf")


def test_every_file_says_what_it_is() -> None:
    names = [path.stem for path in (conf_dir() / "experiment").glob("*.yaml")]
    assert len(names) >= 7
    for name in names:
        assert len(experiments.describe(name)) > 20, f"the first line of {name}.yaml describes it"


@pytest.mark.usefixtures("only_the_demo")
def test_cost_is_measured_where_the_study_is_done(tmp_path: Path, make_study: Callable[..., Any]) -> None:
    published = tmp_path / "runs" / "published"
    study = make_study("published/demo", "convnext_mini")
    runs = runs_of(["experiment=demo"])
    for run in runs[:-1]:
        made = study.run(run.rung.name, run.seed, wall_s=60.0, device="a CPU", images_per_s=100.0)
        made.rename(made.with_name(run.label))
    (published / "demo" / "study.json").write_text("{}")
    (row,) = experiments.rows("h100", published)
    assert (row.name, row.runs, row.measured) == ("demo", 39, False)
    assert row.cost.endswith("h on a CPU, planned"), "one run is missing"

    made = study.run(runs[-1].rung.name, runs[-1].seed, wall_s=62.0, device="a CPU")
    made.rename(made.with_name(runs[-1].label))
    (row,) = experiments.rows("h100", published)
    assert row.measured and row.cost == "39 min on a CPU, measured"


def test_text_and_markdown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    row = experiments.Row("demo", "A small study", 39, 2.7e12, 1.3, "1:02 on a CPU, measured", True)
    monkeypatch.setattr(experiments, "rows", lambda gpu: [row])
    assert experiments.main([]) == 0
    _, _, head, rule, line, _, note, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["experiment=", "what"] and set(rule) == {"-", " "}
    assert " ".join(line.split()) == "demo A small study 39 2.7 T 1.3 GB 1:02 on a CPU, measured"
    assert note.startswith("planned: ")
    assert experiments.main(["--format", "md"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert lines[2] == "| demo | A small study | 39 | 2.7 T | 1.3 GB | 1:02 on a CPU, measured |"
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
