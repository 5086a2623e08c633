"""Owns the checks of the table of settings: a row for each setting, a column for each network, the best marked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from analysis import tuning
from ladder.errors import UserError


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    def call(*args: str) -> list[str]:
        assert tuning.main(list(args)) == 0
        return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]

    return call


def test_one_row_for_each_setting(make_study: Callable[..., Any], told: Callable[..., list[str]]) -> None:
    study = make_study("lr")
    for lr, low, high in ((0.01, 50.0, 61.0), (0.001, 52.0, 60.0), (0.004, 51.0, 63.0)):
        study.run("resnet", 0, low, recipe={"lr": lr})
        study.run("gelu", 0, high, recipe={"lr": lr})
    lines = told(str(study.root))
    head = lines.index("recipe.lr resnet gelu")
    assert lines[head + 2 : head + 5] == ["0.001 52.00 * 60.00", "0.004 51.00 63.00 *", "0.01 50.00 61.00"]
    notes = " ".join(lines[head + 5 :])
    assert "one seed each" in notes and "seen on the test split" in notes


def test_seeds_are_one_cell_and_a_gap_is_a_dash(make_study: Callable[..., Any], told: Callable[..., list[str]]) -> None:
    study = make_study("drop")
    for seed in range(3):
        study.run("resnet", seed, 50.0 + seed, eval_split="holdout", recipe={"drop_path": 0.1})
    study.run("gelu", 0, 40.0, eval_split="holdout", recipe={"drop_path": 0.0})
    study.run("gelu", 0, 41.0, eval_split="holdout", recipe={"drop_path": 0.1})
    lines = told(str(study.root))
    assert "0 - 40.00 (1) ~" in lines and "0.1 51.00 ±1.00 (3) * 41.00 (1) *" in lines
    assert "in brackets: seeds" in " ".join(lines)
    assert not any(words in " ".join(lines) for words in ("test split", "one seed"))


def test_what_is_not_clear_of_the_best_is_marked(
    make_study: Callable[..., Any], told: Callable[..., list[str]]
) -> None:
    study = make_study("lr")
    for lr, top1 in ((0.001, 40.0), (0.002, 60.2), (0.004, 60.4), (0.008, 60.1)):
        for seed in range(3):
            study.run("resnet", seed, top1 + (0.3, -0.2, 0.1)[(seed + round(lr * 1000)) % 3], recipe={"lr": lr})
    lines = told(str(study.root))
    marks = {line.split()[0]: line.split()[-1] for line in lines if line.startswith("0.0")}
    assert marks == {"0.001": "±0.25", "0.002": "~", "0.004": "*", "0.008": "~"}
    assert "not clear of the best: ~, the 95% interval of the difference (of all pairs of a column at once)" in (
        " ".join(lines)
    )
    assert "at once" not in " ".join(told(str(study.root), "--interval", "each"))


def test_spec_keys_and_lists_are_settings(make_study: Callable[..., Any], told: Callable[..., list[str]]) -> None:
    study = make_study("network")
    for betas, top1 in (([0.9, 0.999], 50.0), ([0.9, 0.95], 52.0)):
        study.run("resnet", 0, top1, recipe={"betas": betas, "drop_path": 0.1})
        study.run("resnet", 0, top1 + 1, recipe={"betas": betas, "drop_path": 0.1}, spec={"drop_path": 0.3})
    shutil.copytree(study.root, again := study.root.with_name("again"))
    lines = told(str(study.root), str(again))
    head = lines.index("recipe.betas spec.drop_path resnet")
    assert sorted(lines[head + 2 : head + 6]) == [
        "[0.9, 0.95] 0.3 53.00 *",
        "[0.9, 0.95] the rung's own 52.00",
        "[0.9, 0.999] 0.3 51.00",
        "[0.9, 0.999] the rung's own 50.00",
    ]
    assert "in more than one of the studies, counted once: 4" in " ".join(lines)
    assert "the rung's own 52.00" in " ".join(told(str(study.root), "--where", "recipe.betas=[0.9,0.95]"))


def test_splits_are_not_mixed_and_a_choice_on_what_is_reported_is_told(
    make_study: Callable[..., Any], told: Callable[..., list[str]]
) -> None:
    study = make_study("mixed")
    for lr in (0.001, 0.002):
        study.run("resnet", 0, 50.0, eval_split="val", recipe={"lr": lr})
        study.run("resnet", 1, 50.0, eval_split="holdout", recipe={"lr": lr}, data={"holdout": 0.1})
    with pytest.raises(UserError, match=r"digits val, digits holdout.*--where"):
        tuning.main([str(study.root)])
    assert "seen on the val split" in " ".join(told(str(study.root), "--where", "data.holdout=0"))


def test_a_study_of_one_setting_is_no_search(make_study: Callable[..., Any]) -> None:
    study = make_study("plain")
    study.run("resnet", 0, 50.0)
    study.run("gelu", 0, 51.0)
    with pytest.raises(UserError, match=r"one setting.*ladder table"):
        tuning.main([str(study.root)])
