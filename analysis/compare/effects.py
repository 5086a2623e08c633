"""Owns the linear model of steps: what each is worth over all runs of a study.

A run's top-1 is a mean, an effect for each step that its network has (and each recipe value that a design varied), an
effect of its seed where seeds can be told from steps, and noise. An effect is the difference that a step makes,
averaged over the contexts in which the study tried it (Box, Hunter and Hunter, "Statistics for Experimenters", ch. 5).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from analysis.compare.cases import Cases
from analysis.compare.contexts import Pair
from analysis.compare.mixed import Mixed, fit_mixed
from analysis.compare.model import DEARER, Fit
from analysis.compare.stats import LEVEL, Change
from ladder.errors import unknown

Array = NDArray[np.float64]

MACS = "log2 MACs"


@dataclass(frozen=True)
class Model:
    """The columns of a fit: a mean, the factors, interactions, log2 MACs if asked for, seeds. And the fit.

    The interactions of all other pairs may be random effects, so that intervals know of them.
    """

    cases: Cases
    pairs: tuple[Pair, ...]  # interactions in the model
    equal_macs: bool
    names: tuple[str, ...]  # of the columns
    x: Array  # (runs, columns)
    others: tuple[Pair, ...]  # interactions that are random effects
    z: Array  # (runs, others)
    mixed: Mixed

    @property
    def fit(self) -> Fit:
        """The effects of the columns."""
        return self.mixed.fit

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the residuals."""
        return float(self.fit.freedom)

    @property
    def spread_of_others(self) -> float:
        """The standard deviation of the interactions that are random, as differences of differences."""
        return 2 * self.mixed.spread

    @cached_property
    def _inverse(self) -> Array:
        """Of the runs' covariance, in units of a run's noise, (runs, runs)."""
        return np.asarray(np.linalg.inv(np.eye(len(self.x)) + self.mixed.ratio * self.z @ self.z.T))

    @cached_property
    def _cover(self) -> Array:
        """The covariance of the columns' estimates, in units of a run's noise."""
        return np.asarray(np.linalg.pinv(self.x.T @ self._inverse @ self.x, rcond=1e-10, hermitian=True))

    @cached_property
    def precision(self) -> Array:
        """From values to residuals, each weighted by what the others tell of it, (runs, runs)."""
        lift = self._inverse @ self.x
        return np.asarray(self._inverse - lift @ self._cover @ lift.T)

    @cached_property
    def residuals(self) -> Array:
        """Weighted residuals; without random effects those of least squares, in the unit of the response."""
        return np.asarray(self.precision @ self.cases.y)

    @cached_property
    def squares(self) -> float:
        """Their sum of squares."""
        return float(self.cases.y @ self.residuals)

    @cached_property
    def left_out(self) -> Array:
        """Each run less what the model of the others foretells of it; nan where they tell nothing."""
        rest = np.diag(self.precision)
        return np.asarray(np.where(rest > 1e-6, self.residuals / np.maximum(rest, 1e-6), np.nan))

    def foretell(self, applied: Array) -> tuple[Array, Array]:
        """What runs with other settings of the factors, (settings, factors) as `Cases.applied`, are expected to reach.

        And the standard errors of one run each. Seeds are at their mean.
        """
        x = _columns(self.cases, applied, self.pairs)
        x = np.hstack([x, np.zeros((len(applied), len(self.names) - x.shape[1]))])
        z = self.cases.products(applied, self.others)
        beside = self.mixed.ratio * z @ self.z.T @ self._inverse  # what the known runs tell of the random effects
        estimates = self.fit.estimates
        gap = x - beside @ self.x
        variance = 1 + self.mixed.ratio * ((z**2).sum(axis=1) - np.einsum("ij,ij->i", beside @ self.z, z))
        variance += np.einsum("ij,jk,ik->i", gap, self._cover, gap)
        values = x @ estimates + beside @ (self.cases.y - self.x @ estimates)
        return values, float(self.fit.std) * np.sqrt(variance)

    def effects(self, names: Iterable[str], level: float = LEVEL, kind: str = "all") -> dict[str, Change]:
        """The effects of factors (and of interactions, "a x b"), with their intervals."""
        wanted = [name for name in names if name in self.names]
        weights = np.array([[float(n == name) for n in self.names] for name in wanted]).reshape(-1, len(self.names))
        return dict(zip(wanted, self.fit.contrasts(weights, level, kind), strict=True))

    def main_effects(self, kind: str = "all") -> dict[str, Change]:
        """The effect of every factor, on average over the contexts."""
        return self.effects(self.cases.names, kind=kind)

    def given(self, looked_at: int = 0) -> list[Given]:
        """For each interaction in the model, both steps' effects without and with the other one.

        Intervals hold each by itself; or, where the pairs were chosen by these runs among `looked_at`, all effects at
        once and all differences at once, whichever pairs are chosen (Bonferroni, over all that might have been).
        """
        return [self._given(step, other, looked_at) for pair in self.pairs for step, other in (pair, pair[::-1])]

    def _given(self, step: str, other: str, looked_at: int) -> Given:
        fitted = model(self.cases, self.pairs, self.equal_macs, bool(self.others), (step, other))
        pair = (step, other) if (step, other) in self.pairs else (other, step)
        both, share = self.names.index(pair_name(pair)), self.cases.contexts.share(other, step)
        weights = np.array([[float(n == step) for n in self.names]] * 2)
        weights[:, both] = -2 * share, 2 * (1 - share)
        without, with_it = fitted._at_once(weights, 4 * looked_at)
        difference = np.zeros((1, len(self.names)))
        difference[0, both] = 2
        return Given(step, other, without, with_it, *fitted._at_once(difference, looked_at))

    def _at_once(self, weights: Array, count: int) -> list[Change]:
        return self.fit.contrasts(weights, 1 - (1 - LEVEL) / max(count, 1), "each")


