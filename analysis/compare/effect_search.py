"""Owns two searches on a model of effects: the interactions that runs show, and the subsets expected to be best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from analysis.compare.cases import Cases
from analysis.compare.contexts import Pair
from analysis.compare.effects import Model, model
from analysis.compare.stats import LEVEL, NAN, Change
from ladder.errors import UserError

Array = NDArray[np.float64]

CHANCE = 0.05  # of a wrong interaction in a study without any
_TOLD = 1e-6  # part of a column that the model does not explain, below which no run tells it apart
_CANDIDATES = 2**16  # subsets that are foretold; of more, so many are drawn
_MEASURED = 200  # networks whose MACs are counted, at some 30 ms each


@dataclass(frozen=True)
class Interaction:
    """What one step makes of another one's effect, in the unit of the response: with it, less without it."""

    pair: Pair
    change: Change  # its interval by itself; added alone to the model, or with those found
    p: float  # of so large a one among random ones, by itself; of those found, of none
    found: bool  # among those that the search took into the model


def search(data: Cases, equal_macs: bool = False) -> tuple[tuple[Pair, ...], list[Interaction]]:
    """The interactions that the runs show, and what is known of every pair that can be told apart.

    Forward selection beside random effects of all other pairs: the pair least likely to be one of them joins the fixed
    effects while its p value, times the number of pairs, is below `CHANCE` (Bonferroni). So an interaction is found
    where it is clear of noise and larger than the others are. Main effects stay in the model (heredity: Chipman 1996).
    No more join than leave four degrees of freedom.
    """
    pairs: list[Pair] = []
    every = data.pairs
    while True:
        fitted = model(data, pairs, equal_macs, random=True)
        tried = _each(fitted, [pair for pair in every if pair not in pairs])
        best = min(tried, key=lambda one: one.p, default=None)
        if best is None or fitted.freedom < 5 or not best.p * len(tried) < CHANCE:
            break
        pairs.append(best.pair)
    inside = _inside(fitted)
    return tuple(pairs), sorted([*inside, *tried], key=lambda one: every.index(one.pair))


def _each(fitted: Model, pairs: Sequence[Pair]) -> list[Interaction]:
    """Each pair added alone to a model, as one more fixed effect."""
    data, freedom = fitted.cases, fitted.freedom - 1
    out = []
    solve = np.linalg.pinv(fitted.x, rcond=1e-10)
    squares, rounding = fitted.squares, 1e-18 * float(data.y @ data.y)
    for a, b in pairs:
        column = data.products(data.applied, [(a, b)])[:, 0]
        alone = column - fitted.x @ (solve @ column)
        if alone @ alone <= _TOLD * float(column @ column) or freedom < 0.5:
            continue
        rest = fitted.precision @ column
        size = float(column @ rest)
        effect = float(rest @ data.y) / size
        variance = max(squares - effect**2 * size, 0.0) / freedom
        among = math.sqrt(variance / size)
        p = 2 * float(stdtr(freedom, -abs(effect) / among)) if among else 0.0
        if effect**2 * size <= rounding:
            p = 1.0
        own = fitted.mixed.ratio if (a, b) in fitted.others else 0.0  # as a fixed effect it is no random one
        half = float(stdtrit(freedom, 0.5 + LEVEL / 2)) * math.sqrt(variance * max(1 / size - own, 0.0))
        out.append(Interaction((a, b), Change(2 * effect, 2 * half, "pooled"), p, False))
    return out


def _inside(fitted: Model) -> list[Interaction]:
    weights = np.array([[float(n == " x ".join(pair)) for n in fitted.names] for pair in fitted.pairs])
    changes = fitted.fit.contrasts(weights.reshape(-1, len(fitted.names)), kind="each") if fitted.pairs else []
    factor = float(stdtrit(fitted.freedom, 0.5 + LEVEL / 2)) if fitted.freedom >= 1 else NAN
    out = []
    for pair, c in zip(fitted.pairs, changes, strict=True):
        p = 2 * float(stdtr(fitted.freedom, -abs(c.delta) * factor / c.half)) if c.half else 0.0
        out.append(Interaction(pair, Change(2 * c.delta, 2 * c.half, c.method), p, True))
    return out


@dataclass(frozen=True)
class Foretold:
    """A subset of steps, and what one run of it is expected to reach."""

    steps: tuple[str, ...]
    levels: dict[str, object]
    top1: Change  # `delta` the response, `half` of a prediction interval of one run
    macs: float
    images_per_s: float  # nan where not known
    tried: bool  # the study has a run of it


