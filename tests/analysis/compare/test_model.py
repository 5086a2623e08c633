"""Owns the tests of the linear model: against statsmodels and scipy, and that what it promises holds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from analysis.compare import model
from analysis.compare.model import (
    Component,
    brown_forsythe,
    critical,
    fit,
    fit_design,
    fit_summaries,
    outlying,
)
from analysis.compare.stats import Change, Summary

VALUES = st.lists(st.floats(0, 100), min_size=2, max_size=6)
Values = dict[str, dict[int, float]]


def one(before: dict[int, float], after: dict[int, float], floor: float = 0.0) -> Change | None:
    return fit({"before": before, "after": after}, floor).changes([("before", "after")])[0]


def study(rungs: int, seeds: int, seed: int = 0, spread: float = 1.0) -> Values:
    random = np.random.default_rng(seed)
    errors = random.normal(scale=spread, size=(rungs, seeds)) + random.normal(size=seeds)
    return {f"r{i}": {s: 50 + i + float(errors[i, s]) for s in range(seeds)} for i in range(rungs)}


def walk(values: Values) -> list[tuple[str, str]]:
    return list(itertools.pairwise(values))


def ols(values: Values, robust: bool = False) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Change, low and high of every pair by statsmodels, networks and seeds as dummies."""
    from statsmodels.regression.linear_model import OLS

    cells = [(name, seed, value) for name, mine in values.items() for seed, value in mine.items()]
    names, seeds = list(values), sorted({seed for _, seed, _ in cells})
    x = np.array([[n == name for name in names] + [s == seed for seed in seeds[1:]] for n, s, _ in cells], float)
    done = OLS([value for _, _, value in cells], x).fit(cov_type="HC3" if robust else "nonrobust", use_t=True)
    out = {}
    for before, after in itertools.combinations(names, 2):
        weights = np.zeros(x.shape[1])
        weights[names.index(after)], weights[names.index(before)] = 1, -1
        test = done.t_test(weights)
        low, high = test.conf_int()[0]
        out[before, after] = (float(test.effect[0]), float(low), float(high))
    return out


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=2, max_size=6))
def test_two_networks_of_the_same_seeds_are_scipys_paired_t(pairs: list[tuple[float, float]]) -> None:
    before, after = [p[0] for p in pairs], [p[1] for p in pairs]
    got = one(dict(enumerate(before)), dict(enumerate(after)))
    assert got is not None and got.method == "paired"
    differences = np.subtract(after, before)
    if np.ptp(differences) > 1e-6:
        low, high = scipy_stats.ttest_rel(after, before).confidence_interval(0.95)
        assert (got.low, got.high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))


@given(VALUES, VALUES)
def test_two_networks_of_other_seeds_are_scipys_welch(before: list[float], after: list[float]) -> None:
    got = one(dict(enumerate(before)), {100 + i: v for i, v in enumerate(after)})
    assert got is not None and got.method == "welch"
    if np.ptp(before) > 1e-6 and np.ptp(after) > 1e-6:
        low, high = scipy_stats.ttest_ind(after, before, equal_var=False).confidence_interval(0.95)
        assert (got.low, got.high) == (pytest.approx(low, abs=1e-7), pytest.approx(high, abs=1e-7))


def test_seeds_that_hardly_match_are_not_paired() -> None:
    half_done = one({0: 90.0, 1: 91.0, 2: 92.0}, {0: 91.0, 1: 92.0})
    assert half_done is not None and half_done.method == "welch"
    assert half_done.delta == pytest.approx(0.5)  # of the means that the table shows


def test_of_two_networks_without_two_runs_each_there_is_a_change_but_no_interval() -> None:
    for before, after in (({0: 90.0}, {0: 91.0}), ({0: 90.0, 1: 91.0}, {0: 91.5}), ({0: 90.0}, {0: 91.0, 1: 91.0})):
        got = one(before, after)
        assert got is not None and got.method == "none" and got.delta == pytest.approx(1.0, abs=0.51)
        assert math.isnan(got.low) and math.isnan(got.high) and got.within_noise is None
    assert one({}, {0: 1.0}) is None and one({0: 1.0}, {}) is None


def test_the_mark_is_whether_the_interval_holds_zero() -> None:
    clear = one({0: 90.0, 1: 90.1, 2: 90.2}, {0: 91.0, 1: 91.1, 2: 91.2})
    noise = one({0: 90.0, 1: 90.5, 2: 89.5}, {0: 90.4, 1: 89.9, 2: 90.6})
    assert clear is not None and clear.within_noise is False and clear.half == pytest.approx(0, abs=1e-7)
    assert noise is not None and noise.within_noise is True and noise.low < 0 < noise.high


