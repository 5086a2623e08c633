"""Owns what else a study says of its steps: the walk's changes, what they cost, and Shapley values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from analysis.compare import selection
from analysis.compare.cases import Cases
from analysis.compare.model import fit
from analysis.compare.stats import NAN, Change


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
    x = np.column_stack([np.ones(len(data.rows)), data.applied])
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
