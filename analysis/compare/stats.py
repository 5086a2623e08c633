"""Owns the two figures that tables show: mean and std over seeds, and a change with its interval."""

from __future__ import annotations

import math
from collections.abc import Iterable
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
    """The difference of two means, in the unit of the values, with the half width of its interval.

    `method` paired: within seeds, by the spread of all runs. pooled: by that spread, but not within seeds. welch: by
    the spread of its own runs. none: too few runs for an interval; `half` is nan then and `within_noise` None.
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

    @property
    def verdict(self) -> str:
        """What the interval says: helps, hurts, noise; unknown without one."""
        if self.within_noise is None:
            return "unknown"
        return "noise" if self.within_noise else "helps" if self.delta > 0 else "hurts"
