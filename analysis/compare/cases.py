"""Owns the finished runs of a study as rows of a design: which steps vary, and which runs did not learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.compare import selection
from analysis.compare.contexts import Contexts, Network, Pair
from analysis.compare.overrides import value
from analysis.read.configs import read_config, show
from ladder.errors import UserError
from ladder.launch.design_file import steps_applied
from ladder.launch.designs import Row, coded
from ladder.networks.rungs import Ladder

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

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
    known: frozenset[Network] = frozenset()  # of the whole study, where these are a part of its runs

    @property
    def names(self) -> tuple[str, ...]:
        """All that was varied: steps, then other factors."""
        return (*self.steps, *self.factors)

    @cached_property
    def contexts(self) -> Contexts:
        """What effects are averaged over."""
        return Contexts(self.ladder, self.steps, self.known or frozenset(frozenset(row.steps) for row in self.rows))

    @property
    def pairs(self) -> list[Pair]:
        """All pairs of steps and factors that can interact."""
        return [pair for pair in combinations(self.names, 2) if pair not in self.contexts.bound]

    @cached_property
    def applied(self) -> Array:
        """1 where a factor is applied or at its high level, else 0: (runs, factors)."""
        return (coded(self.rows, self.steps, self.factors) + 1) / 2

    def products(self, applied: Array, pairs: Sequence[Pair], given: Pair | None = None) -> Array:
        """The columns of interactions, for networks as in `applied`: (networks, pairs).

        Twice a product of both steps, so that a coefficient is half of a difference of differences. Each is less its
        share in the contexts of the other, so that a step's own column is what it is worth on average over its
        contexts; with `given`, a step and another one, over those that have the other and those that lack it.
        """
        places = {name: place for place, name in enumerate(self.names)}

        def less(name: str, of: str) -> Array:
            share: Array | float = self.contexts.share(name, of)
            if given is not None and of == given[0] and name != given[1]:
                shares = [self.contexts.share(name, of, (given[1], on)) for on in (False, True)]
                share = np.where(applied[:, places[given[1]]] > 0, shares[1], shares[0])
            return np.asarray(applied[:, places[name]] - share)

        columns = [2 * less(a, b) * less(b, a) for a, b in pairs]
        return np.column_stack(columns) if columns else np.zeros((len(applied), 0))

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
        rows = tuple(r for r, k in zip(self.rows, kept, strict=True) if k)
        return replace(self, runs=self.runs[kept], rows=rows, known=self.contexts.networks)

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


def cases_of(runs: pd.DataFrame, where: Mapping[str, str], response: str = "points") -> Cases:
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


def collapsed(data: Cases) -> NDArray[np.bool_]:
    """Which of eight runs or more are `FAR` interquartile ranges below the first quartile of log odds."""
    low, high = np.quantile(data.log_odds, [0.25, 0.75])
    return np.asarray((data.log_odds < low - FAR * (high - low)) & (len(data.rows) >= 8))
