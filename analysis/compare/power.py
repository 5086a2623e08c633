"""Owns what a sweep will resolve: the smallest change that shows, and the seeds that a given change takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import nctdtr, stdtrit

from analysis.compare.model import critical
from analysis.compare.stats import LEVEL
from ladder.errors import UserError
from ladder.launch.designs import Design, Row

if TYPE_CHECKING:
    from ladder.networks.rungs import Ladder

POWER = 0.8
MOST = 100_000  # seeds that are searched

# Points between runs of one rung, where no study says better: that of the small ladder on a fifth of CIFAR-10.
ASSUMED_STD = 0.6


@dataclass(frozen=True)
class Spread:
    """The standard deviation of runs of one rung, in points, and where it is from."""

    std: float
    source: str


@dataclass(frozen=True)
class Resolution:
    """What equal numbers of seeds resolve, in points of top-1, at 80 % power; None: one seed has no interval."""

    seeds: int  # of a rung
    changes: int
    each: float | None  # a change looked at by itself
    at_once: float | None  # one of all changes


class Walk:
    """The changes of a sweep, each rung run with the same seeds: `pairs` of rungs (before, after)."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        if not pairs:
            raise UserError("the sweep has no two rungs to compare: nothing to resolve")
        names = list(dict.fromkeys(name for pair in pairs for name in pair))
        weights = np.array([[float(n == after) - float(n == before) for n in names] for before, after in pairs])
        self.rungs, self.changes = len(names), len(pairs)
        self._correlation = weights @ weights.T / 2

    def smallest(self, seeds: int, std: float, kind: str = "all") -> float | None:
        """The change that shows in `POWER` of all studies; None where there are no two seeds to judge it by."""
        freedom = (self.rungs - 1) * (seeds - 1)  # rungs and seeds as in `analysis.compare.model`
        if freedom < 1:
            return None
        factor = float(critical(self._correlation, freedom)[0]) if kind == "all" else float(_t(freedom))
        low, high = 0.0, 4 * factor + 10
        while high - low > 1e-6:
            middle = (low + high) / 2  # of the noncentral t: change over its standard error
            low, high = (low, middle) if 1 - nctdtr(freedom, middle, factor) > POWER else (middle, high)
        return float(high * std * (2 / seeds) ** 0.5)

    def seeds(self, change: float, std: float, kind: str = "all") -> int:
        """The fewest seeds a rung that show a change of `change` points. Raises UserError for none below `MOST`."""

        def shows(seeds: int) -> bool:
            found = self.smallest(seeds, std, kind)
            return found is not None and found <= change

        high = 2
        while not shows(high):
            high *= 2
            if high > MOST:
                raise UserError(f"a change of {change:g} points takes more than {MOST:,} seeds at a spread of {std:g}")
        low = high // 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if shows(middle) else (middle, high)
        return high

    def resolution(self, seeds: int, std: float) -> Resolution:
        """What `seeds` a rung resolve."""
        return Resolution(seeds, self.changes, self.smallest(seeds, std, "each"), self.smallest(seeds, std, "all"))


def walk(ladder: Ladder, rungs: Mapping[str, int]) -> Walk:
    """The changes that a table of `rungs` of a ladder shows, each to the nearest one before it."""
    parents = {rung.name: rung.parent for rung in (*ladder.rungs, *ladder.side_rungs)}
    pairs = []
    for rung in (name for name in parents if name in rungs):
        before = parents[rung]
        while before is not None and before not in rungs:
            before = parents.get(before)
        if before is not None:
            pairs.append((before, rung))
    return Walk(pairs)


def published_stds() -> list[float]:
    """The standard deviations over seeds that the ConvNeXt paper prints for its rungs (Table 10), in points."""
    from ladder.networks.rungs import load_ladder

    ladder = load_ladder("convnext_t")
    return [r.paper.std for r in (*ladder.rungs, *ladder.side_rungs) if r.paper.std is not None]


def spread(studies: Sequence[str], data: str) -> Spread:
    """The spread to expect: of done studies, else assumed: on ImageNet the paper's, else that of a small study."""
    from analysis.compare.summary import summarise
    from analysis.read.load import load

    measured, total, freedom = [], 0.0, 0.0
    for study in studies:
        try:
            tables = summarise(load(study, on_skip=lambda line: None))
        except UserError:
            continue  # no runs that make a table: it may tell speeds all the same
        for table in tables:
            if table.fit is not None and table.fit.freedom >= 1:
                total += table.fit.freedom * table.fit.std**2
                freedom += table.fit.freedom
                measured.append(study)
    if freedom:
        names = ", ".join(dict.fromkeys(measured))
        return Spread((total / freedom) ** 0.5, f"of {names}, {freedom:.0f} degrees of freedom")
    papers = published_stds()
    example = f"the paper's rungs have ±{min(papers):.2f} to ±{max(papers):.2f} on ImageNet"
    if data == "imagenet":
        return Spread(float(np.mean(np.square(papers)) ** 0.5), f"ASSUMED: {example}")
    return Spread(
        ASSUMED_STD, f"ASSUMED, as a small network on a fifth of CIFAR-10 has; {example}; --study tells yours"
    )


def _t(freedom: float) -> float:
    return float(stdtrit(freedom, 0.5 + LEVEL / 2))


@dataclass(frozen=True)
class Widths:
    """Expected half widths of steps' effects by runs of subsets, in points, each by itself, if steps add up."""

    steps: int
    mean: float
    least: float
    most: float
    walks: tuple[tuple[str, int, float], ...]  # a walk at the same price (runs, MACs): its seeds, its half width


def widths(rows: Sequence[Row], ladder: Ladder, std: float, macs: Callable[[tuple[str, ...]], float]) -> Widths | None:
    """What runs of subsets of a ladder's steps are expected to tell; None where some effect can't be told.

    `rows`: the runs; `std`: the spread of runs of one network, in points; `macs`: of the network with some steps.
    """
    order = [step.name for step in (*ladder.steps, *ladder.side)]
    always = set.intersection(*(set(row.steps) for row in rows))
    steps = tuple(name for name in order if any(name in row.steps for row in rows) and name not in always)
    if not steps:
        return None
    half = Design("", ladder.name, steps, (), {}, (), tuple(rows)).half_widths()
    found = [std * half[step] for step in steps]
    if any(math.isnan(value) for value in found):
        return None
    main = [step.name for step in ladder.steps]
    walk = sum(macs(tuple(main[:i])) for i in range(len(main) + 1))
    same = {"as many runs": len(rows) // (len(main) + 1), "as many MACs": int(sum(macs(r.steps) for r in rows) / walk)}
    walks = [
        (price, seeds, std * float(stdtrit(len(main) * (seeds - 1), 0.5 + LEVEL / 2)) * math.sqrt(2 / seeds))
        for price, seeds in same.items()
        if seeds > 1 and ladder.kind == "chain"
    ]
    return Widths(len(steps), sum(found) / len(found), min(found), max(found), tuple(walks))