@dataclass(frozen=True)
class Given:
    """What a step is worth without and with another one, averaged over all other contexts."""

    step: str
    other: str  # a step; or a recipe value, "without" at the first of its two values
    without: Change
    with_it: Change
    difference: Change


def pair_name(pair: Pair) -> str:
    """What tables call an interaction."""
    return " x ".join(pair)


def model(
    data: Cases,
    pairs: Sequence[Pair] = (),
    equal_macs: bool = False,
    random: bool = False,
    given: Pair | None = None,
) -> Model:
    """Least squares with these interactions; one is the difference that a step makes to another one's effect.

    `random`: every other pair has one too, all drawn from one normal distribution (`mixed.fit_mixed`). `given`: a step
    whose effect is averaged over the contexts that have another one, and over those that lack it.
    """
    for name in (name for pair in pairs for name in pair):
        if name not in data.names:
            raise unknown("step that varies", name, data.names)
    columns = [_columns(data, data.applied, pairs, given)]
    names = ["", *data.names, *map(pair_name, pairs)]
    if equal_macs:
        columns.append((data.log_macs - data.log_macs.mean())[:, None])
        names.append(MACS)
    x = np.hstack(columns)
    seeds = _seeds(data, x)
    whole = np.hstack([x, seeds])
    names += [f"seed {i}" for i in range(seeds.shape[1])]
    others = tuple(pair for pair in data.pairs if pair not in pairs) if random else ()
    z = data.products(data.applied, others, given)
    mixed = fit_mixed(whole, z, data.y, names)
    return Model(data, tuple(pairs), equal_macs, tuple(names), whole, others, z, mixed)


def _columns(data: Cases, applied: Array, pairs: Sequence[Pair], given: Pair | None = None) -> Array:
    return np.hstack([np.ones((len(applied), 1)), applied - 0.5, data.products(applied, pairs, given)])


def _seeds(data: Cases, x: Array) -> Array:
    """Columns of the seeds, each of sum 0, where that leaves every effect known and hardly less surely; else none."""
    labels = sorted({row.seed for row in data.rows})
    if len(labels) < 2:
        return np.zeros((len(x), 0))
    columns = np.array(
        [[float(row.seed == s) - float(row.seed == labels[-1]) for s in labels[:-1]] for row in data.rows]
    )
    without, with_seeds = _cost(x, x.shape[1]), _cost(np.hstack([x, columns]), x.shape[1])
    return columns if with_seeds <= DEARER * without else np.zeros((len(x), 0))


def _cost(x: Array, effects: int) -> float:
    """The mean squared width of the intervals of the first columns; infinite where one of them can't be told."""
    from scipy.special import stdtrit

    freedom = len(x) - int(np.linalg.matrix_rank(x))
    inverse = np.linalg.pinv(x.T @ x, rcond=1e-10, hermitian=True)
    known = np.abs((inverse @ x.T @ x - np.eye(x.shape[1]))[:effects]).max(axis=1) < 1e-6
    if freedom < 1:
        return math.inf
    return float(stdtrit(freedom, 0.5 + LEVEL / 2) ** 2 * np.diag(inverse)[:effects][known].mean() / known.mean() ** 8)


def unknown_effects(found: Model) -> list[str]:
    """Factors that no run tells apart from others, a line each with what they stand together with."""
    null = found.fit.null
    if null is None:
        return []
    lost = [i for i, name in enumerate(found.names) if np.abs(null[i]).max() > 1e-6 and name in found.cases.names]
    groups: dict[int, list[str]] = {}
    for i in lost:
        first = next((j for j in groups if np.abs(null[i] @ null[j]) > 1e-6), i)
        groups.setdefault(first, []).append(found.names[i])
    return [f"not told apart by any run: {', '.join(names)}" for names in groups.values()]
