"""A network that evaluates to NaN has no accuracy: never done, never in a table; and what is written is strict JSON."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import run_of, train

import analysis
from ladder.paths import strict_json
from ladder.runs.folder import not_finite
from ladder.runs.resolve import Run
from ladder.training.engine import Engine

BATCH_NORM = ("rung=8",)  # a rung whose evaluation depends on running statistics


def blow_up(monkeypatch: pytest.MonkeyPatch, *epochs: int, average: bool = False) -> None:
    """Let running statistics be NaN when the network (or the average of its weights) is evaluated in these epochs."""
    evaluate = Engine.evaluate

    def spoiled(self: Engine, model: torch.nn.Module, *seen: Any) -> Any:
        if self.epoch + 1 in epochs and (model is not self.model) == average:
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.running_mean = torch.full_like(module.running_mean, math.nan)  # type: ignore[arg-type]
        figures = evaluate(self, model, *seen)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.nan_to_num_()  # type: ignore[union-attr]
        return figures

    monkeypatch.setattr(Engine, "evaluate", spoiled)


def strict(path: Path) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{path} holds {word}, which is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def rows_of(run: Run) -> list[dict[str, str]]:
    return list(csv.DictReader((run.dir.path / "metrics.csv").open()))


def test_a_network_whose_last_evaluation_is_nan_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blow_up(monkeypatch, 2)
    run = run_of(tmp_path, *BATCH_NORM)
    for _ in range(2):  # a second launch does not call it done either
        outcome = train(run)
        assert outcome.state == "failed" and not outcome.again
        assert outcome.error is not None and "evaluates to NaN or infinity" in outcome.error
        assert not run.dir.is_done and not (run.dir.path / "result.json").exists()
        status = strict(run.dir.path / "status.json")
        assert status["state"] == "failed" and status["top1"] in (None, float(rows_of(run)[0]["top1"]))
    assert [row["top1"] != "" for row in rows_of(run)] == [True, False]
    (row,) = analysis.load(run.dir.path.parent).itertuples()
    assert row.state == "failed"


def test_one_that_recovers_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blow_up(monkeypatch, 1)
    run = run_of(tmp_path, *BATCH_NORM)
    assert train(run).state == "done"
    result = strict(run.dir.path / "result.json")
    assert result["best"]["epoch"] == 2 and [row["eval_loss"] != "" for row in rows_of(run)] == [False, True]
    assert "epoch 1: the network evaluates to NaN" in (run.dir.path / "train.log").read_text()


def test_an_average_that_evaluates_to_nan_has_no_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blow_up(monkeypatch, 1, 2, average=True)
    run = run_of(tmp_path, *BATCH_NORM, "recipe.ema_decay=0.5")
    assert train(run).state == "done"
    result = strict(run.dir.path / "result.json")
    assert result["final"]["ema_top1"] is None and result["final"]["top1"] > 0
    assert "the moving average evaluates to NaN" in (run.dir.path / "train.log").read_text()


@pytest.mark.parametrize("key", ["eval_loss", "top1"])
def test_a_nan_that_an_earlier_version_called_done_is_not(tmp_path: Path, key: str) -> None:
    run = run_of(tmp_path, *BATCH_NORM)
    assert train(run).state == "done"
    path = run.dir.path / "result.json"
    result = json.loads(path.read_text())
    result["final"][key] = math.nan
    path.write_text(json.dumps(result))
    assert not run.dir.is_done
    told: list[str] = []
    loaded = analysis.load(run.dir.path.parent, on_skip=told.append)
    assert not (loaded["state"] == "done").any()
    assert any(f"final.{key} is nan" in line for line in (*told, *loaded["error"].dropna()))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50)
@given(value=JSON)
def test_what_is_written_is_strict_json_and_else_the_same(value: Any) -> None:
    def expected(one: Any) -> Any:
        if isinstance(one, dict):
            return {key: expected(inner) for key, inner in one.items()}
        if isinstance(one, list):
            return [expected(inner) for inner in one]
        return None if isinstance(one, float) and not math.isfinite(one) else one

    def refuse(word: str) -> None:
        raise AssertionError(word)

    assert json.loads(strict_json(value, 1), parse_constant=refuse) == expected(value)
    odd = isinstance(value, float) and not math.isfinite(value)
    assert (not_finite({"top1": 1.0, "eval_loss": value}) is not None) == odd
