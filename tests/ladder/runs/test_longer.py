"""Owns the tests of longer runs: they go on from a finished one where the schedule allows it, or say why they don't."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from tiny import assert_equal, final_state, run_of, train

from ladder.runs.notes import notes
from ladder.runs.resolve import Run

MEASURED = ("images_per_s", "seconds")


def rows(run: Run) -> list[dict[str, Any]]:
    """What metrics.csv says, without what only measures time."""
    with (run.dir.path / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in MEASURED} for row in csv.DictReader(file)]


def test_a_longer_run_says_why_it_starts_anew(tmp_path: Path) -> None:
    run = run_of(tmp_path, "rung=gelu", "recipe.epochs=1", "study=mine")
    assert train(run).state == "done"
    longer = run_of(tmp_path, "rung=gelu", "recipe.epochs=3", "study=mine")
    (line,) = notes([(longer, [])])
    assert line.startswith(f"{run.label} is done in 1 epoch; of 3 it is trained from its start: the rate of a cosine")
    other = run_of(tmp_path, "rung=gelu", "recipe.epochs=3", "recipe.lr=0.5", "study=mine")
    assert notes([(run, []), (other, [])]) == [], "the same run, and one that differs in more"


@pytest.mark.parametrize("schedule", ["constant", "step"])
def test_where_the_schedule_is_the_same_so_far_it_goes_on_and_equals_one_from_the_start(
    tmp_path: Path, schedule: str
) -> None:
    options = (f"recipe.schedule={schedule}", "rung=gelu", "engine.eval_every=2", "recipe.warmup_epochs=1")
    options += ("recipe.decay_epochs=2",) if schedule == "step" else ()
    for epochs in (1, 3):
        assert train(run_of(tmp_path / "in_parts", *options, f"recipe.epochs={epochs}")).state == "done"
    long = run_of(tmp_path / "in_parts", *options, "recipe.epochs=5")
    (said,) = notes([(long, [])])
    assert f"is done in 3 epochs; of 5 it goes on from there: recipe.schedule={schedule}" in said
    assert train(long).state == "done"
    log = (long.dir.path / "train.log").read_text()
    assert "goes on from gelu-s0-" in log and "done in 3 epochs" in log and "epoch 3/5" not in log
    undisturbed = run_of(tmp_path / "at_once", *options, "recipe.epochs=5")
    assert train(undisturbed).state == "done"
    assert_equal(final_state(long), final_state(undisturbed))
    assert rows(long) == rows(undisturbed)


def test_a_broken_or_foreign_checkpoint_is_no_start(tmp_path: Path) -> None:
    options = ("recipe.schedule=constant", "rung=gelu", "recipe.warmup_epochs=0")
    short = run_of(tmp_path, *options, "recipe.epochs=1")
    assert train(short).state == "done"
    for path in (short.dir.path / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    long = run_of(tmp_path, *options, "recipe.epochs=2")
    assert train(long).state == "done"
    log = (long.dir.path / "train.log").read_text()
    assert "not from gelu-s0-" in log and "epoch 1/2" in log
    other = run_of(tmp_path, *options, "recipe.epochs=3", "recipe.lr=0.5")
    assert train(other).state == "done"
    assert "goes on" not in (other.dir.path / "train.log").read_text()
