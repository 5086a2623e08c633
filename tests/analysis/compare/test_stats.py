"""Owns the tests of mean and std over seeds, and of what a change says of itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.compare.stats import Change, Summary

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


def test_a_change_of_just_its_half_width_is_within_noise() -> None:
    image = 100 / 359
    assert Change(91 + image - 91, image, "paired").within_noise is True
    assert Change(0.3, 0.28, "paired").within_noise is False
    assert Change(0.3, math.nan, "none").within_noise is None
