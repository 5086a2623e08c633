"""Owns the tests of the command `ladder effects`, over a published design and its neighbours."""

from __future__ import annotations

import csv
import io
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from analysis.compare.cases import cases_of
from analysis.effects import main
from analysis.read.load import load
from analysis.report import build
from ladder.errors import UserError

DESIGN = str(Path(__file__).parents[2] / "runs/published/demo_design")
DEMO = str(Path(__file__).parents[2] / "runs/published/demo")


def run(*arguments: str) -> str:
    """What the command prints."""
    result = CliRunner().invoke(main, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_row_a_step_and_what_judges_it() -> None:
    text = run(DESIGN)
    assert "39 runs of 33 networks, 3 seeds" in text
    for words in ("layer_norm", "averaged over contexts", "lack of fit", "foretold by the others"):
        assert words in " ".join(text.split())


def test_both_studies_as_one_beside_the_paper() -> None:
    text = run(DESIGN, DEMO, "--beside", "convnext_t", "--interactions")
    assert "78 runs" in text and "paper (convnext_t)" in text and "walk" in text
    rows = list(csv.DictReader(io.StringIO(run(DESIGN, DEMO, "--format", "csv"))))
    effects, walk = (
        sum(float(row[f"{of}_high"]) - float(row[of]) for row in rows) / len(rows) for of in ("effect", "walk")
    )
    assert f"mean half width over 12 steps: of the effects {effects:.2f}, of the walk's changes {walk:.2f}" in text
    assert "Interactions of two steps" in text


def test_steps_that_depend_on_each_other_are_told_without_and_with_the_other(tmp_path: Path) -> None:
    pulled = shutil.copytree(DESIGN, tmp_path / "pulled")
    data = cases_of(load(DESIGN), {})
    both = {run for run, row in zip(data.runs["run"], data.rows, strict=True) if {"gelu", "layer_norm"} <= {*row.steps}}
    rows = list(csv.DictReader((pulled / "results.csv").open(newline="")))
    with (pulled / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "top1": float(row["top1"]) - 12 * (row["run"] in both)} for row in rows)
    (pulled / "predictions.npz").unlink()  # they say other top-1
    text = run(str(pulled))
    told = [line.split()[:2] for line in text.partition("Steps that depend on each other")[2].splitlines()]
    assert ["layer_norm", "gelu"] in told and ["gelu", "layer_norm"] in told
    (one, other) = json.loads(run(str(pulled), "--format", "json"))["given"]
    assert (one["step"], one["other"]) == (other["other"], other["step"]) == ("gelu", "layer_norm")
    assert one["difference"] == pytest.approx(one["with"] - one["without"])
    assert one["difference_low"] < -12 < one["difference_high"]


def test_formats_hold_the_same(tmp_path: Path) -> None:
    plain = json.loads(run(DESIGN, "--format", "json"))
    rows = list(csv.DictReader(io.StringIO(run(DESIGN, "--format", "csv"))))
    assert [row["step"] for row in rows] == [step["step"] for step in plain["effects"]]
    for row, step in zip(rows, plain["effects"], strict=True):
        assert float(row["effect"]) == pytest.approx(step["effect"], abs=1e-5)
        assert step["effect_low"] < step["effect"] < step["effect_high"]
    assert plain["runs"] == 39 and plain["replicate_degrees_of_freedom"] == 4
    spread = f"({plain['std']:.2f}, {plain['degrees_of_freedom']:.0f} degrees of freedom)"
    others = f"the interactions of all other pairs ({plain['interaction_std']:.2f})"
    assert spread in " ".join(run(DESIGN).split()) and others in " ".join(run(DESIGN).split())
    assert "<table>" in run(DESIGN, "--format", "html")
    assert r"\begin{tabular}" in run(DESIGN, "--format", "latex")
    assert "| step | effect ±95% |" in run(DESIGN, "--format", "md")
    run(DESIGN, "--out", f"{tmp_path}/effects.txt")
    assert "what each step is worth" in (tmp_path / "effects.txt").read_text()


def test_the_best_subsets_come_with_the_command_that_trains_them() -> None:
    from ladder.launch.sweeper import runs_of

    content = json.loads(run(DESIGN, "--best", "--max-macs", "4", "--response", "logit", "--format", "json"))
    assert len(content["best"]) == 5
    assert all(float(one["MACs M"]) <= 4 and float(one["expected top-1 %"]) < 100 for one in content["best"])
    (command,) = content["train"]
    assert command.startswith("ladder train -m ")
    runs = runs_of(shlex.split(command)[3:])
    assert ["+".join(step for step in one["subset"].split("+")) for one in content["best"]] == [
        r.rung.name for r in runs
    ]
    assert {run.data.image_size for run in runs} == {16} and {run.recipe.epochs for run in runs} == {4}
    assert "chosen on the test split" in run(DESIGN, "--best")


def test_as_many_networks_as_effects_say_nothing_of_adding_up(study_type: Any, tmp_path: Path) -> None:
    study = study_type(tmp_path / "saturated", "convnext_mini")
    for steps in [(), ("stage_ratio", "gelu"), ("stage_ratio", "layer_norm"), ("gelu", "layer_norm")]:
        for seed, noise in enumerate([0.1, -0.2, 0.15]):
            study.run("", seed, 90 + len(steps) + noise * (-1) ** len(steps or "-"), steps=steps)
    text = " ".join(run(f"{tmp_path}/saturated").split())
    assert "not known: so few networks fit any effects" in text and "averaged over contexts" in text


def test_collapsed_runs_are_named_and_can_be_left_out(study_type: Any, tmp_path: Path) -> None:
    study = study_type(tmp_path / "fallen", "convnext_mini")
    for number, steps in enumerate(
        [(), ("gelu",), ("layer_norm",), ("gelu", "layer_norm"), ("stage_ratio",), ("stage_ratio", "gelu")] * 2
    ):
        study.run("", number // 6, 12.0 if number == 3 else 90 + 0.3 * len(steps) + 0.1 * number, steps=steps)
    text = " ".join(run(f"{tmp_path}/fallen").split())
    assert "COLLAPSED" in text and "gelu+layer_norm-s0" in text and "without collapsed" in text
    text = " ".join(run(f"{tmp_path}/fallen", "--without-collapsed").split())
    assert "11 runs" in text and "gelu+layer_norm-s0" in text and "left out" in text


def test_the_report_of_a_design_says_what_steps_are_worth() -> None:
    page, _ = build(DESIGN)
    assert "What each step is worth on average" in page and "Effects beside noise" in page


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((DESIGN, "--max-macs", "4"), "--max-macs and --min-speed go with --best"),
        ((DESIGN, "--best", "--max-macs", "0.01"), "no subset of the steps is within the budget"),
        ((DESIGN, "--best", "--at-equal-macs"), "exclude each other"),
        ((DESIGN, "--beside", "convnext_t", "--response", "logit"), "--beside is in points"),
        ((DESIGN, "--beside", "/nowhere/at"), "/nowhere/at"),
        ((DEMO, "--best", "--format", "csv"), "--best goes with"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(UserError) as told:
        run(*arguments)
    assert says in str(told.value) and "\n" not in str(told.value)
