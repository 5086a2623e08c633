"""Owns what each step is worth over all runs of a study: runs as a design of subsets, and the linear model of it.

A run's top-1 is a mean, an effect for each step that its network has (and each recipe value that a design varied), an
effect of its seed where seeds can be told from steps, and noise. An effect is the difference that a step makes,
averaged over the contexts in which the study tried it (Box, Hunter and Hunter, "Statistics for Experimenters", ch. 5).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc, stdtr

from analysis.compare import selection
from analysis.compare.mixed import Mixed, fit_mixed
from analysis.compare.model import DEARER, Fit, fit
from analysis.compare.overrides import value
from analysis.compare.stats import LEVEL, NAN, Change
from analysis.read.configs import read_config, show
from ladder.errors import UserError, unknown
from ladder.launch.design_file import steps_applied
from ladder.launch.designs import Row, coded
from ladder.networks.rungs import Ladder

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
Pair = tuple[str, str]

MACS = "log2 MACs"
FAR = 3.0  # interquartile ranges below the first quartile, of log odds: a run that did not learn (Tukey 1977)


@dataclass(frozen=True)
class Cases:
    """The finished runs of one ladder on one data set, as rows of a design."""

    ladder: Ladder
    runs: pd.DataFrame  # a frame of `analysis.load`, a line for each of `rows`
    steps: tuple[str, ...]  # that some runs have and others lack, in the ladder's order, side steps last
    factors: Mapping[str, tuple[Any, Any]]  # recipe values that a design varied: config key, low and high level
    rows: tuple[Row, ...]
    response: str = "points"  # points of top-1 | logit: its log odds
    common: tuple[str, ...] = ()  # steps that every run has
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All that was varied: steps, then other factors."""
        return (*self.steps, *self.factors)

    @cached_property
    def half(self) -> Array:
        """+0.5 where a factor is applied or at its high level, else -0.5: (runs, factors)."""
        return coded(self.rows, self.steps, self.factors) / 2

    @cached_property
    def y(self) -> Array:
        """The response of each run."""
        top1 = self.runs["top1"].to_numpy(float)
        return top1 if self.response == "points" else self.log_odds

    @cached_property
    def log_odds(self) -> Array:
        """Log odds of top-1, those of 0 and 100 % too."""
        return log_odds(self.runs["top1"].to_numpy(float), self.runs["eval_size"].fillna(10_000).to_numpy(float))

    @cached_property
    def log_macs(self) -> Array:
        """log2 of MACs; nan where a run does not tell."""
        return np.log2(self.runs["macs"].astype("float64").to_numpy(float))

    @cached_property
    def networks(self) -> list[str]:
        """A label a run, equal for runs that differ in the seed alone."""
        return [str(row.key[:2]) for row in self.rows]

    def part(self, kept: NDArray[np.bool_]) -> Cases:
        """Some of the runs."""
        return replace(self, runs=self.runs[kept], rows=tuple(r for r, k in zip(self.rows, kept, strict=True) if k))

    def title_of(self, name: str) -> str:
        """A step in words; another factor as its two values."""
        if name in self.factors:
            low, high = self.factors[name]
            return f"{name}: {show(low)} to {show(high)}"
        return next(step.title for step in (*self.ladder.steps, *self.ladder.side) if step.name == name)


def log_odds(top1: Array, images: Array | float) -> Array:
    """Log odds of top-1 in percent of so many images; half an image is added to both sides."""
    right = top1 / 100 * images
    return np.asarray(np.log((right + 0.5) / (images - right + 0.5)))


