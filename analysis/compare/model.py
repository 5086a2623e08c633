"""Owns the linear model: what all runs together say about the difference of any two networks, and how surely.

A run's value is the effect of its network, plus the effect of its seed where the seeds can be told from the networks
(Fisher's blocks), plus noise. The noise has one spread for all networks unless tests tell one apart. Intervals hold
one by one, or all at once by the distribution of the largest t of correlated contrasts (Hothorn, Bretz and Westfall
2008; with several spreads Hasler and Hothorn 2008).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, fdtrc, stdtrit  # scipy.stats takes seconds to import

from analysis.compare.stats import LEVEL, NAN, Change, Summary

Array = NDArray[np.float64]

ODD = 0.01  # level of the tests that tell a network's spread apart from that of the others
DEARER = 1.5  # seeds are blocks unless that multiplies the squared width of intervals by more
_DIRECTIONS = 2**15  # for the largest of correlated t values; that quantile is off by less than 0.2 %
_LEAST = 1e-18  # variance in place of none, so that contrasts keep their correlation
_FEWEST = 1e-6  # degrees of freedom that are none


@dataclass(frozen=True)
class Component:
    """One source of noise: the covariance that it gives the effects, and the degrees of freedom behind its size."""

    covariance: Array  # (effects, effects)
    freedom: float  # infinite where the size is known


@dataclass(frozen=True)
class Fit:
    """Effects and what is known of their errors. Only differences and other estimable contrasts mean something."""

    names: tuple[str, ...]
    estimates: Array  # (effects,)
    components: tuple[Component, ...]  # their covariances add up; none: no run to judge the noise by
    std: float  # the common spread of a run's noise; nan where unknown
    freedom: float  # its degrees of freedom
    blocked: bool = False  # seeds are blocks
    apart: tuple[str, ...] = ()  # networks whose spread is judged by their own runs alone
    floor: float = 0.0  # the least half width of an interval
    null: Array | None = None  # (effects, any): a contrast that is 0 on these can be estimated; None: every one
    silent: tuple[str, ...] = ()  # effects of which no one knows the noise

    def contrasts(self, weights: ArrayLike, level: float = LEVEL, kind: str = "all") -> list[Change]:
        """Weighted sums of the effects, `weights` of shape (contrasts, effects), with their intervals.

        `kind` all: the intervals hold together with probability `level`; each: every one by itself.
        """
        rows = np.asarray(weights, float).reshape(-1, len(self.names))
        deltas = rows @ self.estimates
        known = np.ones(len(rows), bool)
        if self.null is not None:
            known = np.abs(rows @ self.null).max(axis=1, initial=0.0) < 1e-6
            deltas = np.where(known, deltas, np.nan)
        covariances = [rows @ part.covariance @ rows.T for part in self.components]
        total = sum(covariances, np.zeros((len(rows), len(rows))))
        variance = np.diag(total)
        silent = np.array([name in self.silent for name in self.names])
        judged = known & (variance > 0) & ~(rows[:, silent] != 0).any(axis=1)
        half = np.full(len(rows), np.nan)
        if judged.any():
            parts = np.array([np.diag(each)[judged] for each in covariances])
            freedom = np.array([part.freedom for part in self.components])
            freedoms = satterthwaite(parts, freedom[:, None])
            inner = total[np.ix_(judged, judged)]
            errors = np.sqrt(variance[judged])
            if kind == "all":
                factors = critical(inner / np.outer(errors, errors), freedoms, level)
            else:
                factors = _t(freedoms, level)
            half[judged] = np.maximum(factors * errors, self.floor)
        return [
            Change(float(d), float(h), self._method(row) if h == h else "none")
            for row, d, h in zip(rows, deltas, half, strict=True)
        ]

    def changes(self, pairs: Sequence[tuple[str, str]], level: float = LEVEL, kind: str = "all") -> list[Change | None]:
        """The change from the first to the second of each pair of effects; None where the fit lacks one of them."""
        places = {name: place for place, name in enumerate(self.names)}
        found = [pair for pair in pairs if pair[0] in places and pair[1] in places]
        if not found:
            return [None] * len(pairs)
        known = iter(self.contrasts(self.differences(found), level, kind))
        return [next(known) if pair in found else None for pair in pairs]

    def differences(self, pairs: Sequence[tuple[str, str]]) -> Array:
        """The weights of the second of each pair of effects less the first, (pairs, effects)."""
        return np.array([[(n == after) - float(n == before) for n in self.names] for before, after in pairs])

    def draws(self, weights: Array, count: int, seed: int) -> Array | None:
        """Contrasts, `weights` (contrasts, effects), as other runs might give them, (count, contrasts).

        The estimates with errors drawn from a multivariate t: those of the fit, as far as its runs tell their size.
        None where the noise of one of them is not known.
        """
        if any(change.half != change.half for change in self.contrasts(weights, kind="each")):
            return None
        random = np.random.default_rng(seed)
        out = np.tile(weights @ self.estimates, (count, 1))
        for part in self.components:
            normal = random.multivariate_normal(np.zeros(len(weights)), weights @ part.covariance @ weights.T, count)
            size = random.chisquare(part.freedom, (count, 1)) / part.freedom if np.isfinite(part.freedom) else 1.0
            out += normal / np.sqrt(size)
        return out

    def plus(self, component: Component) -> Fit:
        """The fit with one more source of noise, independent of the others."""
        return replace(self, components=(*self.components, component))

    def _method(self, weights: Array) -> str:
        own = {name for name, weight in zip(self.names, weights, strict=True) if weight} & set(self.apart)
        return "welch" if own else "paired" if self.blocked else "pooled"


def fit(values: Mapping[str, Mapping[Any, float]], floor: float = 0.0) -> Fit:
    """The model of networks and seeds: `values` by network and seed, `floor` the least half width of an interval.

    Two networks with the same seeds: the paired t interval. Two with other seeds: Welch's. From three networks on the
    spread is common, but for networks that tests tell apart (`Fit.apart`), whose changes are Welch's.
    """
    cells = [(name, seed, value) for name, mine in values.items() for seed, value in mine.items()]
    names = tuple(name for name, mine in values.items() if mine)
    labels, seeds = [name for name, _, _ in cells], [seed for _, seed, _ in cells]
    networks, response = _indicators(labels), [value for _, _, value in cells]
    blocked = _seeds_are_blocks(networks, seeds, {frozenset(mine) for mine in values.values() if mine})
    if len(names) == 2 and not blocked:
        return fit_summaries({name: summary for name in names if (summary := Summary.of(values[name].values()))}, floor)
    return fit_design(networks, response, names, blocks=seeds if blocked else None, groups=labels, floor=floor)


def fit_summaries(summaries: Mapping[str, Summary], floor: float = 0.0) -> Fit:
    """The model of networks alone, from mean, std and number of runs of each (published numbers).

    Networks without a std have changes but no intervals.
    """
    names = tuple(summaries)
    known = [name for name in names if summaries[name].n > 1 and summaries[name].std == summaries[name].std]
    variances = {name: max(summaries[name].std ** 2, _LEAST) for name in known}
    freedoms = {name: float(summaries[name].n - 1) for name in known}
    apart = tuple(known) if len(known) == 2 else ()
    while odd := outlying({n: v for n, v in variances.items() if n not in apart}, freedoms):
        apart = (*apart, odd)
    common = [name for name in known if name not in apart]
    freedom = sum(freedoms[name] for name in common)
    variance = sum(freedoms[name] * variances[name] for name in common) / freedom if freedom else NAN
    components = []
    for group, size, behind in [(common, variance, freedom), *(([n], variances[n], freedoms[n]) for n in apart)]:
        if group:
            inside = [size / summaries[name].n if name in group else 0.0 for name in names]
            components.append(Component(np.diag(inside), behind))
    means = np.array([summaries[name].mean for name in names])
    silent = tuple(name for name in names if name not in known)
    return Fit(names, means, tuple(components), variance**0.5, freedom, apart=apart, floor=floor, silent=silent)


def fit_design(
    design: ArrayLike,
    response: ArrayLike,
    names: Sequence[str],
    *,
    blocks: Sequence[Hashable] | None = None,
    groups: Sequence[str] | None = None,
    robust: bool = False,
    floor: float = 0.0,
) -> Fit:
    """Least squares for any design: `design` (runs, effects), `response` (runs,), an intercept where it is a column.

    `blocks`: a label a run, such as its seed; blocks get effects of their own, which are not among the fit's.
    `groups`: a label a run; a group whose spread the tests tell apart gets a variance of its own, and the others are
    weighted against it. `robust`: no common spread at all, HC3 instead (MacKinnon and White 1985).
    """
    x, y = np.asarray(design, float), np.asarray(response, float)
    effects = x.shape[1]
    if blocks is not None:
        x = np.hstack([x, _indicators(blocks)])
    labels = np.array(list(groups) if groups is not None else [""] * len(y), dtype=object)
    apart: tuple[str, ...] = ()
    solved = _solve(x, y, [np.ones(len(y), bool)])
    while groups is not None and not robust and (odd := _odd(solved, labels, apart, floor)):
        apart = (*apart, odd)
        solved = _solve(x, y, [~np.isin(labels, apart), *(labels == name for name in apart)])
    components = []
    if robust:
        scores = solved.lift * (solved.residuals / np.maximum(1 - solved.leverage, 1e-9))
        components = [Component((scores @ scores.T)[:effects, :effects], solved.freedoms[0])]
    else:
        for members, variance, freedom in zip(solved.parts, solved.variances, solved.freedoms, strict=True):
            lift = solved.lift[:effects, members]
            components.append(Component(variance * (lift @ lift.T), freedom))
    null = np.eye(effects, x.shape[1]) - (solved.lift @ x)[:effects]
    return Fit(
        tuple(names),
        (solved.lift @ y)[:effects],
        tuple(part for part in components if part.freedom > _FEWEST),
        solved.variances[0] ** 0.5,
        solved.freedoms[0],
        blocked=blocks is not None,
        apart=apart,
        floor=floor,
        null=null if np.abs(null).max(initial=0.0) > 1e-9 else None,
    )


@dataclass(frozen=True)
class _Solved:
    """Weighted least squares with one variance for each part of the runs."""

    lift: Array  # (coefficients, runs): from values to coefficients
    residuals: Array
    leverage: Array
    parts: list[NDArray[np.bool_]]  # which runs share a variance; the common one first
    variances: list[float]
    freedoms: list[float]


def _solve(x: Array, y: Array, parts: list[NDArray[np.bool_]]) -> _Solved:
    """Each part weighted by its own variance, which the fit before gave; with one part, ordinary least squares."""
    weights = np.ones(len(y))
    for _ in range(1 if len(parts) == 1 else 4):
        lift = np.linalg.pinv(x.T @ (x * weights[:, None]), rcond=1e-10, hermitian=True) @ (x.T * weights)
        residuals = y - x @ (lift @ y)
        leverage = np.einsum("ij,ji->i", x, lift)
        freedoms = [float((1 - leverage[members]).sum()) for members in parts]
        variances = [
            max(float((residuals[members] ** 2).sum()) / freedom, _LEAST) if freedom > _FEWEST else NAN
            for members, freedom in zip(parts, freedoms, strict=True)
        ]
        for members, variance in zip(parts, variances, strict=True):
            weights[members] = variances[0] / variance if variance == variance else 1.0
    return _Solved(lift, residuals, leverage, parts, variances, freedoms)


def _odd(solved: _Solved, labels: NDArray[Any], apart: Sequence[str], floor: float) -> str | None:
    """The next group to be taken apart, by its spread; None where the rest may share one.

    A spread below that of rounding to the floor is not told from none. Brown and Forsythe's test takes groups of three
    runs and more: two runs lie equally far from their median, which the test would read as no noise at all.
    """
    variances, freedoms, samples = {}, {}, {}
    for name in dict.fromkeys(labels):
        members = labels == name
        freedom = float((1 - solved.leverage[members]).sum())
        if name not in apart and freedom > _FEWEST:
            spread = float((solved.residuals[members] ** 2).sum()) / freedom
            variances[name] = max(spread, floor**2 / 12, _LEAST)
            freedoms[name] = freedom
            if members.sum() > 2:
                samples[name] = solved.residuals[members]
    if odd := outlying(variances, freedoms):
        return odd
    unequal = len(samples) > 2 and brown_forsythe(samples.values()) < ODD
    return max(samples, key=variances.__getitem__) if unequal else None


def outlying(variances: Mapping[str, float], freedoms: Mapping[str, float]) -> str | None:
    """The group whose variance is too large to be of the others (Cochran 1941; unequal numbers: 't Lam 2010).

    Below three groups none is told apart.
    """
    if len(variances) < 3:
        return None
    total = sum(freedoms[name] * variance for name, variance in variances.items())
    behind = sum(freedoms[name] for name in variances)
    chances = {}
    for name, variance in variances.items():
        rest = (total - freedoms[name] * variance) / (behind - freedoms[name])
        ratio = variance / rest if rest > 0 else np.inf if variance > _LEAST else 1.0
        chances[name] = len(variances) * float(fdtrc(freedoms[name], behind - freedoms[name], ratio))
    least = min(chances, key=chances.__getitem__)
    return least if chances[least] < ODD else None


def brown_forsythe(samples: Iterable[ArrayLike]) -> float:
    """The p value of equal spreads: analysis of variance of the distances to each sample's median (1974)."""
    distances = [np.abs(sample - np.median(sample)) for sample in map(np.asarray, samples)]
    count, whole = len(distances), np.concatenate(distances)
    between = sum(len(d) * (d.mean() - whole.mean()) ** 2 for d in distances) / (count - 1)
    freedom = len(whole) - count
    within = sum(((d - d.mean()) ** 2).sum() for d in distances) / freedom if freedom else 0.0
    return float(fdtrc(count - 1, freedom, between / within)) if within > 0 else 1.0


def satterthwaite(parts: Array, freedoms: Array) -> Array:
    """Degrees of freedom of sums of variances, `parts` (components, contrasts) (Satterthwaite 1946)."""
    share = parts / parts.sum(axis=0)
    with np.errstate(divide="ignore"):  # infinite where every variance is known
        return np.asarray(1 / (share**2 / freedoms).sum(axis=0), float)


def critical(correlation: Array, freedoms: ArrayLike, level: float = LEVEL) -> Array:
    """How many standard errors each interval must reach for all to hold together with probability `level`.

    `correlation` (contrasts, contrasts), `freedoms` (contrasts,). With equal freedoms the quantile of the largest
    absolute value of a multivariate t; with unequal ones each contrast takes that of its own freedom.
    """
    degrees = np.broadcast_to(np.asarray(freedoms, float), len(correlation))
    rounded = np.ascontiguousarray(np.round(correlation, 4))  # what is equal but for rounding is looked up
    if _reach(rounded.tobytes(), len(rounded))[0] == 1:
        return _t(degrees, level)
    degrees = np.round(degrees, 2)
    known = {d: _critical(rounded.tobytes(), len(rounded), float(d), level) for d in np.unique(degrees)}
    return np.array([known[d] for d in degrees])


@lru_cache(maxsize=4096)
def _critical(correlation: bytes, count: int, freedom: float, level: float) -> float:
    rank, reach = _reach(correlation, count)
    low, high = float(_t(freedom, level)), float(_t(freedom, 1 - (1 - level) / count))
    while high - low > 1e-4:
        q = (low + high) / 2
        # A normal vector is a length times a direction; given the direction, the length beside the error is an F.
        ratio = q**2 / (rank * reach**2)
        beyond = fdtrc(rank, freedom, ratio) if np.isfinite(freedom) else chdtrc(rank, rank * ratio)
        low, high = (q, high) if beyond.mean() > 1 - level else (low, q)
    return (low + high) / 2


@lru_cache(maxsize=64)
def _reach(correlation: bytes, count: int) -> tuple[int, Array]:
    """The rank of a correlation, and the largest contrast by direction, as quantiles over many; the same each time."""
    values, vectors = np.linalg.eigh(np.frombuffer(correlation).reshape(count, count))
    kept = values > 1e-3
    space, scale = vectors[:, kept], np.sqrt(values[kept])
    # By the symmetric root: which eigenvectors an equal eigenvalue gets depends on the processor, their span does not.
    directions = _directions(count) @ (space @ space.T)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    largest = np.sort(np.abs(directions @ ((space * scale) @ space.T)).max(axis=1))
    return int(kept.sum()), largest.reshape(-1, 64).mean(axis=1)


@lru_cache(maxsize=8)
def _directions(count: int) -> Array:
    frames = np.random.default_rng(0).normal(size=(-(-_DIRECTIONS // count), count, count))
    return np.linalg.qr(frames)[0].reshape(-1, count)[:_DIRECTIONS]  # at right angles: more even than at random


def _t(freedom: ArrayLike, level: float) -> Array:
    return np.asarray(stdtrit(freedom, 0.5 + level / 2), float)


def _indicators(labels: Sequence[Hashable]) -> Array:
    """A column for each label, 1 where a run has it; in the order of their first run."""
    kinds = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    out = np.zeros((len(labels), len(kinds)))
    out[np.arange(len(labels)), [kinds[label] for label in labels]] = 1.0
    return out


def _seeds_are_blocks(networks: Array, seeds: Sequence[Hashable], sets: set[frozenset[Any]]) -> bool:
    """Whether networks are compared within seeds: all have the same, or what is missing makes that hardly dearer."""
    alone = np.diag(1 / networks.sum(axis=0))
    count = networks.shape[1]
    x = np.hstack([networks, _indicators(seeds)])
    freedom = len(seeds) - np.linalg.matrix_rank(x.T @ x, tol=1e-8, hermitian=True)
    if freedom < 1 or count < 2:
        return False
    if len(sets) == 1:
        return True
    inverse = np.linalg.pinv(x.T @ x, rcond=1e-10, hermitian=True)
    if np.abs((inverse @ x.T @ x)[:count, count:].std(axis=0)).max() > 1e-6:
        return False  # some networks share no seed, not even by way of others
    free = _t(freedom, LEVEL) ** 2 * _mean_pair(inverse[:count, :count])
    return bool(free <= DEARER * _t(len(seeds) - count, LEVEL) ** 2 * _mean_pair(alone))


def _mean_pair(covariance: Array) -> float:
    """The mean variance of the difference of two effects."""
    count = len(covariance)
    return float(2 * (np.trace(covariance) - covariance.sum() / count) / (count - 1))
