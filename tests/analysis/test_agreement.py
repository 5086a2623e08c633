"""Owns the checks of the comparison of two walks over the same steps."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from analysis import agreement, effects, figures
from ladder.errors import UserError

RUNGS = ("resnet", "stage_ratio", "patchify_stem", "depthwise_conv", "increase_width")


Walk = Callable[..., str]


@pytest.fixture
def walk(make_study: Callable[..., Any]) -> Walk:
    """A function that writes a study of the first rungs: its top-1 rises by `gains`, `noise` is between seeds."""

    def write(name: str, gains: tuple[float, ...], noise: float = 0.01) -> str:
        made, top1 = make_study(name), 50.0
        for index, rung in enumerate(RUNGS[: len(gains) + 1]):
            top1 += gains[index - 1] if index else 0
            for seed in range(3):
                made.run(rung, seed, top1 + noise * ((seed + index) % 3))
        return str(made.root)

    return write


def told(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert agreement.main([*args, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_same_order_of_gains_is_full_agreement(walk: Walk, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = walk("one", (1, -2, 3, 4)), walk("two", (2, -1, 5, 9))
    found = told(capsys, one, two)
    assert found["tau"] == pytest.approx(1)
    assert (found["low"], found["high"]) == pytest.approx((1, 1))
    assert [s["ours"]["verdict"] for s in found["steps"]] == ["helps", "hurts", "helps", "helps"]
    turned = walk("turned", (-1, 2, -3, -4))
    assert told(capsys, one, turned)["tau"] == pytest.approx(-1)


def test_noise_widens_the_interval(walk: Walk, capsys: pytest.CaptureFixture[str]) -> None:
    one, loud = walk("one", (1, -2, 3, 4)), walk("loud", (1, -2, 3, 4), noise=5)
    found = told(capsys, one, loud)
    assert found["low"] < 0.5
    assert {s["theirs"]["verdict"] for s in found["steps"]} == {"noise"}


def test_a_study_beside_the_paper(walk: Walk, capsys: pytest.CaptureFixture[str]) -> None:
    one = walk("one", (1, -2, 3, 4))
    found = told(capsys, one, "convnext_t")
    assert [s["rung"] for s in found["steps"]] == list(RUNGS[1:])
    by_rung = {s["rung"]: s["theirs"] for s in found["steps"]}
    assert by_rung["depthwise_conv"]["change"] == pytest.approx(-1.23)
    assert by_rung["depthwise_conv"]["verdict"] == "hurts"
    assert agreement.main([one, "convnext_t"]) == 0
    text = capsys.readouterr().out
    assert "Kendall's tau" in text
    assert "nan" not in text


def test_without_a_spread_there_is_no_interval(
    make_study: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_study("single")
    for index, rung in enumerate(RUNGS):
        made.run(rung, 0, 50.0 + index**2)
    found = told(capsys, str(made.root), "convnext_t")
    assert found["low"] is None
    assert not math.isnan(found["tau"])
    assert {s["ours"]["verdict"] for s in found["steps"]} == {"unknown"}


def test_a_walk_beside_a_star_is_told(
    make_study: Callable[..., Any], tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    rungs = ("move_up_depthwise", "kernel_5", "kernel_7")
    walked, star = make_study("walked"), type(make_study("star"))(tmp_path / "star", "convmixer_32")
    for index, name in enumerate(rungs):
        walked.run(name, 0, 50.0 + index)
        star.run(name if index else "convmixer_64_4", 0, 50.0 - index)
    assert agreement.main([str(walked.root), str(star.root)]) == 0
    assert "CHANGES OF TWO KINDS, which need not agree: walked: from the rung before; star: from the base" in (
        " ".join(capsys.readouterr().out.split())
    )


def test_a_design_stands_beside_a_walk_by_its_effects(
    make_study: Callable[..., Any], walk: Walk, capsys: pytest.CaptureFixture[str]
) -> None:
    gains = dict(zip(RUNGS[1:], (1.0, -2.0, 3.0, 4.0), strict=True))
    designed = make_study("designed")
    for number in range(16):
        steps = [step for bit, step in enumerate(gains) if number >> bit & 1 or step == "depthwise_conv"]
        for seed in range(2):
            top1 = 50 + sum(gains[step] for step in steps) + 0.01 * ((number + seed) % 3)
            designed.run("steps_" + "-".join(steps), seed, top1, steps=steps)
    one = walk("one", tuple(gains.values()))
    found = told(capsys, str(designed.root), one)
    assert found["kinds"] == ["design", "chain"]
    assert [s["rung"] for s in found["steps"]] == ["stage_ratio", "patchify_stem", "increase_width"]
    for step in found["steps"]:
        assert step["ours"]["change"] == pytest.approx(gains[step["rung"]], abs=0.02)
        assert step["ours"]["low"] < gains[step["rung"]] < step["ours"]["high"]
    assert (found["tau"], found["low"], found["high"]) == pytest.approx((1, 1, 1))
    assert [s["rung"] for s in told(capsys, one, str(designed.root))["steps"]] == [s["rung"] for s in found["steps"]]
    both = told(capsys, str(designed.root), one, "convnext_t")["steps"]
    assert [s["rung"] for s in both] == list(RUNGS[1:])
    assert all(s["ours"]["change"] == pytest.approx(gains[s["rung"]], abs=0.02) for s in both)
    assert agreement.main([str(designed.root), one]) == 0
    assert "designed: averaged over contexts; one: from the rung before" in " ".join(capsys.readouterr().out.split())


def test_effects_agree_with_what_ladder_effects_says(capsys: pytest.CaptureFixture[str]) -> None:
    design = "runs/published/demo_design"
    found = told(capsys, design, "convnext_t")
    assert effects.main([design, "--format", "json"]) == 0
    said = {one["step"]: one for one in json.loads(capsys.readouterr().out)["effects"]}
    for step in found["steps"]:
        effect = said[step["rung"]]
        ours = step["ours"]
        assert (ours["change"], ours["low"], ours["high"]) == (
            effect["effect"],
            effect["effect_low"],
            effect["effect_high"],
        )
    assert found["doubts"] == ["digits: STEPS DO NOT ADD UP, ladder effects tells on what they depend"]


def test_collapsed_runs_are_told_and_can_be_left_out(
    make_study: Callable[..., Any], tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    designed = make_study("designed")
    for number in range(16):
        steps = [step for bit, step in enumerate(RUNGS[1:]) if number >> bit & 1 or step == "depthwise_conv"]
        for seed in range(2):
            designed.run("", seed, 50 + len(steps) + 0.01 * ((number + seed) % 3), steps=steps)
    designed.run("", 2, 12.0, steps=["stage_ratio", "depthwise_conv"])
    assert told(capsys, str(designed.root), "convnext_t")["doubts"][-1].endswith("1 COLLAPSED, ladder effects names it")
    found = told(capsys, str(designed.root), "convnext_t", "--without-collapsed")
    assert found["doubts"] == ["digits: 1 COLLAPSED, left out"]
    assert all(step["ours"]["change"] == pytest.approx(1, abs=0.02) for step in found["steps"])
    made = [str(designed.root), "--only", "effects", "--formats", "svg", "--out", str(tmp_path / "out")]
    assert figures.main([*made, "--without-collapsed"]) == 0
    assert "(1 collapsed left out)" in (tmp_path / "out" / "effects.svg").read_text()


def test_each_side_is_narrowed_by_itself(make_study: Callable[..., Any], walk: Walk) -> None:
    one, mixed = walk("one", (1, -2, 3, 4)), make_study("mixed")
    for lr in (0.001, 0.004):
        for index, rung in enumerate(RUNGS):
            mixed.run(rung, 0, 50.0 + index, recipe={"lr": lr}, data={"image_size": 32})
            mixed.run(rung, 1, 50.0 + index, data={"name": "other", "image_size": 64}, recipe={"lr": lr})
    with pytest.raises(UserError, match=r"differ in recipe\.lr"):
        agreement.main([one, str(mixed.root), "--where", "recipe.lr=0.004"])
    with pytest.raises(UserError, match=r"several tables.*--other-where KEY=VALUE"):
        agreement.main([one, str(mixed.root), "--other-where", "recipe.lr=0.004"])
    asked = ["--other-where", "recipe.lr=0.004", "--other-where", "data.name=other"]
    assert agreement.main([one, str(mixed.root), *asked]) == 0


def test_mistakes(walk: Walk, make_study: Callable[..., Any]) -> None:
    one = walk("one", (1, 2))
    for given in (["convnext_t"], [one, "convnext_t"]):
        with pytest.raises(UserError, match="convnext_t is a ladder: give a study first"):
            agreement.main([*given, one])
    lonely = make_study("lonely")
    lonely.run("gelu", 0, 50.0)
    with pytest.raises(UserError, match="0 finished steps in common"):
        agreement.main([one, str(lonely.root)])
