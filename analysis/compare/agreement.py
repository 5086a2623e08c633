"""Owns how the gains of the same steps agree on two sides: walks, stars, designs, published numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.compare.effect_answer import Answer
from analysis.compare.summary import neighbours
from ladder.errors import UserError

if TYPE_CHECKING:
    from analysis.compare.model import Fit
    from analysis.compare.stats import Change
    from analysis.compare.summary import Table

DRAWS = 2000
KINDS = {  # of a side's gains
    "chain": "from the rung before",
    "star": "from the base",
    "design": "averaged over contexts",
}
_BASE = ""  # no rung is called so


@dataclass(frozen=True)
class Step:
    """One step on both sides: its gain of top-1 in points."""

    rung: str
    title: str
    kind: str  # main | side
    ours: Change
    theirs: Change


@dataclass(frozen=True)
class Agreement:
    """How the gains of two sides agree. `tau` None: fewer than three main steps in common."""

    title: str
    sides: tuple[str, str]
    steps: tuple[Step, ...]
    tau: float | None
    low: float | None  # 95% interval over seed noise; None where a side gives no std
    high: float | None
    p: float | None  # two-sided, of no association
    kinds: tuple[str, str]  # of the two sides, as in KINDS
    interval: str = "all"  # all: the intervals of a side hold at once; each: one by one
    doubts: tuple[str, ...] = ()  # of effects: steps that do not add up, runs that collapsed


@dataclass(frozen=True)
class _Side:
    """What one side says of each step, and how to draw it again."""

    kind: str
    gains: dict[str, Change]
    steps: dict[str, tuple[str, str]]  # title, main | side; in order
    fit: Fit | None
    weights: dict[str, NDArray[np.float64]]  # each gain as a contrast of the fit, (effects,)

    def drawn(self, steps: Sequence[str], seed: int) -> NDArray[np.float64] | None:
        """Gains with other seeds, (DRAWS, steps); None where their noise is not known."""
        return None if self.fit is None else self.fit.draws(np.array([self.weights[s] for s in steps]), DRAWS, seed)


def compare(ours: Table | Answer, theirs: Table | Answer, sides: tuple[str, str]) -> Agreement:
    """The steps that both sides have: a table's changes, or an answer's effects.

    Two walks compare each step to the nearest one before it that both have. Raises UserError for fewer than two steps.
    """
    here, there = _sides(ours, theirs)
    steps = [
        Step(name, title, kind, here.gains[name], there.gains[name])
        for name, (title, kind) in here.steps.items()
        if name in here.gains and name in there.gains
    ]
    if len(steps) < 2:
        raise UserError(f"{sides[0]} and {sides[1]} have {len(steps)} finished steps in common: at least 2 are needed")
    main = [step for step in steps if step.kind == "main"]
    tau = low = high = p = None
    if len(main) > 2:
        from scipy.stats import kendalltau

        found = kendalltau([step.ours.delta for step in main], [step.theirs.delta for step in main])
        if not math.isnan(found.statistic):  # all gains equal on a side: no order
            tau, p = float(found.statistic), float(found.pvalue)
            low, high = _interval(*(side.drawn([s.rung for s in main], n) for n, side in enumerate((here, there))))
    title = f"{ours.cases.ladder.title if isinstance(ours, Answer) else ours.title}: {sides[0]} beside {sides[1]}"
    both = zip(sides, (ours, theirs), strict=True)
    doubts = tuple(f"{name}: {doubt}" for name, side in both for doubt in _doubts(side))
    kinds = (here.kind, there.kind)
    return Agreement(title, sides, tuple(steps), tau, low, high, p, kinds, ours.interval, doubts)


def _doubts(side: Table | Answer) -> list[str]:
    doubts = []
    if isinstance(side, Answer) and side.judgement.adds_up is False:
        doubts.append("STEPS DO NOT ADD UP, ladder effects tells on what they depend")
    if isinstance(side, Answer) and (fallen := side.collapsed):
        kept = "left out" if side.left_out else f"ladder effects names {'it' if len(fallen) == 1 else 'them'}"
        doubts.append(f"{len(fallen)} COLLAPSED, {kept}")
    return doubts


def _sides(*sources: Table | Answer) -> list[_Side]:
    common = iter(_common([source for source in sources if not isinstance(source, Answer)]))
    return [_of_effects(s) if isinstance(s, Answer) else _of_table(s, next(common)) for s in sources]


def _of_effects(answer: Answer) -> _Side:
    cases, fit = answer.cases, answer.fit.fit
    side = {step.name for step in cases.ladder.side}
    steps = {name: (cases.title_of(name), "side" if name in side else "main") for name in cases.steps}
    gains = {name: answer.changes[name] for name in steps if not math.isnan(answer.changes[name].delta)}
    return _Side("design", gains, steps, fit, {name: np.eye(len(fit.names))[fit.names.index(name)] for name in gains})


def _of_table(table: Table, rungs: set[str]) -> _Side:
    """The change of each rung to the nearest of `rungs` before it; the intervals of a side hold at once."""
    fit = table.fit if table.has_runs else table.paper_fit
    steps = {row.rung: (row.title, row.kind) for row in table.rows}
    known = set() if fit is None else set(fit.names)
    pairs = {rung: before for rung, before in neighbours(table.rows, rungs).items() if {rung, before} <= known}
    if fit is None or not pairs:
        return _Side(table.kind, {}, steps, fit, {})
    weights = fit.differences([(before, rung) for rung, before in pairs.items()])
    gains = fit.contrasts(weights, kind=table.interval)
    return _Side(table.kind, dict(zip(pairs, gains, strict=True)), steps, fit, dict(zip(pairs, weights, strict=True)))


def _common(tables: Sequence[Table]) -> list[set[str]]:
    """The rungs of each table that all have a top-1 of, of runs or of published numbers; bases by place, not name."""
    known = []
    for table in tables:
        rows = [row for row in table.rows if row.kind in ("main", "side")]
        known.append(
            {
                _BASE if row.index == 0 else row.rung: row.rung
                for row in rows
                if (row.top1 if table.has_runs else row.paper and row.paper.top1 is not None)
            }
        )
    if len({table.kind for table in tables}) > 1:  # changes of two kinds: each side its own
        return [set(names.values()) for names in known]
    common = set(known[0]).intersection(*known) if known else set()
    return [{names[name] for name in common} for names in known]


def _interval(
    ours: NDArray[np.float64] | None, theirs: NDArray[np.float64] | None
) -> tuple[float, float] | tuple[None, None]:
    if ours is None or theirs is None:
        return None, None
    from scipy.stats import kendalltau

    taus = [kendalltau(a, b).statistic for a, b in zip(ours, theirs, strict=True)]
    low, high = np.nanquantile(taus, [0.025, 0.975])
    return float(low), float(high)
