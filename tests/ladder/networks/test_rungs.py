"""Ladders: the rungs of the paper, subsets of steps, and what a wrong name or a wrong file gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ladder.errors import UserError
from ladder.networks.rungs import Ladder, list_ladders, load_ladder
from ladder.networks.spec import NetSpec

STEPS = [
    "stage_ratio",
    "patchify_stem",
    "depthwise_conv",
    "increase_width",
    "inverted_bottleneck",
    "move_up_depthwise",
    "kernel_7",
    "gelu",
    "fewer_activations",
    "fewer_norms",
    "layer_norm",
    "separate_downsampling",
]
ROADMAPS = {"convnext_t": "resnet50", "convnext_b": "resnet200", "convnext_mini": "resnet", "convnext_32": "resnet"}

# arXiv:2201.03545v2, Tables 10 (T: top-1, std, GFLOPs) and 11 (B: top-1, GFLOPs).
TABLE_10 = {
    "resnet50": (78.82, 0.07, 4.09),
    "stage_ratio": (79.36, 0.07, 4.53),
    "patchify_stem": (79.51, 0.18, 4.42),
    "depthwise_conv": (78.28, 0.08, 2.35),
    "increase_width": (80.50, 0.02, 5.27),
    "inverted_bottleneck": (80.64, 0.03, 4.64),
    "move_up_depthwise": (79.92, 0.08, 4.07),
    "kernel_5": (80.35, 0.08, 4.10),
    "kernel_7": (80.57, 0.14, 4.15),
    "kernel_9": (80.57, 0.06, 4.21),
    "kernel_11": (80.47, 0.11, 4.29),
    "gelu": (80.62, 0.14, 4.15),
    "fewer_activations": (81.27, 0.06, 4.15),
    "fewer_norms": (81.41, 0.09, 4.15),
    "layer_norm": (81.47, 0.09, 4.46),
    "separate_downsampling": (81.97, 0.06, 4.49),
}
TABLE_11 = {
    "resnet200": (81.14, 15.01),
    "stage_ratio": (81.33, 14.52),
    "patchify_stem": (81.59, 14.38),
    "depthwise_conv": (80.54, 7.23),
    "increase_width": (81.85, 16.76),
    "inverted_bottleneck": (82.64, 15.68),
    "move_up_depthwise": (82.04, 14.63),
    "kernel_5": (82.32, 14.70),
    "kernel_7": (82.30, 14.81),
    "kernel_9": (82.27, 14.95),
    "kernel_11": (82.18, 15.13),
    "gelu": (82.19, 14.81),
    "fewer_activations": (82.71, 14.81),
    "fewer_norms": (83.17, 14.81),
    "layer_norm": (83.35, 14.81),
    "separate_downsampling": (83.60, 15.35),
}


@pytest.mark.parametrize("name", ROADMAPS)
def test_the_roadmaps_have_the_papers_rungs_in_order(name: str) -> None:
    ladder = load_ladder(name)
    assert [r.name for r in ladder.rungs] == [ROADMAPS[name], *STEPS]
    assert [r.index for r in ladder.rungs] == list(range(13))
    assert [r.parent for r in ladder.rungs] == [None, ROADMAPS[name], *STEPS[:-1]]
    assert [(r.name, r.index, r.parent) for r in ladder.side_rungs] == [
        (f"kernel_{k}", None, "move_up_depthwise") for k in (5, 9, 11)
    ]
    assert all(r.is_side for r in ladder.side_rungs) and not any(r.is_side for r in ladder.rungs)


def test_papers_rows_are_those_of_tables_10_and_11() -> None:
    ladder = load_ladder("convnext_t")
    rows = {r.name: (r.paper.top1, r.paper.std, r.paper.gflops) for r in (*ladder.rungs, *ladder.side_rungs)}
    assert rows == TABLE_10
    ladder = load_ladder("convnext_b")
    assert {r.name: (r.paper.top1, r.paper.gflops) for r in (*ladder.rungs, *ladder.side_rungs)} == TABLE_11


def test_the_two_misprints_of_table_10_carry_a_note_and_nothing_else_does() -> None:
    noted = [
        (ladder, r.name)
        for ladder in ("convnext_t", "convnext_b")
        for r in (*load_ladder(ladder).rungs, *load_ladder(ladder).side_rungs)
        if r.paper.macs_note
    ]
    assert noted == [("convnext_t", "layer_norm"), ("convnext_t", "separate_downsampling")]


@pytest.mark.parametrize("name", ROADMAPS)
def test_each_step_changes_the_spec_of_the_rung_before(name: str) -> None:
    ladder = load_ladder(name)
    for before, after, step in zip(ladder.rungs, ladder.rungs[1:], ladder.steps, strict=False):
        changed = {f for f in NetSpec.field_names() if getattr(before.spec, f) != getattr(after.spec, f)}
        assert changed == set(step.change), after.name  # no step says what was so already


@pytest.mark.parametrize("name", ["convnext_mini", "convnext_32"])
def test_both_stems_of_a_small_ladder_have_the_same_stride(name: str) -> None:
    assert {r.spec.reduction for r in load_ladder(name).rungs} == {16}


def test_the_small_ladder_is_the_papers_at_a_quarter_of_its_widths() -> None:
    small, paper = load_ladder("convnext_mini"), load_ladder("convnext_t")
    for ours, theirs in zip(small.rungs, paper.rungs, strict=True):
        assert isinstance(ours.spec, NetSpec) and isinstance(theirs.spec, NetSpec)
        assert tuple(4 * width for width in ours.spec.widths) == theirs.spec.widths
        assert ours.spec.init_base_width == theirs.spec.widths[0]
        scaled = ("depths", "widths", "stem_stride", "layer_scale", "init_base_width")
        assert ours.spec.replace(**{k: getattr(theirs.spec, k) for k in scaled}) == theirs.spec, ours.name


def test_the_first_small_ladder_is_the_same_walk_from_other_start_weights() -> None:
    old, new = load_ladder("convnext_32"), load_ladder("convnext_mini")
    for before, after in zip((*old.rungs, *old.side_rungs), (*new.rungs, *new.side_rungs), strict=True):
        assert after.spec.replace(init_base_width=None) == before.spec


@pytest.mark.parametrize("name", list_ladders())
def test_every_ladder_file_loads_and_names_itself(name: str) -> None:
    ladder = load_ladder(name)
    assert ladder.name == name
    names = [r.name for r in (*ladder.rungs, *ladder.side_rungs)]
    assert len(names) == len(set(names)) > 1
    for i, rung in enumerate(ladder.rungs):
        assert ladder.rung(rung.name) == ladder.rung(i) == ladder.rung(str(i)) == rung


def test_without_a_name_the_top_rung_is_meant() -> None:
    assert load_ladder("convnext_t").rung().name == "separate_downsampling"


@settings(max_examples=60)
@given(chosen=st.sets(st.sampled_from(STEPS)), order=st.randoms())
def test_a_subset_applies_its_steps_in_the_ladders_order(chosen: set[str], order: Any) -> None:
    ladder = load_ladder("convnext_32")
    given_order = sorted(chosen)
    order.shuffle(given_order)
    some, all_but = ladder.subset(steps=given_order), ladder.subset(without=[s for s in STEPS if s not in chosen])
    expected = dict(ladder.base.change)
    for step in ladder.steps:
        if step.name in chosen:
            expected.update(step.change)
    assert some.spec == all_but.spec == NetSpec.from_mapping(expected)
    assert some.name == ("+".join(s for s in STEPS if s in chosen) or "resnet")


def test_subsets_of_leading_steps_are_the_rungs() -> None:
    ladder = load_ladder("convnext_t")
    for rung in ladder.rungs:
        assert rung.index is not None
        assert ladder.subset(steps=STEPS[: rung.index]).spec == rung.spec
    assert ladder.subset(steps=[*STEPS[:6], "kernel_9"]).spec == ladder.rung("kernel_9").spec
    assert ladder.subset(without=[]).spec == ladder.rung().spec


def one_line(told: pytest.ExceptionInfo[UserError]) -> str:
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("gleu", "unknown rung of convnext_t 'gleu'; did you mean gelu"),
        (99, "rung 99 of convnext_t: allowed are 0 to 12"),
        ("99", "rung 99 of convnext_t: allowed are 0 to 12"),
        (-1, "rung -1 of convnext_t: allowed are 0 to 12"),
        ("--5", "unknown rung"),
        ("²", "unknown rung"),
        (True, "unknown rung"),
        (1.5, "unknown rung"),
        ("", "unknown rung"),
    ],
)
def test_a_wrong_rung_is_told(key: Any, says: str) -> None:
    with pytest.raises(UserError) as told:
        load_ladder("convnext_t").rung(key)
    assert says in one_line(told)


def test_a_wrong_ladder_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError) as told:
        load_ladder("convnxt_t")
    assert "unknown ladder 'convnxt_t'; did you mean convnext_t" in one_line(told)


@pytest.mark.parametrize("how", ["steps", "without"])
def test_a_wrong_step_is_told_with_the_nearest(how: str) -> None:
    with pytest.raises(UserError) as told:
        load_ladder("convnext_t").subset(**{how: ["gelu", "depthwise"]})
    assert "unknown step of convnext_t 'depthwise'; did you mean depthwise_conv" in one_line(told)


def test_steps_and_without_exclude_each_other() -> None:
    with pytest.raises(UserError, match="exclude each other"):
        load_ladder("convnext_t").subset(steps=["gelu"], without=["gelu"])


BASE = {"network": "roadmap", "base": {"name": "start", "spec": {}}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"setps": []}, "unknown key 'setps'; did you mean steps"),
        ({"network": "transformer"}, "unknown network"),
        ({"network": None}, "unknown network"),
        ({"kind": "tree"}, "kind='tree'; allowed: chain, star"),
        ({"image_size": "big"}, "big"),
        ({"base": None}, "key"),
        ({"base": {"name": "start"}}, "lacks the key 'spec'"),
        ({"base": {"name": "start", "spec": {"kernel_size": 4}}}, "spec.kernel_size=4"),
        ({"steps": 5}, "key"),
        ({"steps": ["gelu"]}, "unknown key of a step"),
        ({"steps": [{"change": {}}]}, "lacks the key 'name'"),
        ({"steps": [{"name": "start"}]}, "start named twice"),
        ({"steps": [{"name": "a", "chang": {}}]}, "unknown key of a step 'chang'; did you mean change"),
        ({"steps": [{"name": "a", "change": ["gelu"]}]}, "key"),
        ({"steps": [{"name": "a", "change": {"kernal_size": 7}}]}, "did you mean kernel_size"),
        ({"steps": [{"name": "a", "change": {"act": "glue"}}]}, "spec.act='glue'"),
        ({"steps": [{"name": "a", "paper": {"top1": "high"}}]}, "paper.top1='high'"),
        ({"steps": [{"name": "a", "paper": {"top": 80}}]}, "top"),
        ({"side": [{"name": "a", "after": "strat"}]}, "did you mean start"),
        ({"references": [{"title": "other"}]}, "lacks the key 'paper'"),
    ],
)
def test_a_wrong_ladder_file_is_one_line(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**BASE, **change}))
    with pytest.raises(UserError) as told:
        load_ladder(path)
    assert says in one_line(told)
    assert "mine" in str(told.value)  # which file


@pytest.mark.parametrize("content", [b"steps: [", b"- a\n- b\n", b"", b"\xff\xfe\x00"])
def test_a_file_that_is_no_ladder_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"mine\.yaml"):
        load_ladder(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.yaml: No such file"):
        load_ladder(tmp_path / "gone.yaml")


def test_a_ladder_of_ones_own_needs_a_yaml_file_only(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    steps = [{"name": "wide", "change": {"widths": [32] * 4}}, {"name": "gelu", "change": {"act": "gelu"}}]
    path.write_text(yaml.safe_dump({**BASE, "steps": steps}))
    ladder = load_ladder(str(path))
    assert (ladder.name, [r.name for r in ladder.rungs]) == ("mine", ["start", "wide", "gelu"])
    assert ladder.rung().spec == NetSpec(widths=(32,) * 4, act="gelu")


def test_in_a_star_every_step_starts_from_the_base() -> None:
    steps = [
        {"name": "wide", "change": {"widths": [32] * 4}, "recipe": {"lr": 0.1}},
        {"name": "gelu", "change": {"act": "gelu"}},
    ]
    star = Ladder.from_mapping({"name": "star", **BASE, "kind": "star", "steps": steps})
    assert [r.spec for r in star.rungs] == [NetSpec(), NetSpec(widths=(32,) * 4), NetSpec(act="gelu")]
    assert [r.parent for r in star.rungs] == [None, "start", "start"]
    assert [dict(r.recipe) for r in star.rungs] == [{}, {"lr": 0.1}, {}]


def test_in_a_star_a_side_step_is_on_the_step_that_it_names() -> None:
    steps = [{"name": "wide", "change": {"widths": [32] * 4}}, {"name": "gelu", "change": {"act": "gelu"}}]
    side = [
        {"name": "large", "after": "gelu", "change": {"kernel_size": 9}},
        {"name": "larger", "after": "start", "change": {"kernel_size": 11}},
    ]
    star = Ladder.from_mapping({"name": "star", **BASE, "kind": "star", "steps": steps, "side": side})
    assert [r.spec for r in star.side_rungs] == [NetSpec(act="gelu", kernel_size=9), NetSpec(kernel_size=11)]
    assert star.rung().name == "start"
