"""Owns the tests of what a sweep resolves: against simulated studies, and its edges."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats as scipy_stats

from analysis.compare.model import fit
from analysis.compare.power import ASSUMED_STD, POWER, Walk, published_stds, spread, walk, widths
from ladder.errors import UserError
from ladder.launch.designs import Row
from ladder.networks.rungs import load_ladder

PAIRS = list(itertools.pairwise(["a", "b", "c", "d", "e"]))


def test_two_rungs_are_a_paired_t_test() -> None:
    found = Walk([("a", "b")]).smallest(5, 0.6)
    assert found is not None
    shift = found / (0.6 * (2 / 5) ** 0.5)
    beyond = scipy_stats.nct.sf(scipy_stats.t.ppf(0.975, 4), 4, shift)
    assert beyond == pytest.approx(POWER, abs=1e-4)


@pytest.mark.parametrize("kind", ["each", "all"])
def test_the_smallest_change_shows_in_four_of_five_studies(kind: str) -> None:
    change = Walk(PAIRS).smallest(3, 1.0, kind)
    assert change is not None
    random = np.random.default_rng(0)
    shown = 0
    for _ in range(600):
        errors = random.normal(size=(5, 3))
        values = {name: dict(enumerate(row.tolist())) for name, row in zip("abcde", errors, strict=True)}
        values["c"] = {seed: value + change for seed, value in values["c"].items()}
        found = fit(values).changes(PAIRS, kind=kind)[1]
        shown += found is not None and found.within_noise is False and found.delta > 0
    assert shown / 600 == pytest.approx(POWER, abs=0.05)


def test_the_seeds_of_a_change_are_the_fewest() -> None:
    for change, kind in ((1.0, "each"), (0.4, "all")):
        seeds = Walk(PAIRS).seeds(change, 0.6, kind)
        here, fewer = (Walk(PAIRS).smallest(n, 0.6, kind) for n in (seeds, seeds - 1))
        assert here is not None and here <= change
        assert fewer is None or fewer > change


def test_one_seed_resolves_nothing_and_too_small_a_change_is_told() -> None:
    assert Walk(PAIRS).smallest(1, 0.6) is None
    with pytest.raises(UserError, match=r"a change of 0.0001 points takes more than 100,000 seeds"):
        Walk(PAIRS).seeds(0.0001, 0.6)
    with pytest.raises(UserError, match="no two rungs to compare"):
        walk(load_ladder("convnext_32"), {"gelu": 3})


def test_changes_are_to_the_nearest_rung_of_the_sweep() -> None:
    found = walk(load_ladder("convnext_32"), {"resnet": 3, "gelu": 3, "fewer_norms": 3})
    assert (found.rungs, found.changes) == (3, 2)


def test_the_assumed_spread_is_that_of_the_published_study_and_the_papers_own() -> None:
    measured = spread(["runs/published/cifar10"], "cifar10")
    assert measured.std == pytest.approx(ASSUMED_STD, abs=0.05) and "30 degrees of freedom" in measured.source
    assert spread([], "cifar10").std == ASSUMED_STD
    paper = spread([], "imagenet")
    assert (min(published_stds()), max(published_stds())) == (0.02, 0.18)
    assert 0.05 < paper.std < 0.15 and "±0.02 to ±0.18" in paper.source


def test_runs_of_subsets_tell_of_a_walk_what_a_walk_tells() -> None:
    ladder = load_ladder("convnext_mini")
    names = [step.name for step in ladder.steps]
    rows = [Row(tuple(names[:i]), {}, seed) for i in range(13) for seed in (0, 1, 2)]
    found = widths(rows, ladder, 0.6, lambda steps: 1.0)
    assert found is not None and found.steps == 12
    assert [(price, seeds) for price, seeds, _ in found.walks] == [("as many runs", 3), ("as many MACs", 3)]
    for value in (found.mean, found.least, found.most):
        assert value == pytest.approx(found.walks[0][2])
    some = widths(rows[:12], ladder, 0.6, lambda steps: 1.0)
    assert some is not None and (some.steps, some.walks) == (3, ()), "a whole walk is dearer"
    assert widths(rows[::3], ladder, 0.6, lambda steps: 1.0) is None, "13 runs of 13 networks say nothing of noise"
    assert widths(rows[:3], ladder, 0.6, lambda steps: 1.0) is None, "no step varies"
