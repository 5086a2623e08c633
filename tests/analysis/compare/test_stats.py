"""Owns the tests of the statistics, against scipy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from analysis.compare.stats import Summary, change, welch

VALUES = st.lists(st.floats(0, 100), min_size=2, max_size=6)


def test_summary_by_hand() -> None:
    assert Summary.of([90.0, 91.0, 92.0]) == Summary(91.0, 1.0, 3)
    assert Summary.of([]) is None
    one = Summary.of([90.0])
    assert one is not None and (one.mean, one.n) == (90.0, 1) and math.isnan(one.std)


@given(VALUES)
def test_summary_is_numpys(values: list[float]) -> None:
    summary = Summary.of(values)
    assert summary is not None
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.std == pytest.approx(np.std(values, ddof=1), abs=1e-9)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=2, max_size=6))
def test_paired_interval_is_scipys(pairs: list[tuple[float, float]]) -> None:
    before, after = [p[0] for p in pairs], [p[1] for p in pairs]
    got = change(dict(enumerate(before)), dict(enumerate(after)))
    assert got is not None and got.method == "paired"
    differences = np.subtract(after, before)
    if np.ptp(differences) > 1e-6:
        low, high = scipy_stats.ttest_rel(after, before).confidence_interval(0.95)
        assert (got.low, got.high) == (pytest.approx(low, abs=1e-7), pytest.approx(high, abs=1e-7))


@given(VALUES, VALUES)
def test_welch_interval_is_scipys(before: list[float], after: list[float]) -> None:
    got = change(dict(enumerate(before)), {100 + i: v for i, v in enumerate(after)})
    assert got is not None and got.method == "welch"
    if np.ptp(before) > 1e-6 and np.ptp(after) > 1e-6:
        low, high = scipy_stats.ttest_ind(after, before, equal_var=False).confidence_interval(0.95)
        assert (got.low, got.high) == (pytest.approx(low, abs=1e-7), pytest.approx(high, abs=1e-7))


def test_seeds_that_do_not_match_are_not_paired() -> None:
    half_done = change({0: 90.0, 1: 91.0, 2: 92.0}, {0: 91.0, 1: 92.0})
    assert half_done is not None and half_done.method == "welch"
    assert half_done.delta == pytest.approx(0.5)  # of the means that the table shows


def test_without_two_runs_on_each_side_there_is_a_change_but_no_interval() -> None:
    for before, after in (({0: 90.0}, {0: 91.0}), ({0: 90.0, 1: 91.0}, {0: 91.5}), ({0: 90.0}, {0: 91.0, 1: 91.0})):
        got = change(before, after)
        assert got is not None and got.method == "none" and got.delta == pytest.approx(1.0, abs=0.51)
        assert math.isnan(got.low) and math.isnan(got.high) and got.within_noise is None
    assert change({}, {0: 1.0}) is None and change({0: 1.0}, {}) is None


def test_the_mark_is_whether_the_interval_holds_zero() -> None:
    clear = change({0: 90.0, 1: 90.1, 2: 90.2}, {0: 91.0, 1: 91.1, 2: 91.2})
    noise = change({0: 90.0, 1: 90.5, 2: 89.5}, {0: 90.4, 1: 89.9, 2: 90.6})
    assert clear is not None and clear.within_noise is False and clear.half == pytest.approx(0, abs=1e-9)
    assert noise is not None and noise.within_noise is True and noise.low < 0 < noise.high


def test_the_papers_stage_ratio_and_patchify_steps() -> None:
    """Table 10: 78.82 ±0.07, 79.36 ±0.07, 79.51 ±0.18 over 3 seeds; the first step is clear, the second is not."""
    base, ratio, stem = Summary(78.82, 0.07, 3), Summary(79.36, 0.07, 3), Summary(79.51, 0.18, 3)
    first = welch(base, ratio)
    assert first.delta == pytest.approx(0.54) and first.half == pytest.approx(
        2.776 * math.sqrt(2 * 0.07**2 / 3), abs=1e-3
    )
    assert first.within_noise is False and welch(ratio, stem).within_noise is True