def best(
    fitted: Model,
    macs: Callable[[tuple[str, ...]], float],
    *,
    most_macs: float | None = None,
    least_speed: float | None = None,
    count: int = 5,
) -> list[Foretold]:
    """The subsets that the model expects to be best within a budget, best first.

    Steps that every run has stay; what steps require is kept. `macs` counts those of a network by its steps.

    Raises:
        UserError: effects that the runs do not tell; no subset within the budget.
    """
    data = fitted.cases
    if fitted.fit.null is not None or fitted.freedom < 1:
        raise UserError("--best needs runs that tell every step's effect: fewer steps, or a study of more runs")
    if fitted.equal_macs:
        raise UserError("--best and --at-equal-macs exclude each other: a budget is given by --max-macs")
    candidates = np.array([[float(name in chosen) for name in data.names] for chosen in _candidates(data)])
    if not len(candidates):
        raise UserError("no subset of the steps keeps what they require")
    values, error = fitted.foretell(candidates)
    factor = float(stdtrit(fitted.freedom, 0.5 + LEVEL / 2))
    speed = _speeds(data, candidates)
    known = {_network(data, row.steps, row.levels) for row in data.rows}
    seen: set[str] = set()
    out: list[Foretold] = []
    measured = 0
    for place in np.argsort(-values, kind="stable"):
        if least_speed is not None and not speed[place] >= least_speed:
            continue
        chosen = [name for name, on in zip(data.names, candidates[place], strict=True) if on]
        order = [step.name for step in (*data.ladder.steps, *data.ladder.side)]
        steps = tuple(name for name in order if name in chosen or name in data.common)
        levels = {key: levels[key in chosen] for key, levels in data.factors.items()}
        if measured == _MEASURED:
            break
        if (network := _network(data, steps, levels)) in seen:
            continue
        seen.add(network)
        cost, measured = macs(steps), measured + 1
        if most_macs is not None and cost > most_macs:
            continue
        top1 = Change(float(values[place]), float(factor * error[place]), "pooled")
        out.append(Foretold(steps, dict(levels), top1, cost, float(speed[place]), network in known))
        if len(out) == count:
            break
    if not out:
        raise UserError("no subset of the steps is within the budget: raise --max-macs, or lower --min-speed")
    return out


def _network(data: Cases, steps: Sequence[str], levels: Mapping[str, object]) -> str:
    """Equal for subsets of one network, as where a step sets anew all that another one sets."""
    rung = data.ladder.subset(steps)
    return f"{rung.spec} {rung.recipe} {sorted(levels.items())}"


def _candidates(data: Cases) -> list[frozenset[str]]:
    """Subsets of the factors that keep what steps require: one side step at most, no alternatives.

    All of them; of many factors some that are drawn, and those that the study has.
    """
    needs = {step.name: {*step.requires} - {*data.common} for step in (*data.ladder.steps, *data.ladder.side)}
    sides = {step.name for step in data.ladder.side}
    apart = {name: sides - {name} if name in sides else set() for name in data.names}
    for a, b in data.contexts.alternatives:
        apart[a].add(b)
        apart[b].add(a)
    random = np.random.default_rng(0)

    def drawn() -> frozenset[str]:
        chosen: set[str] = set()
        for name in random.permutation(data.names):
            if random.random() < 0.5 and chosen.isdisjoint(apart[name]):
                chosen.add(str(name))
        return frozenset(chosen)

    if 2 ** len(data.names) <= _CANDIDATES:
        every = [frozenset(c) for n in range(len(data.names) + 1) for c in combinations(data.names, n)]
    else:
        every = [drawn() for _ in range(_CANDIDATES)]
        every += [frozenset(n for n, on in zip(data.names, row, strict=True) if on) for row in data.applied]
    return [
        chosen
        for chosen in dict.fromkeys(every)
        if all(chosen.isdisjoint(apart[name]) and needs.get(name, set()) <= chosen for name in chosen)
    ]


def _speeds(data: Cases, candidates: Array) -> Array:
    """Images/s that the runs' own speeds foretell; nan where they are of several machines."""
    if data.runs["device"].nunique() != 1 or data.runs["images_per_s"].isna().any():
        return np.full(len(candidates), np.nan)
    x = np.column_stack([np.ones(len(data.rows)), data.applied])
    found = np.linalg.pinv(x, rcond=1e-10) @ np.log(data.runs["images_per_s"].to_numpy(float))
    return np.asarray(np.exp(np.column_stack([np.ones(len(candidates)), candidates]) @ found))