def cases(runs: pd.DataFrame, where: Mapping[str, str], response: str = "points") -> Cases:
    """The finished runs of a frame of `analysis.load` as a design.

    Raises:
        UserError: runs of several ladders or data sets, or that differ in more than steps, seed and what a design
            varied; a ladder that is not installed; nothing that varies.
    """
    factors = selection.varied(runs)
    groups = selection.groups(runs, (), where)
    kinds = {(g.name, *_data_of(g.runs)) for g in groups}
    if len(kinds) > 1:
        named = ", ".join(f"{ladder} on {data}" for ladder, data, _ in sorted(kinds))
        raise UserError(f"runs of several ladders or data sets ({named}): keep one with --where, or give one study")
    ladder = groups[0].ladder
    if ladder is None:
        raise UserError(f"ladder {groups[0].name} is not installed here: its file says which steps a rung has")
    if changed := [note for g in groups if g.overridden for note in g.notes if note.startswith("spec.")]:
        raise UserError(f"{changed[0]}: steps are compared on the ladder's own networks; keep others with --where")
    rows, kept, left = [], [], []
    for group in groups:
        for run in group.runs[group.runs["state"] == "done"].itertuples():
            steps = steps_applied(read_config(str(run.path)) or {}, ladder)
            if steps is None:
                left.append(str(run.run))
                continue
            levels = {key: value(str(run.path), key, ladder) for key in factors}
            rows.append(Row(steps, levels, int(str(run.seed))))
            kept.append(run.Index)
    notes = tuple(dict.fromkeys(note for g in groups for note in g.notes))
    if left:
        notes += (f"left out, no network of the ladder's steps: {few(left)}",)
    if states := runs.loc[~runs["state"].isin(["done"]), "state"].value_counts().to_dict():
        notes += (f"not in the fit: {', '.join(f'{n} {s}' for s, n in states.items())}",)
    return _varied(Cases(ladder, runs.loc[kept], (), factors, tuple(rows), response, notes=notes))


def _varied(all_runs: Cases) -> Cases:
    """With the steps and factors that vary among the runs."""
    order = [step.name for step in (*all_runs.ladder.steps, *all_runs.ladder.side)]
    has = [{name for name in order if name in row.steps} for row in all_runs.rows]
    somewhere, everywhere = set().union(*has), set.intersection(*has) if has else set()
    steps = tuple(name for name in order if name in somewhere - everywhere)
    factors = {
        key: levels
        for key, levels in all_runs.factors.items()
        if {show(row.levels.get(key)) for row in all_runs.rows} >= {show(level) for level in levels}
    }
    if not steps and not factors:
        raise UserError(f"all {len(has)} finished runs are of one network: no step varies")
    common = tuple(name for name in order if name in everywhere)
    return replace(all_runs, steps=steps, factors=factors, common=common)


def _data_of(runs: pd.DataFrame) -> tuple[str, str]:
    done = runs[runs["state"] == "done"].iloc[0]
    return str(done["data"]), str(done["eval_split"])


