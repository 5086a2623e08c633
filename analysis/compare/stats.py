"""Owns the statistics: mean and std over seeds, and the change between two rungs with its 95% interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

NAN = float("nan")
LEVEL = 0.95


@dataclass(frozen=True)
class Summary:
    """`n` values: their mean and sample standard deviation (n - 1 below; nan for one value)."""

    mean: float
    std: float
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Summary | None:
        """The summary of the values; None where there are none."""
        data = list(values)
        if not data:
            return None
        mean = math.fsum(data) / len(data)
        std = math.sqrt(math.fsum((v - mean) ** 2 for v in data) / (len(data) - 1)) if len(data) > 1 else NAN
        return cls(mean, std, len(data))


@dataclass(frozen=True)
class Change:
    """The difference of two means, in the unit of the values, with the half width of its 95% t interval.

    `method` paired: over differences seed by seed. welch: unequal variances, no pairing. none: too few runs for an
    interval; `half` is nan then and `within_noise` None.
    """

    delta: float
    half: float
    method: str

    @property
    def low(self) -> float:
        """Lower end of the interval; nan without one."""
        return self.delta - self.half

    @property
    def high(self) -> float:
        """Upper end of the interval; nan without one."""
        return self.delta + self.half

    @property
    def within_noise(self) -> bool | None:
        """Whether the interval holds 0, so that the seeds alone may have made the change; None if unknown."""
        return None if math.isnan(self.half) else abs(self.delta) <= self.half + 1e-9


def change(before: Mapping[int, float], after: Mapping[int, float]) -> Change | None:
    """The change from one rung's values to another's, both by seed; None where either has none.

    Paired where both have the same seeds (at least two), Welch's interval otherwise.
    """
    first, second = Summary.of(before.values()), Summary.of(after.values())
    if first is None or second is None:
        return None
    if before.keys() == after.keys() and len(before) > 1:
        differences = Summary.of(after[seed] - before[seed] for seed in before)
        assert differences is not None
        half = _t(differences.n - 1) * differences.std / math.sqrt(differences.n)
        return Change(differences.mean, half, "paired")
    return welch(first, second)


def welch(before: Summary, after: Summary) -> Change:
    """The change between two summaries, each by its own variance (Welch 1947); no interval below two values each."""
    delta = after.mean - before.mean
    if min(before.n, after.n) < 2 or math.isnan(before.std) or math.isnan(after.std):
        return Change(delta, NAN, "none")
    a, b = before.std**2 / before.n, after.std**2 / after.n
    if a + b == 0:
        return Change(delta, 0.0, "welch")
    share = a / (a + b)  # not a**2: the smallest variances would vanish
    freedom = 1 / (share**2 / (before.n - 1) + (1 - share) ** 2 / (after.n - 1))
    return Change(delta, _t(freedom) * math.sqrt(a + b), "welch")


def _t(freedom: float) -> float:
    from scipy.special import stdtrit  # quicker to import than scipy.stats, same numbers

    return float(stdtrit(freedom, 0.5 + LEVEL / 2))
