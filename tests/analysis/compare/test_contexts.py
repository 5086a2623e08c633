"""Owns the tests of contexts: steps that exclude or require each other are averaged over what networks can be."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_cases import cases, every

from analysis.compare import cases as cases_module
from analysis.compare import effect_search, effects
from analysis.compare.cases import Cases
from analysis.compare.contexts import Contexts, Pair
from ladder.launch.designs import Row
from ladder.networks.rungs import Step, load_ladder

CONVMIXER = load_ladder("convmixer_32")
KERNELS, PATCHES = ("kernel_3", "kernel_5", "kernel_7"), ("patch_4", "patch_8")


def crossed(top1: Any) -> Cases:
    """Two runs of every kernel size at every patch size."""
    subsets = [tuple(filter(None, pair)) for pair in itertools.product(("", *KERNELS), ("", *PATCHES))] * 2
    data = cases(subsets, top1)
    rows = tuple(Row(steps, {}, seed) for steps, seed in zip(subsets, [0] * 12 + [1] * 12, strict=True))
    return cases_module._varied(replace(data, ladder=CONVMIXER, rows=rows))


@pytest.mark.parametrize("pairs", [(), (("kernel_3", "patch_8"), ("kernel_3", "patch_4"))])
def test_an_effect_is_the_average_over_all_alternatives_of_the_other_steps(pairs: tuple[Pair, ...]) -> None:
    random = np.random.default_rng(8)
    top1 = 50 + 5 * random.normal(size=(1, 4, 3)) + random.normal(size=(2, 4, 3))  # kernels and patches interact
    data = crossed(top1.ravel())
    assert data.names == (*KERNELS, *PATCHES)
    model = effects.model(data, pairs, random=True)
    means = top1.mean(axis=(0, 2)), top1.mean(axis=(0, 1))
    truth = [*(means[0][1:] - means[0][0]), *(means[1][1:] - means[1][0])]
    assert [change.delta for change in model.main_effects().values()] == pytest.approx(truth)
    assert {*model.others, *pairs} == set(itertools.product(KERNELS, PATCHES)), "alternatives do not interact"
    _, tried = effect_search.search(data)
    assert {one.pair for one in tried} == set(itertools.product(KERNELS, PATCHES))


def test_a_step_given_an_alternative_is_what_it_is_worth_there() -> None:
    random = np.random.default_rng(9)
    top1 = np.tile(50 + 5 * random.normal(size=(1, 4, 3)), (2, 1, 1)) + 0.01 * random.normal(size=(2, 4, 3))
    model = effects.model(crossed(top1.ravel()), tuple(itertools.product(KERNELS, PATCHES)))
    change = top1.mean(axis=0)[1:] - top1.mean(axis=0)[0]  # of each kernel size, at each patch size
    told = {(one.step, one.other): one for one in model.given()}
    for kernel, (at_2, at_4, at_8) in zip(KERNELS, change, strict=True):
        assert told[kernel, "patch_8"].with_it.delta == pytest.approx(at_8)
        assert told[kernel, "patch_8"].without.delta == pytest.approx((at_2 + at_4) / 2)
        assert told[kernel, "patch_4"].with_it.delta == pytest.approx(at_4)


def test_a_step_that_requires_another_is_told_where_it_can_be_taken() -> None:
    random = np.random.default_rng(10)
    top1 = np.tile(50 + 5 * random.normal(size=6), 2) + 0.01 * random.normal(size=12)
    subsets = every(("depthwise_conv", "increase_width", "gelu"))
    feasible = [s for s in subsets if "depthwise_conv" in s or "increase_width" not in s]
    data = cases(feasible * 2, top1, [0] * 6 + [1] * 6)
    mean = {row.steps: (top1[i] + top1[i + 6]) / 2 for i, row in enumerate(data.rows[:6])}
    alone, both = ("depthwise_conv",), ("depthwise_conv", "increase_width")
    truth = [
        (mean[alone] - mean[()] + mean[*alone, "gelu"] - mean["gelu",]) / 2,
        (mean[both] - mean[alone] + mean[*both, "gelu"] - mean[*alone, "gelu"]) / 2,
        sum(mean[*steps, "gelu"] - mean[steps] for steps in ((), alone, both)) / 3,
    ]
    for pairs in ((), (("increase_width", "gelu"), ("depthwise_conv", "gelu"))):
        model = effects.model(data, pairs, random=True)
        assert [change.delta for change in model.main_effects().values()] == pytest.approx(truth)
        assert {*model.others, *pairs} == {("increase_width", "gelu"), ("depthwise_conv", "gelu")}
    told = {(one.step, one.other): one for one in model.given()}
    gelu = {steps: mean[*steps, "gelu"] - mean[steps] for steps in ((), alone, both)}
    assert told["gelu", "depthwise_conv"].without.delta == pytest.approx(gelu[()])
    assert told["gelu", "depthwise_conv"].with_it.delta == pytest.approx((gelu[alone] + gelu[both]) / 2)
    assert told["gelu", "increase_width"].with_it.delta == pytest.approx(gelu[both])


def test_steps_that_never_meet_are_alternatives_only_if_one_sets_all_that_the_other_does() -> None:
    both = ("patchify_stem", "separate_downsampling")  # that set the stem's norm, and more each
    apart = [subset for subset in every((*both, "gelu")) if not set(both) <= set(subset)]
    data = cases(apart, range(len(apart)))
    assert not data.contexts.alternatives and both in data.pairs


def test_steps_that_require_the_same_one_are_told_among_networks_that_have_it() -> None:
    subsets = every(("depthwise_conv", "increase_width", "kernel_7", "gelu"))
    legal = [s for s in subsets if "depthwise_conv" in s or not {"increase_width", "kernel_7"} & set(s)]
    random = np.random.default_rng(11)
    values = (
        50
        + 3 * random.normal(size=len(legal))
        + np.array([6 * ({"increase_width", "kernel_7"} <= set(s)) for s in legal])
    )
    data = cases(legal * 2, np.tile(values, 2) + 0.01 * random.normal(size=2 * len(legal)))
    mean = {s: data.y[[i, i + len(legal)]].mean() for i, s in enumerate(legal)}
    model = effects.model(data, random=True)
    for step in ("increase_width", "kernel_7"):
        gains = [mean[s] - mean[tuple(x for x in s if x != step)] for s in legal if step in s]
        assert model.main_effects()[step].delta == pytest.approx(np.mean(gains), abs=0.02)


def test_what_a_step_is_worth_given_another_knows_of_random_interactions() -> None:
    random = np.random.default_rng(12)
    held, hits, count = 0, 0, 60
    for _ in range(count):
        means = 50 + random.normal(size=(4, 3))
        top1 = means + 0.3 * random.normal(size=(2, 4, 3))
        model = effects.model(crossed(top1.ravel()), [("kernel_5", "patch_4")], random=True)
        change = means[:, 1] - means[:, 0]  # of patches of 4, at each kernel size
        told = model.given()[1]
        assert (told.step, told.other) == ("patch_4", "kernel_5")
        truth = change[[0, 1, 3]].mean(), change[2]
        held += abs(told.without.delta - truth[0]) <= told.without.half
        hits += abs(told.with_it.delta - truth[1]) <= told.with_it.half
        assert told.difference.delta == pytest.approx(told.with_it.delta - told.without.delta)
    assert min(held, hits) >= 0.85 * count


def test_steps_of_which_a_run_lacks_what_they_require_may_interact() -> None:
    subsets = every(("depthwise_conv", "increase_width", "gelu"))
    data = cases(subsets, range(8))
    assert not data.contexts.bound and ("depthwise_conv", "increase_width") in data.pairs


def test_what_replaces_a_part_or_the_whole_of_a_value_is_an_alternative() -> None:
    whole, part = (
        Step("a", "a", change={"args": {"block": None}}),
        Step("b", "b", change={"args": {"block": {"attn": "se"}}}),
    )
    other = Step("c", "c", change={"args": {"blocks": 1}})
    star = replace(CONVMIXER, steps=(whole, part, other))
    found = Contexts(star, ("a", "b", "c"), frozenset({frozenset("a"), frozenset("b"), frozenset("c"), frozenset()}))
    assert found.alternatives == {("a", "b")}


@pytest.mark.parametrize("most", [2**16, 2**10])
def test_the_best_of_a_large_star_are_its_own_networks_and_told_once(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(effect_search, "_CANDIDATES", most)  # all subsets, or some that are drawn
    grid = load_ladder("convmixer_grid")
    names = [step.name for step in grid.steps]
    rows = tuple(Row((name,) if name else (), {}, seed) for seed in (0, 1, 2) for name in ("", *names))
    random = np.random.default_rng(3)
    top1 = np.tile(60 + 5 * random.normal(size=16), 3) + 0.1 * random.normal(size=48)
    data = cases([(), ("gelu",)] * 24, [0.0] * 48)
    data = cases_module._varied(replace(data, ladder=grid, rows=rows, runs=data.runs.assign(top1=top1)))
    found = effect_search.best(effects.model(data, random=True), lambda _: 1.0, count=60)
    specs = [grid.subset(one.steps).spec for one in found]
    assert len(specs) == len({str(spec) for spec in specs})
    tried = {one.steps for one in found if one.tried}
    assert len(tried) == 16, "all networks of the study are among them"


def test_the_best_subsets_hold_one_alternative_at_most() -> None:
    top1 = np.array([[50, 53, 52, 51], [45, 49, 47, 46], [44, 44, 45, 44]], float).T
    data = crossed(np.tile(top1.ravel(), 2) + 0.1 * np.random.default_rng(1).normal(size=24))
    found = effect_search.best(effects.model(data, random=True), lambda _: 1.0, count=50)
    assert {one.steps for one in found} == {row.steps for row in data.rows}
    assert found[0].steps == ("kernel_3",)
    assert found[0].top1.delta == pytest.approx(53, abs=0.5)