def test_no_interval_is_narrower_than_the_floor() -> None:
    image = 100 / 359
    even = one({0: 90.0, 1: 91.0}, {0: 90.0 + image, 1: 91.0 + image}, floor=image)
    assert even is not None and even.half == image and even.within_noise is True
    alike = one({0: 90.0, 1: 90.0}, {5: 93.0, 6: 93.0}, floor=image)
    assert alike is not None and (alike.half, alike.within_noise) == (image, False)


def test_spreads_below_one_image_are_not_told_apart() -> None:
    image = 100 / 360
    values = {f"r{i}": dict.fromkeys(range(3), 50 + i / 7) for i in range(6)}
    assert fit(values).apart == fit(values, image).apart == ()
    values["r2"] = {0: 50.0, 1: 50.0, 2: 50.0 + image}
    whole = fit(values, image)
    assert whole.apart == ()
    assert all(c is not None and c.half >= image for c in whole.changes(walk(values)))
    assert fit({}).changes([("a", "b")]) == [None]


@settings(max_examples=25)
@given(st.integers(3, 6), st.integers(2, 4), st.integers(0, 1000), st.data())
def test_single_intervals_are_those_of_statsmodels(rungs: int, seeds: int, seed: int, data: st.DataObject) -> None:
    values = study(rungs, seeds, seed)
    for name in data.draw(st.sets(st.sampled_from(list(values)), max_size=rungs - 2)):
        if len(values[name]) > 1:
            del values[name][data.draw(st.sampled_from(list(values[name])))]
    whole = fit(values)
    if whole.apart or not whole.blocked:
        return
    expected = ols(values)
    for pair, change in zip(expected, whole.changes(list(expected), kind="each"), strict=True):
        assert change is not None and change.method == "paired"
        assert (change.delta, change.low, change.high) == pytest.approx(expected[pair], abs=1e-7)


def test_networks_that_share_no_seed_are_compared_by_a_common_spread() -> None:
    values = {f"r{i}": {10 * i + s: v for s, v in mine.items()} for i, mine in enumerate(study(5, 4).values())}
    whole = fit(values)
    change = whole.changes([("r0", "r1")])[0]
    spread = math.sqrt(np.mean([np.var(list(mine.values()), ddof=1) for mine in values.values()]))
    assert (whole.blocked, whole.freedom, whole.std) == (False, 15, pytest.approx(spread))
    assert change is not None and change.method == "pooled"
    assert change.half == pytest.approx(scipy_stats.t.ppf(0.975, 15) * spread * math.sqrt(2 / 4))


def test_a_network_of_one_seed_is_judged_by_the_spread_of_the_others() -> None:
    values = study(6, 3)
    values["r3"] = {0: values["r3"][0]}
    change = fit(values).changes([("r2", "r3")], kind="each")[0]
    assert change is not None and change.half == pytest.approx(ols(values)["r2", "r3"][2] - change.delta)


def test_intervals_at_once_are_those_of_the_multivariate_t() -> None:
    values = study(7, 3)
    names, pairs = list(values), walk(values)
    weights = np.zeros((len(pairs), len(names)))
    for i in range(len(pairs)):
        weights[i, i], weights[i, i + 1] = -1, 1
    correlation = weights @ weights.T / 2
    (factor,) = set(critical(correlation, 12.0).tolist())
    t = scipy_stats.multivariate_t(shape=correlation, df=12)
    assert t.cdf(np.full(6, factor), lower_limit=np.full(6, -factor), random_state=0) == pytest.approx(0.95, abs=2e-3)
    each, every = (fit(values).changes(pairs, kind=kind) for kind in ("each", "all"))
    for single, joint in zip(each, every, strict=True):
        assert single is not None and joint is not None and single.delta == joint.delta
        assert joint.half / single.half == pytest.approx(factor / scipy_stats.t.ppf(0.975, 12), rel=1e-4)


def test_all_pairs_at_once_are_tukeys() -> None:
    pairs = list(itertools.combinations(range(5), 2))
    weights = np.array([[float(k == j) - float(k == i) for k in range(5)] for i, j in pairs])
    factor = critical(weights @ weights.T / 2, 20.0)[0]
    assert factor == pytest.approx(scipy_stats.studentized_range.ppf(0.95, 5, 20) / math.sqrt(2), rel=3e-3)


