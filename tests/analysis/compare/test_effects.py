"""Owns the tests of effects: the truth is found, statsmodels agrees, and the answer knows when not to be trusted."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from made_cases import MINI, STEPS, cases, every
from scipy import stats
from statsmodels.regression.mixed_linear_model import VCSpec

from analysis import figures, report
from analysis.compare import effect_search, effects
from analysis.compare.cases import Cases, collapsed
from analysis.compare.effect_answer import answer
from analysis.compare.other_answers import walk_changes
from analysis.compare.summary import summarise
from analysis.compare.trust import judge, unforeseen
from analysis.export import export
from analysis.read.load import load
from analysis.show.effect_grid import grids
from ladder.errors import UserError
from ladder.launch.designed import macs_of
from ladder.launch.designs import Row

SOME = ("stage_ratio", "depthwise_conv", "gelu", "fewer_norms", "layer_norm")
ROOT = Path(__file__).parents[3]


@given(st.lists(st.floats(-3, 3), min_size=5, max_size=5), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_effects_without_noise_are_found_in_any_telling_set_of_subsets(truth: list[float], seed: int) -> None:
    random = np.random.default_rng(seed)
    chosen = [every(SOME)[i] for i in random.permutation(32)[:16]]
    data = cases(chosen, [50 + sum(t for t, step in zip(truth, SOME, strict=True) if step in s) for s in chosen])
    model = effects.model(data)
    for step, change in model.main_effects().items():
        if not np.isnan(change.delta):
            assert change.delta == pytest.approx(truth[SOME.index(step)], abs=1e-6)
    told = {name for line in effects.unknown_effects(model) for name in line.rpartition(": ")[2].split(", ")}
    assert told == {step for step, change in model.main_effects().items() if np.isnan(change.delta)}


def test_estimates_and_errors_are_those_of_statsmodels() -> None:
    random = np.random.default_rng(3)
    chosen = [every(SOME)[i] for i in random.permutation(32)[:20]] * 2
    seeds = [0] * 20 + [1] * 20
    data = cases(chosen, 60 + random.normal(size=40), seeds)
    pair = ("gelu", "layer_norm")
    model = effects.model(data, [pair])
    coded = data.applied - 0.5
    a, b = (data.names.index(name) for name in pair)
    x = np.column_stack([np.ones(40), coded, 2 * coded[:, a] * coded[:, b], np.array(seeds) * 2 - 1])
    reference = sm.OLS(data.y, x).fit()
    found = model.effects([*data.names, "gelu x layer_norm"], kind="each")
    for place, change in enumerate(found.values(), 1):
        assert change.delta == pytest.approx(reference.params[place])
        assert (change.low, change.high) == pytest.approx(tuple(reference.conf_int()[place]))
    assert model.fit.std == pytest.approx(np.sqrt(reference.mse_resid))
    assert np.diag(model.precision) == pytest.approx(1 - reference.get_influence().hat_matrix_diag)


def interacting(networks: int) -> Cases:
    """Two runs each of networks whose steps all interact, by three times the noise."""
    random = np.random.default_rng(4)
    chosen = [every(SOME)[i] for i in random.permutation(32)[:networks]] * 2
    pulls = dict(zip(itertools.combinations(SOME, 2), 3 * random.normal(size=10), strict=True))
    pulled = [60 + sum(pull for pair, pull in pulls.items() if set(pair) <= set(s)) for s in chosen]
    return cases(chosen, [value + random.normal() for value in pulled])


def test_random_interactions_are_those_of_statsmodels_where_runs_tell_their_size() -> None:
    data = interacting(32)
    model = effects.model(data, random=True)
    one = VCSpec(["pairs"], [[[f"z{i}" for i in range(10)]]], [[model.z]])  # one group of all runs
    reference = sm.MixedLM(data.y, model.x, np.zeros(64), exog_vc=one, exog_re=model.z[:, :0]).fit()
    assert model.mixed.ratio == pytest.approx(float(reference.vcomp[0] / reference.scale), rel=0.3)
    assert model.fit.std == pytest.approx(np.sqrt(reference.scale), rel=0.05)
    for place, change in enumerate(model.effects(data.names, kind="each").values(), 1):
        assert change.delta == pytest.approx(reference.fe_params[place], abs=0.05)
        assert change.half / stats.t.ppf(0.975, model.freedom) == pytest.approx(reference.bse_fe[place], rel=0.1)


@pytest.mark.parametrize("networks", [8, 24])
def test_random_interactions_are_averaged_over_all_sizes(networks: int) -> None:
    data = interacting(networks)
    model = effects.model(data, random=True)
    x, z, freedom = model.x, model.z, model.freedom
    part = (z**2).sum(axis=1).mean()
    weights, means, covariances = [], [], []
    for share in ((np.arange(2_000) + 0.5) / 2_000) ** 2:  # standard deviations equally likely, before the runs speak
        covariance = np.eye(len(x)) + share / (1 - share) / part * z @ z.T
        inside = x.T @ np.linalg.solve(covariance, x)
        means.append(np.linalg.solve(inside, x.T @ np.linalg.solve(covariance, data.y)))
        rest = data.y - x @ means[-1]
        noise = rest @ np.linalg.solve(covariance, rest) / freedom
        covariances.append(noise * np.linalg.inv(inside))
        logs = np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(inside)[1] + freedom * np.log(noise)
        weights.append(np.exp(-(logs - 200) / 2))
    shares = np.array(weights) / np.sum(weights)
    mean = shares @ np.array(means)
    spread = np.einsum("s,sij->ij", shares, covariances) + np.cov(np.array(means).T, aweights=shares, ddof=0)
    for place, change in enumerate(model.effects(data.names, kind="each").values(), 1):
        assert change.delta == pytest.approx(mean[place], abs=2e-3)
        assert change.half / stats.t.ppf(0.975, freedom) == pytest.approx(np.sqrt(spread[place, place]), rel=5e-3)


def test_leave_one_out_is_what_the_others_foretell() -> None:
    random = np.random.default_rng(4)
    chosen = every(SOME)
    data = cases(chosen, 60 + random.normal(size=32))
    found = effects.model(data).left_out
    for place in (0, 13, 31):
        kept = np.arange(32) != place
        x = np.column_stack([np.ones(32), data.applied - 0.5])
        rest = np.linalg.lstsq(x[kept], data.y[kept], rcond=None)[0]
        assert found[place] == pytest.approx(data.y[place] - x[place] @ rest)


def test_of_a_walk_effects_are_the_changes_of_its_table() -> None:
    runs = load(ROOT / "runs/published/demo")
    found = answer(runs)
    (table,) = summarise(runs)
    assert found.one_context
    for row in table.rows[1:]:
        assert row.change is not None
        assert found.changes[row.rung].delta == pytest.approx(row.change.delta)
        assert found.changes[row.rung].half == pytest.approx(row.change.half, rel=1e-3)
        assert found.walk[row.rung].delta == pytest.approx(row.change.delta)
    assert found.judgement.adds_up is None, "a step in one context says nothing of others"


def test_a_walk_beside_a_design_of_a_recipe_value_keeps_its_changes() -> None:
    random = np.random.default_rng(11)
    walk = [tuple(STEPS[:n]) for n in range(len(STEPS) + 1)] * 2
    subsets = [*walk, *every(SOME)]  # of which some are rungs, too
    levels = [0.1] * len(walk) + [0.2] * 32
    both = cases(subsets, random.normal(50, 1, len(subsets)), [*[0] * 13, *[1] * 13, *[2] * 32])
    rows = tuple(replace(row, levels={"recipe.lr": lr}) for row, lr in zip(both.rows, levels, strict=True))
    both = replace(both, rows=rows, factors={"recipe.lr": (0.1, 0.2)})
    alone = both.part(np.array(levels) == 0.1)
    assert len(walk_changes(alone)) == len(STEPS)
    assert walk_changes(both) == walk_changes(alone)


@pytest.mark.parametrize(("study", "walk"), [("cifar10", True), ("convmixer_patches", False), ("demo_design", None)])
def test_side_rungs_and_stars_are_one_context_and_a_design_is_not(study: str, walk: bool | None) -> None:
    runs = load(ROOT / "runs/published" / study)
    found = answer(runs[~runs["rung"].str.contains("+", regex=False)] if walk is not None else runs)
    assert found.one_context == (walk is not None)
    notes = " ".join(grids(found)[0].footnotes)
    assert ("averaged over contexts" in notes) == (walk is None)
    assert ("(a walk)" in notes) == (walk is True)
    assert "trained twice" not in notes


def test_seeds_are_blocks_where_they_cost_nothing_and_never_hide_an_effect() -> None:
    random = np.random.default_rng(5)
    chosen = every(SOME) * 2
    noise = random.normal(size=64) * 0.01
    blocked = cases(chosen, [60 + 5 * (i >= 32) + noise[i] for i in range(64)], [0] * 32 + [1] * 32)
    assert effects.model(blocked).fit.std < 0.02, "the seeds' difference is not noise"
    each_its_own = cases(chosen, 60 + noise, list(range(64)))
    assert effects.model(each_its_own).freedom == pytest.approx(58)


def noisy(subset: Sequence[str], random: np.random.Generator, pull: float = 0.0) -> float:
    """Two steps matter; `pull`: and their interaction."""
    together = "gelu" in subset and "layer_norm" in subset
    return 60 + 2 * ("gelu" in subset) - 1 * ("layer_norm" in subset) + pull * together + 0.3 * random.normal()


@pytest.mark.parametrize(("pull", "adds_up"), [(0.0, True), (4.0, False)])
def test_replicates_tell_whether_steps_add_up_and_the_search_says_why(pull: float, adds_up: bool) -> None:
    random = np.random.default_rng(6)
    chosen = every(SOME) * 2
    data = cases(chosen, [noisy(s, random, pull) for s in chosen], [0] * 32 + [1] * 32)
    model = effects.model(data)
    assert judge(model).adds_up is adds_up
    pairs, tried = effect_search.search(data)
    assert pairs == (() if adds_up else (("gelu", "layer_norm"),))
    assert len(tried) == 10
    if not adds_up:
        one = next(one for one in tried if one.found)
        assert one.change.delta == pytest.approx(pull, abs=0.4) and not one.change.within_noise
        assert judge(effects.model(data, pairs)).adds_up


def test_of_steps_that_depend_on_each_other_both_effects_are_told() -> None:
    chosen = every(SOME)
    values = [noisy(s, np.random.default_rng(i), 4.0) for i, s in enumerate(chosen)]
    model = effects.model(cases(chosen, values), [("gelu", "layer_norm")])
    top1 = dict(zip(chosen, values, strict=True))
    for one in model.given():
        for with_other, change in [(False, one.without), (True, one.with_it)]:
            both = [s for s in chosen if one.step in s and (one.other in s) is with_other]
            alone = [tuple(step for step in s if step != one.step) for s in both]
            by_hand = np.mean([top1[s] for s in both]) - np.mean([top1[s] for s in alone])
            assert change.delta == pytest.approx(by_hand)
            # of means of 8 runs each, by the spread about the model
            assert change.half == pytest.approx(stats.t.ppf(0.975, model.freedom) * model.fit.std * (2 / 8) ** 0.5)
            assert one.difference.delta == pytest.approx(one.with_it.delta - one.without.delta)
    (gelu, norm) = model.given(looked_at=10)
    assert (gelu.step, gelu.other, norm.step, norm.other) == ("gelu", "layer_norm", "layer_norm", "gelu")
    alone = model.given()[0]
    for half, by_itself, count in [
        (gelu.with_it.half, alone.with_it.half, 40),  # four effects of each of ten pairs
        (gelu.difference.half, alone.difference.half, 10),
    ]:
        times = stats.t.ppf(1 - 0.025 / count, model.freedom) / stats.t.ppf(0.975, model.freedom)
        assert half == pytest.approx(times * by_itself)
    assert (gelu.without.low < 2 < gelu.without.high) and (gelu.with_it.low < 6 < gelu.with_it.high)
    assert (norm.without.low < -1 < norm.without.high) and (norm.with_it.low < 3 < norm.with_it.high)


def test_each_interaction_is_that_of_a_model_with_it() -> None:
    random = np.random.default_rng(7)
    data = cases(every(SOME), 60 + random.normal(size=32))
    for one in effect_search._each(effects.model(data), [("gelu", "layer_norm"), ("stage_ratio", "gelu")]):
        inside = effects.model(data, [one.pair]).effects([" x ".join(one.pair)], kind="each")[" x ".join(one.pair)]
        assert (one.change.delta, one.change.half) == pytest.approx((2 * inside.delta, 2 * inside.half))


def test_runs_without_noise_have_no_interaction_by_rounding() -> None:
    chosen = every(SOME)
    for weights in [np.zeros(5), np.array([0.1, 0.2, -0.7, 0.3, 1.1])]:
        values = [60 + weights @ [step in s for step in SOME] for s in chosen]
        assert effect_search.search(cases(chosen, values))[0] == ()
    exact = [60 + 5 * ({"gelu", "layer_norm"} <= set(s)) for s in chosen]
    assert effect_search.search(cases(chosen, exact))[0] == (("gelu", "layer_norm"),)


def test_an_interaction_beside_random_ones_is_measured_as_a_fixed_one() -> None:
    model = effects.model(interacting(24), random=True)
    pair = ("gelu", "layer_norm")
    (one,) = effect_search._each(model, [pair])
    rest = [place for place, other in enumerate(model.others) if other != pair]
    covariance = np.eye(48) + model.mixed.ratio * model.z[:, rest] @ model.z[:, rest].T
    reference = sm.GLS(model.cases.y, np.column_stack([model.x, model.z[:, model.others.index(pair)]]), covariance)
    found = reference.fit()
    assert one.change.delta == pytest.approx(2 * found.params[-1])
    assert one.change.half == pytest.approx(2 * (found.conf_int()[-1, 1] - found.params[-1]))
    assert one.p > found.pvalues[-1], "as one of the others it may be large by chance"


def test_a_pair_that_no_run_tells_apart_is_left_out() -> None:
    chosen = [s for s in every(SOME) if "gelu" not in s or "depthwise_conv" in s]  # gelu never without the other
    data = cases(chosen, 60 + np.random.default_rng(0).normal(size=len(chosen)))
    tried = [one.pair for one in effect_search.search(data)[1]]
    assert ("depthwise_conv", "gelu") not in tried and len(tried) == 9


def test_runs_that_did_not_learn_are_found() -> None:
    random = np.random.default_rng(8)
    values = [noisy(s, random) for s in every(SOME)]
    assert not collapsed(cases(every(SOME), values)).any()
    values[5], values[20] = 10.0, 34.0
    assert np.flatnonzero(collapsed(cases(every(SOME), values))).tolist() == [5, 20]


def test_a_run_far_from_what_the_others_foretell_is_named_and_hardly_ever_another() -> None:
    random = np.random.default_rng(12)
    chosen = every(SOME)
    wrong = 0
    for _ in range(200):
        values = [noisy(s, random) for s in chosen]
        wrong += bool(unforeseen(effects.model(cases(chosen, values))))
        values[7] -= 3.0
        far = unforeseen(effects.model(cases(chosen, values)))
        assert list(far) == ["run-7"] and far["run-7"] == pytest.approx(-3.0, abs=1.5)
    assert wrong < 20, "one study in twenty"
    exact = cases(chosen, [60 + 2 * ("gelu" in s) for s in chosen])
    assert not unforeseen(effects.model(exact)), "rounding is no distance"
    ours = effects.model(cases(chosen, values))
    theirs = sm.OLS(ours.cases.y, ours.x).fit().outlier_test()
    assert (theirs[:, 2] < 0.05).sum() == 1 and int(theirs[:, 2].argmin()) == 7


def test_shapley_values_of_steps_that_add_up_are_the_effects(study_type: Any, tmp_path: Path) -> None:
    from ladder.launch import design_file, designs
    from ladder.runs.config import DesignConfig

    config = DesignConfig(kind="permutations", runs=30, steps=["stage_ratio", "gelu", "layer_norm"])
    design = designs.make(MINI, config, [0], macs_of(MINI, 16, 10))
    design_file.remember(tmp_path / "orders", "x", design)
    study = study_type(tmp_path / "orders", "convnext_mini")
    worth = {"stage_ratio": 1.0, "gelu": 2.0, "layer_norm": -0.5}
    for row in design.rows:
        study.run("", row.seed, 60 + sum(worth[step] for step in row.steps), steps=row.steps)
    export(tmp_path / "orders", tmp_path / "packed")
    assert answer(load(tmp_path / "packed")).shares == (shares := answer(load(tmp_path / "orders")).shares)
    assert {share.step: share.mean for share in shares} == pytest.approx(worth)
    assert all(share.error == pytest.approx(0, abs=1e-9) and share.orders == len(design.orders) for share in shares)


def test_recipe_values_of_a_design_are_factors(study_type: Any, tmp_path: Path) -> None:
    from ladder.launch import design_file
    from ladder.launch.designs import Design

    study = study_type(tmp_path / "mixed", "convnext_mini")
    rows = []
    for steps in every(("gelu", "layer_norm")):
        for mixup in (0.0, 0.8):
            for seed in (0, 1):
                top1 = 60 + 2 * ("gelu" in steps) - 3 * (mixup > 0) + 0.1 * seed
                study.run("", seed, top1, steps=steps, recipe={"mixup": mixup})
                rows.append(Row(steps, {"recipe.mixup": mixup}, seed))
    factors = {"recipe.mixup": [0.0, 0.8]}
    design = Design("optimal", "convnext_mini", ("gelu", "layer_norm"), (), factors, (), tuple(rows))
    with pytest.raises(UserError, match=r"recipe\.mixup"):
        answer(load(tmp_path / "mixed"))
    design_file.remember(tmp_path / "mixed", "x", design)
    found = answer(load(tmp_path / "mixed"))
    assert {k: c.delta for k, c in found.changes.items()} == pytest.approx(
        {"gelu": 2, "layer_norm": 0, "recipe.mixup": -3}, abs=1e-9
    )
    tables = summarise(load(tmp_path / "mixed"))
    assert [table.choice for table in tables] == [{"recipe.mixup": 0.0}, {"recipe.mixup": 0.8}]
    assert not any("not launched" in note for table in tables for note in table.notes)
    assert figures.main([str(study.root), "--only", "effects", "--formats", "svg", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "effects.svg").exists()
    page = report.compose(report.gather(study.root))
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids)) and {"effects", "table-0", "table-1"} <= set(ids)


@pytest.fixture(scope="module")
def telling() -> effects.Model:
    random = np.random.default_rng(9)
    return effects.model(cases(every(SOME), [noisy(s, random) for s in every(SOME)]))


def test_the_best_subsets_keep_to_the_budget_and_to_what_steps_require(telling: effects.Model) -> None:
    def cost(steps: tuple[str, ...]) -> float:
        return 1e6 * (1 + len(steps))

    (first, *_) = found = effect_search.best(telling, cost)
    assert "gelu" in first.steps and "layer_norm" not in first.steps
    assert [one.top1.delta for one in found] == sorted((one.top1.delta for one in found), reverse=True)
    assert first.top1.half > telling.fit.std * 1.96, "a prediction of one run, not of the mean"
    cheap = effect_search.best(telling, cost, most_macs=2e6)
    assert {len(one.steps) for one in cheap} <= {0, 1}
    with pytest.raises(UserError, match="no subset of the steps is within the budget"):
        effect_search.best(telling, cost, most_macs=1.0)
    random = np.random.default_rng(0)
    needing = ("depthwise_conv", "kernel_7", "increase_width", "gelu")
    allowed = [s for s in every(needing) if "depthwise_conv" in s or not {"kernel_7", "increase_width"} & set(s)]
    data = cases(allowed, [60 - 5 * ("depthwise_conv" in s) + 3 * len(s) + 0.1 * random.normal() for s in allowed])
    for one in effect_search.best(effects.model(data), cost, count=16):
        assert "depthwise_conv" in one.steps or not {"kernel_7", "increase_width"} & set(one.steps)


def test_predictions_hold_as_often_as_they_say() -> None:
    random = np.random.default_rng(10)
    inside = 0
    for _ in range(200):
        data = cases(every(SOME), [noisy(s, random) for s in every(SOME)])
        first = effect_search.best(effects.model(data), len, count=1)[0]
        inside += first.top1.low <= noisy(first.steps, random) <= first.top1.high
    assert 180 <= inside <= 199


Mistake = tuple[Callable[[Any], Any], str]


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda s: s.run("resnet", 0), "all 1 finished runs are of one network: no step varies"),
        (lambda s: s.run("resnet", 0, state="failed"), "no run is done yet"),
        (lambda s: (s.run("resnet", 0), s.run("gelu", 0, recipe={"lr": 1.0})), r"recipe\.lr"),
        (lambda s: (s.run("resnet", 0), s.run("gelu", 0, data={"name": "other"}, result={"data": "other"})), "several"),
    ],
)
def test_mistakes_are_one_line(write: Callable[[Any], Any], says: str, study_type: Any, tmp_path: Path) -> None:
    write(study_type(tmp_path / "s"))
    with pytest.raises(UserError, match=says) as told:
        answer(load(tmp_path / "s"))
    assert "\n" not in str(told.value)