def few(names: Sequence[str], most: int = 4) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# --- the model --------------------------------------------------------------------------------------------------------


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

    def foretell(self, half: Array) -> tuple[Array, Array]:
        """What runs with other settings of the factors, (settings, factors) as `Cases.half`, are expected to reach.

        And the standard errors of one run each. Seeds are at their mean.
        """
        x = _columns(self.cases.names, half, self.pairs)
        x = np.hstack([x, np.zeros((len(half), len(self.names) - x.shape[1]))])
        z = _products(self.cases.names, half, self.others)
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
        names = [pair_name(pair) for pair in self.pairs]
        whom = [(a, b, name) for pair, name in zip(self.pairs, names, strict=True) for a, b in (pair, pair[::-1])]
        # columns are +-0.5 each, an interaction's twice their product: with the other step it adds half of itself
        weights = [
            [float(n == step) + sign * (n == both) for n in self.names] for step, _, both in whom for sign in (-1, 1)
        ]
        effects = self._at_once(weights, 4 * looked_at)
        differences = self._at_once([[2.0 * (n == name) for n in self.names] for name in names], looked_at)
        return [
            Given(step, other, effects[2 * i], effects[2 * i + 1], differences[i // 2])
            for i, (step, other, _) in enumerate(whom)
        ]

    def _at_once(self, weights: Sequence[Sequence[float]], count: int) -> list[Change]:
        level = 1 - (1 - LEVEL) / max(count, 1)
        return self.fit.contrasts(np.array(weights).reshape(-1, len(self.names)), level, "each")


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


def model(data: Cases, pairs: Sequence[Pair] = (), equal_macs: bool = False, random: bool = False) -> Model:
    """Least squares with these interactions; one is the difference that a step makes to another one's effect.

    `random`: every other pair has one too, all drawn from one normal distribution (`mixed.fit_mixed`).
    """
    for name in (name for pair in pairs for name in pair):
        if name not in data.names:
            raise unknown("step that varies", name, data.names)
    columns = [_columns(data.names, data.half, pairs)]
    names = ["", *data.names, *map(pair_name, pairs)]
    if equal_macs:
        columns.append((data.log_macs - data.log_macs.mean())[:, None])
        names.append(MACS)
    x = np.hstack(columns)
    seeds = _seeds(data, x)
    whole = np.hstack([x, seeds])
    names += [f"seed {i}" for i in range(seeds.shape[1])]
    others = tuple(pair for pair in combinations(data.names, 2) if pair not in pairs) if random else ()
    z = _products(data.names, data.half, others)
    mixed = fit_mixed(whole, z, data.y, names)
    return Model(data, tuple(pairs), equal_macs, tuple(names), whole, others, z, mixed)


def _columns(names: Sequence[str], half: Array, pairs: Sequence[Pair]) -> Array:
    return np.hstack([np.ones((len(half), 1)), half, _products(names, half, pairs)])


def _products(names: Sequence[str], half: Array, pairs: Sequence[Pair]) -> Array:
    """The columns of interactions: +-0.5, so that a coefficient is half of a difference of differences."""
    places = {name: place for place, name in enumerate(names)}
    columns = [2 * half[:, places[a]] * half[:, places[b]] for a, b in pairs]
    return np.column_stack(columns) if columns else np.zeros((len(half), 0))


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


# --- whether to trust it ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judgement:
    """What the runs say of their own model."""

    std: float  # the spread of a run about the model, in the unit of the response
    freedom: float
    replicates: float  # the spread of runs of one network; nan without such runs
    replicate_freedom: float
    lack_of_fit: float | None  # p value of "the steps add up"; None where it can't be told
    left_out: float  # root mean square error of a run foretold by the others
    collapsed: tuple[str, ...]  # runs that did not learn

    @property
    def adds_up(self) -> bool | None:
        """Whether steps may be told one by one; None: no run says."""
        return None if self.lack_of_fit is None else self.lack_of_fit >= 1 - LEVEL


def judge(found: Model) -> Judgement:
    """Residuals against the spread of replicates, leave-one-out errors, and runs that did not learn."""
    data = found.cases
    errors = found.left_out[~np.isnan(found.left_out)]
    pure, behind = _replicates(data, found)
    lack = None
    total = found.squares
    rest = found.freedom - behind
    if behind >= 1 and rest >= 1 and pure > 0:
        ratio = max(total - pure**2 * behind, 0.0) / rest / pure**2
        lack = float(fdtrc(rest, behind, ratio))
    return Judgement(
        std=float(found.fit.std),
        freedom=found.freedom,
        replicates=pure,
        replicate_freedom=behind,
        lack_of_fit=lack,
        left_out=float(np.sqrt((errors**2).mean())) if len(errors) else NAN,
        collapsed=tuple(str(run) for run in data.runs["run"][collapsed(data)]),
    )


def _replicates(data: Cases, found: Model) -> tuple[float, float]:
    """The spread of runs of one network and its degrees of freedom, by a mean for each network (and seeds)."""
    labels = sorted(set(data.networks))
    x = np.array([[float(label == other) for other in labels] for label in data.networks])
    seeds = [i for i, name in enumerate(found.names) if name.startswith("seed ")]
    x = np.hstack([x, found.x[:, seeds]])
    freedom = len(x) - int(np.linalg.matrix_rank(x))
    if freedom < 1:
        return NAN, 0.0
    residuals = data.y - x @ (np.linalg.pinv(x, rcond=1e-10) @ data.y)
    return math.sqrt(float((residuals**2).sum()) / freedom), float(freedom)


def unforeseen(found: Model) -> dict[str, float]:
    """Runs that lie further from what the others foretell of them than chance lets any of so many, and how far.

    By deleted studentised residuals, p times the number of runs below 5 % (Cook and Weisberg 1982, section 2.2.2).
    """
    rest, freedom = np.diag(found.precision), found.freedom - 1
    if freedom < 1:
        return {}
    squares = found.residuals**2 / np.maximum(rest, 1e-6)
    others = np.maximum(found.squares - squares, np.finfo(float).tiny)
    with np.errstate(over="ignore"):  # infinitely far, where the others leave nothing over
        p = 2 * stdtr(freedom, -np.sqrt(freedom * squares / others))
    far = (rest > 1e-6) & (p * len(p) < 1 - LEVEL) & (np.abs(found.left_out) > 1e-6 * np.abs(found.cases.y).max())
    return {str(run): float(found.left_out[i]) for i, run in enumerate(found.cases.runs["run"]) if far[i]}


def collapsed(data: Cases) -> NDArray[np.bool_]:
    """Which runs are far below all others."""
    return far_below(data.log_odds)


def far_below(odds: Array) -> NDArray[np.bool_]:
    """Of the runs in each row, those `FAR` interquartile ranges below the first quartile; `odds` (..., runs)."""
    low, high = np.quantile(odds, [0.25, 0.75], axis=-1, keepdims=True)
    return np.asarray((odds < low - FAR * (high - low)) & (odds.shape[-1] >= 8))


# --- other answers about the same steps -------------------------------------------------------------------------------


def walk_changes(data: Cases, interval: str = "all") -> dict[str, Change]:
    """What each step changed in the walk, by the study's runs of the rungs alone; of neighbours that both were run.

    Where other factors vary, at those of their levels at which most rungs were run.
    """
    if data.ladder.kind != "chain":
        return {}
    order = [step.name for step in data.ladder.steps]
    levels: dict[str, dict[str, dict[int, float]]] = {}
    for row, y in zip(data.rows, data.y, strict=True):
        if list(row.steps) == order[: len(row.steps)]:
            rung = data.ladder.rungs[len(row.steps)].name
            levels.setdefault(row.key[1], {}).setdefault(rung, {})[row.seed] = float(y)
    values = max(levels.values(), key=len, default={})
    names = [rung.name for rung in data.ladder.rungs]
    pairs = [(a, b) for a, b in pairwise(names) if a in values and b in values]
    if not pairs:
        return {}
    changes = fit(values).changes(pairs, kind=interval)
    return {after: change for (_, after), change in zip(pairs, changes, strict=True) if change is not None}


def cost_factors(data: Cases) -> dict[str, tuple[float, float]]:
    """How many times the MACs, and the images/s, each step makes, on average over contexts; nan where not known."""
    speed = np.log2(data.runs["images_per_s"].to_numpy(float))
    speed = speed if data.runs["device"].nunique() == 1 else np.full(len(speed), np.nan)
    out: dict[str, list[float]] = {name: [] for name in data.names}
    x = np.column_stack([np.ones(len(data.rows)), data.half])
    inverse = np.linalg.pinv(x, rcond=1e-10)
    told = np.abs(inverse @ x - np.eye(x.shape[1])).max(axis=1) < 1e-6
    for values in (data.log_macs, speed):
        effects = inverse @ values
        for place, name in enumerate(data.names, 1):
            out[name].append(float(2 ** effects[place]) if told[place] else NAN)
    return {name: (both[0], both[1]) for name, both in out.items()}


@dataclass(frozen=True)
class Share:
    """A step's Shapley value: its change averaged over random orders of the steps, with its standard error."""

    step: str
    mean: float
    error: float
    orders: int = field(default=0)


def shapley(data: Cases) -> list[Share]:
    """Shapley values by the finished orders of the study's designs of permutations; empty where there are none.

    A step's value is the mean of its changes over orders, its standard error their spread over the root of their
    number (Castro, Gomez and Tejada 2009).
    """
    top1: dict[frozenset[str], list[float]] = {}
    for row, y in zip(data.rows, data.y, strict=True):
        top1.setdefault(frozenset(row.steps), []).append(float(y))
    changes: dict[str, list[float]] = {}
    orders = [order for design in selection.designs_of(data.runs) for order in design.orders if not design.factors]
    for order in dict.fromkeys(orders):
        states = [frozenset((*data.common, *order[:i])) for i in range(len(order) + 1)]
        if all(state in top1 for state in states):
            means = [float(np.mean(top1[state])) for state in states]
            for name, (before, after) in zip(order, pairwise(means), strict=True):
                changes.setdefault(name, []).append(after - before)
    return [
        Share(name, float(np.mean(c)), float(np.std(c, ddof=1) / math.sqrt(len(c))) if len(c) > 1 else NAN, len(c))
        for name in data.steps
        if (c := changes.get(name))
    ]