def test_one_contrast_at_once_is_students_t_and_many_are_between_it_and_bonferroni() -> None:
    assert critical(np.eye(1), 4.0)[0] == pytest.approx(scipy_stats.t.ppf(0.975, 4))
    assert critical(np.ones((3, 3)), 4.0)[0] == pytest.approx(scipy_stats.t.ppf(0.975, 4))
    apart = critical(np.eye(10), np.inf)[0]
    assert apart == pytest.approx(scipy_stats.norm.ppf((1 + 0.95**0.1) / 2), rel=2e-3)  # Šidák's


def test_the_quantile_does_not_hang_on_the_choice_of_eigenvectors(monkeypatch: pytest.MonkeyPatch) -> None:
    dunnett = np.full((6, 6), 0.5) + 0.5 * np.eye(6)  # five equal eigenvalues
    model._reach.cache_clear()
    reach = model._reach(dunnett.tobytes(), 6)[1]
    decompose = np.linalg.eigh

    def turned(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, vectors = decompose(matrix)
        vectors[:, :5] = vectors[:, :5] @ scipy_stats.ortho_group.rvs(5, random_state=1)
        return values, vectors

    monkeypatch.setattr(np.linalg, "eigh", turned)
    model._reach.cache_clear()
    assert model._reach(dunnett.tobytes(), 6)[1] == pytest.approx(reach, rel=1e-12)


def test_a_network_spread_far_wider_is_told_apart_and_leaves_the_others_alone() -> None:
    values = study(10, 3)
    calm = fit({name: mine for name, mine in values.items() if name != "r4"})
    values["r4"] = {0: 54.0, 1: 10.0, 2: 31.0}
    whole = fit(values)
    assert whole.apart == ("r4",)
    assert whole.std == pytest.approx(calm.std, rel=0.02)
    pairs = [("r0", "r1"), ("r3", "r4"), ("r4", "r5")]
    one_two, to, after = whole.changes(pairs, kind="each")
    calm_change = calm.changes(pairs, kind="each")[0]
    assert one_two is not None and to is not None and after is not None and calm_change is not None
    assert one_two.method == "paired" and (to.method, after.method) == ("welch", "welch")
    assert one_two.half == pytest.approx(calm_change.half, rel=0.05)
    welch = scipy_stats.ttest_ind(list(values["r4"].values()), list(values["r3"].values()), equal_var=False)
    low, high = welch.confidence_interval(0.95)
    assert (to.low, to.high) == (pytest.approx(low, rel=0.05), pytest.approx(high, rel=0.05))


def test_brown_forsythe_is_scipys_and_takes_networks_apart_where_runs_are_many() -> None:
    random = np.random.default_rng(0)
    samples = [random.normal(scale=s, size=n) for s, n in ((1, 5), (1, 4), (3, 7))]
    assert brown_forsythe(samples) == pytest.approx(scipy_stats.levene(*samples).pvalue)
    values = {f"r{i}": dict(enumerate(random.normal(scale=6.0 if i == 2 else 1.0, size=12).tolist())) for i in range(6)}
    assert fit(values).apart == ("r2",)


@pytest.mark.parametrize(
    "seeds",
    [[2] * 16, [3] + [2] * 15, [10] + [2] * 15, [5] * 4 + [2] * 12, [3, 2, 2, 2], [3, 2, 1, 1, 2], [3] * 8 + [2] * 8],
    ids=lambda seeds: f"{len(seeds)}: {','.join(map(str, seeds[:5]))}",
)
def test_equal_spreads_are_told_apart_as_rarely_as_the_tests_say(seeds: list[int]) -> None:
    random = np.random.default_rng(0)
    found = 0
    for _ in range(150):
        values = {f"r{i}": dict(enumerate(random.normal(size=count).tolist())) for i, count in enumerate(seeds)}
        found += bool(fit(values).apart)
    assert found <= 10  # two tests at 1 %: more than 10 of 150 in one of 4,000 such tests


def test_an_outlying_variance_is_cochrans() -> None:
    # Cochran's C of 5 variances of 2 degrees: the 1 % point is 0.7885 (Eisenhart, Hastay and Wallis 1947, table 15.1)
    freedoms = dict.fromkeys("abcde", 2.0)
    rest = dict.fromkeys("bcde", (1 - 0.7885) / 4)
    assert outlying({"a": 0.7885 * 1.01, **rest}, freedoms) == "a"
    assert outlying({"a": 0.7885 * 0.97, **rest}, freedoms) is None
    assert outlying({"a": 1e9, "b": 1.0}, freedoms) is None  # of two, who is odd?


def test_published_numbers_share_a_spread_over_rungs() -> None:
    summaries = {"a": Summary(78.8, 0.1, 3), "b": Summary(79.4, 0.2, 3), "c": Summary(79.5, 0.1, 3)}
    whole = fit_summaries({**summaries, "d": Summary(80.0, math.nan, 1)})
    assert (whole.freedom, whole.std) == (6, pytest.approx(math.sqrt(0.02)))
    known, unknown = whole.changes([("a", "b"), ("c", "d")], kind="each")
    assert known is not None and known.half == pytest.approx(scipy_stats.t.ppf(0.975, 6) * math.sqrt(0.02 * 2 / 3))
    assert unknown is not None and unknown.method == "none" and unknown.delta == pytest.approx(0.5)


def test_the_papers_stage_ratio_and_patchify_steps() -> None:
    """Table 10: 78.82 ±0.07, 79.36 ±0.07, 79.51 ±0.18 over 3 seeds; the first step is clear, the second is not."""
    rows = {"resnet50": Summary(78.82, 0.07, 3), "stage_ratio": Summary(79.36, 0.07, 3)}
    alone = fit_summaries(rows).changes([("resnet50", "stage_ratio")])[0]
    assert alone is not None and alone.method == "welch" and alone.delta == pytest.approx(0.54)
    assert alone.half == pytest.approx(2.776 * math.sqrt(2 * 0.07**2 / 3), abs=1e-3)
    whole = fit_summaries({**rows, "patchify_stem": Summary(79.51, 0.18, 3)})
    first, second = whole.changes([("resnet50", "stage_ratio"), ("stage_ratio", "patchify_stem")])
    assert first is not None and second is not None
    assert first.within_noise is False and second.within_noise is True


def test_a_design_of_factors_is_statsmodels_with_blocks_and_hc3() -> None:
    from statsmodels.regression.linear_model import OLS

    random = np.random.default_rng(1)
    factors = random.integers(0, 2, (24, 4)).astype(float)
    blocks = [i % 3 for i in range(24)]
    y = factors @ [1.0, -2.0, 0.0, 0.5] + random.normal(size=24)
    x = np.column_stack([np.ones(24), factors])
    dummies = np.array([[b == 1, b == 2] for b in blocks], float)
    for robust in (False, True):
        got = fit_design(x, y, ["mean", *"abcd"], blocks=blocks, robust=robust)
        done = OLS(y, np.hstack([x, dummies])).fit(cov_type="HC3" if robust else "nonrobust", use_t=True)
        ends = done.conf_int()[1:5]
        for change, (low, high) in zip(got.contrasts(np.eye(5)[1:], kind="each"), ends, strict=True):
            assert (change.low, change.high) == (pytest.approx(low, rel=1e-6), pytest.approx(high, rel=1e-6))
    assert math.isnan(got.contrasts([[1, 0, 0, 0, 0]])[0].delta)  # the mean can't be told from the blocks


def test_effects_that_the_design_confounds_are_not_estimated() -> None:
    x = np.array([[1.0, a, a, b] for a in (0, 1) for b in (0, 1)] * 2)
    got = fit_design(x, x[:, 1] + x[:, 3], ["mean", "a", "twin", "b"])
    alone, both, b = got.contrasts([[0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]])
    assert math.isnan(alone.delta) and alone.method == "none"
    assert (both.delta, b.delta) == (pytest.approx(1.0), pytest.approx(1.0))


def test_a_second_source_of_noise_widens_the_intervals() -> None:
    whole = fit(study(4, 3))
    (alone,) = whole.changes([("r0", "r1")])
    images = Component(np.eye(4) * 0.5, np.inf)
    (wider,) = whole.plus(images).changes([("r0", "r1")], kind="each")
    assert alone is not None and wider is not None and wider.delta == alone.delta
    spread = 2 * whole.std**2 / 3
    freedom = (spread + 1) ** 2 / (spread**2 / whole.freedom)
    assert wider.half == pytest.approx(scipy_stats.t.ppf(0.975, freedom) * math.sqrt(spread + 1))


def test_coverage_of_a_few_studies() -> None:
    """A quick look at what benchmarks/coverage.py measures: too short or too long intervals would show."""
    random = np.random.default_rng(3)
    held_each, held_all, studies = 0, 0, 300
    for _ in range(studies):
        errors = random.normal(size=(6, 3)) + random.normal(size=3)
        values = {f"r{i}": dict(enumerate(errors[i].tolist())) for i in range(6)}
        whole = fit(values)
        changes = {kind: whole.changes(walk(values), kind=kind) for kind in ("each", "all")}
        held_each += sum(c.within_noise is not False for c in changes["each"] if c)
        held_all += all(c.within_noise for c in changes["all"] if c)
    assert 0.92 < held_each / (5 * studies) < 0.975
    assert 0.90 < held_all / studies < 0.985
