"""Owns designs: which subsets of a ladder's steps a study trains, with which seeds, so that its runs answer for all.

A step, and a recipe value of two levels, is a factor. A design is a list of rows: a subset of the steps, a level for
each of the other factors, a seed. What a subset may hold is said by `requires` in the ladder's file and by
`design.max_macs`. Screening and factorial matrices are pyDOE's.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ladder.errors import UserError, unknown
from ladder.launch import optimal
from ladder.networks.rungs import Ladder
from ladder.runs.config import DesignConfig

Matrix = NDArray[np.float64]
Macs = Callable[[tuple[str, ...]], float]  # of the network with these steps applied
_MEASURED = 1000  # networks whose MACs are counted before the choice, at some 30 ms each
_TRIES = 20_000  # random orders looked at
_MOST = 2**15  # candidates of an optimal design; of more subsets so many are drawn


@dataclass(frozen=True)
class Row:
    """One run: the steps applied, in the ladder's order; a value for each recipe factor; the seed."""

    steps: tuple[str, ...]
    levels: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells two runs apart."""
        return (self.steps, json.dumps(dict(self.levels), sort_keys=True), self.seed)


@dataclass(frozen=True)
class Design:
    """Rows, the factors that they vary, and the interactions that the choice of rows allowed for."""

    kind: str
    ladder: str
    steps: tuple[str, ...]  # that vary, in the ladder's order
    always: tuple[str, ...]
    factors: Mapping[str, Sequence[Any]]  # other factors: the low and the high level
    interactions: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    existing: tuple[Row, ...] = ()  # runs that the study had, which the new rows complete
    orders: tuple[tuple[str, ...], ...] = ()  # of a design of permutations: the order of the steps in each walk

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all factors, the columns of `matrix`."""
        return (*self.steps, *self.factors)

    def matrix(self) -> Matrix:
        """A row a run (those that exist first), a column a factor: +1 applied, or at its high level; else -1."""
        return coded([*self.existing, *self.rows], self.steps, self.factors)

    def model(self) -> tuple[list[str], Matrix]:
        """The names and the columns of all effects: factors, then the interactions, as products."""
        return _model(self.matrix(), self.names, self.interactions)

    def half_widths(self, level: float = 0.95) -> dict[str, float]:
        """Each effect's expected half width, in standard deviations of the noise; nan where it can't be told.

        Effects are differences (applied or not), each interval by itself, seeds as blocks.
        """
        from scipy.special import stdtrit

        names, effects = self.model()
        rows = [*self.existing, *self.rows]
        seeds = sorted({row.seed for row in rows})
        x = np.hstack([effects, np.array([[row.seed == seed for seed in seeds] for row in rows], float)])
        freedom = len(rows) - int(np.linalg.matrix_rank(x))
        inverse = np.linalg.pinv(x.T @ x)
        estimable = np.abs(inverse @ (x.T @ x) - np.eye(x.shape[1])).max(axis=0) < 1e-6
        t = float(stdtrit(freedom, 0.5 + level / 2)) if freedom else math.nan
        return {name: 2 * t * math.sqrt(inverse[i, i]) if estimable[i] else math.nan for i, name in enumerate(names)}

    def aliases(self) -> list[list[str]]:
        """Factors and two-factor interactions whose columns are equal but for the sign: no run tells them apart."""
        matrix = self.matrix()
        columns: dict[tuple[str, ...], Matrix] = {(name,): matrix[:, i] for i, name in enumerate(self.names)}
        columns |= {(a, b): matrix[:, i] * matrix[:, j] for (i, a), (j, b) in combinations(enumerate(self.names), 2)}
        groups: dict[bytes, list[str]] = {}
        for effect, column in columns.items():
            sign = column[0] or 1.0
            groups.setdefault((column * sign).tobytes(), []).append(" x ".join(effect))
        return [group for group in groups.values() if len(group) > 1]

    def to_json(self) -> dict[str, Any]:
        """Plain values, as design.json holds them."""
        widths = {k: None if math.isnan(v) else round(v, 4) for k, v in self.half_widths().items()}
        return {
            **asdict(self),
            "rows": [asdict(row) for row in self.rows],
            "matrix": self.matrix().astype(int).tolist(),
            "columns": list(self.names),
            "half_width_in_std": widths,
            "aliases": self.aliases(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Design:
        """The design that `to_json` wrote. Raises KeyError, TypeError or ValueError where it is not one."""

        def rows(name: str) -> tuple[Row, ...]:
            return tuple(Row(tuple(r["steps"]), dict(r["levels"]), int(r["seed"])) for r in values[name])

        return cls(
            kind=str(values["kind"]),
            ladder=str(values["ladder"]),
            steps=tuple(values["steps"]),
            always=tuple(values["always"]),
            factors=dict(values["factors"]),
            interactions=tuple((str(a), str(b)) for a, b in values["interactions"]),
            rows=rows("rows"),
            existing=rows("existing"),
            orders=tuple(tuple(order) for order in values["orders"]),
        )


def coded(rows: Sequence[Row], steps: Sequence[str], factors: Mapping[str, Sequence[Any]]) -> Matrix:
    """+1 where a step is applied or a factor at its second level, else -1; (rows, steps and factors)."""
    out = [
        [1.0 if step in row.steps else -1.0 for step in steps]
        + [1.0 if row.levels.get(name) == levels[1] else -1.0 for name, levels in factors.items()]
        for row in rows
    ]
    return np.array(out).reshape(len(rows), len(steps) + len(factors))


def _model(matrix: Matrix, names: Sequence[str], interactions: Iterable[tuple[str, str]]) -> tuple[list[str], Matrix]:
    places = {name: i for i, name in enumerate(names)}
    pairs = list(interactions)
    products = [matrix[:, places[a]] * matrix[:, places[b]] for a, b in pairs]
    return [*names, *(f"{a} x {b}" for a, b in pairs)], np.column_stack([matrix, *products])


def identity(ladder: Ladder, config: DesignConfig, seeds: Sequence[int]) -> str:
    """Equal for two requests for the same rows; what design.json calls a design by."""
    what = {"ladder": ladder.name, "steps": [s.name for s in ladder.steps], **asdict(config), "seeds": list(seeds)}
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:8]


def make(
    ladder: Ladder, config: DesignConfig, seeds: Sequence[int], macs: Macs, existing: Sequence[Row] = ()
) -> Design:
    """The design that a config asks for. `seeds`: blocks; an optimal design splits its runs over them, all others are
    repeated for each. `existing`: the runs of the study that `design.augment` completes.

    Raises UserError for what can't be, in words of the config.
    """
    return _Maker(ladder, config, tuple(seeds), macs).make(existing)


class _Maker:
    def __init__(self, ladder: Ladder, config: DesignConfig, seeds: tuple[int, ...], macs: Macs) -> None:
        self.ladder, self.config, self.seeds, self._macs = ladder, config, seeds, macs
        if ladder.kind != "chain":
            raise UserError(f"design={config.kind}: {ladder.name} is a star, each step on the base alone; give a chain")
        order = [step.name for step in ladder.steps]
        self.steps = self._named("steps", config.steps, order) if config.steps is not None else tuple(order)
        self.always = self._named("always", config.always, order)
        self.steps = tuple(step for step in self.steps if step not in self.always)
        self.order = {name: i for i, name in enumerate(order)}
        self.needs = {s.name: s.requires for s in ladder.steps} if config.requires else {}
        if not isinstance(config.factors or {}, dict):
            raise UserError(f"design.factors={config.factors}: must be a mapping, such as {{recipe.mixup: [0, 0.8]}}")
        self.factors = {str(key): _levels(str(key), values) for key, values in (config.factors or {}).items()}
        self.names = (*self.steps, *self.factors)
        self.interactions = self._pairs()
        self.rng = np.random.default_rng(config.seed)
        self.limit = math.inf
        if config.max_macs is not None:
            if not config.max_macs > 0:
                raise UserError(f"design.max_macs={config.max_macs}: must be above 0, times the most expensive rung")
            names = [step.name for step in ladder.steps]
            self.limit = config.max_macs * max(macs(tuple(names[:i])) for i in range(len(names) + 1))

    def make(self, existing: Sequence[Row]) -> Design:
        kind, runs = self.config.kind, self.config.runs
        if runs is not None and (kind in ("chain", "leave_one_out", "factorial") or runs < 1):
            what = "has as many runs as it needs" if runs >= 1 else "must be 1 or more"
            raise UserError(f"design.runs={runs}: design={kind} {what}")
        if runs is None and kind in ("optimal", "permutations"):
            raise UserError(f"design={kind} needs design.runs=N, such as design.runs={3 * (len(self.names) + 1)}")
        if self.config.replicates and kind != "optimal":
            raise UserError(f"design.replicates is for design=optimal; of design={kind} more seeds are replicates")
        orders: tuple[tuple[str, ...], ...] = ()
        if kind == "optimal":
            rows = self._optimal(existing)
        else:
            if existing:
                raise UserError("design.augment is for design=optimal")
            if kind == "permutations":
                orders = self._orders()
                subsets = dict.fromkeys(self._sorted(order[:i]) for order in orders for i in range(len(order) + 1))
                bare = [Row(self._with_always(subset)) for subset in subsets]
                if self.factors:
                    raise UserError("design=permutations orders steps; design.factors is for the other designs")
            else:
                made = {
                    "chain": self._chain, "leave_one_out": self._leave_one_out,
                    "screening": self._screening, "factorial": self._factorial,
                }  # fmt: skip
                if kind not in made:
                    raise unknown("design.kind", kind, [*made, "optimal", "permutations"])
                bare = made[kind]()
            self._check_macs(bare)
            bare = list({row.key: row for row in bare}.values())
            rows = [Row(row.steps, row.levels, seed) for seed in self.seeds for row in bare]
        return Design(
            kind=str(kind),
            ladder=self.ladder.name,
            steps=self.steps,
            always=self.always,
            factors=self.factors,
            interactions=self.interactions,
            rows=tuple(rows),
            existing=tuple(existing),
            orders=orders,
        )

    # --- what may stand together ------------------------------------------------------------------------------------

    def _named(self, key: str, given: Iterable[str], order: Sequence[str]) -> tuple[str, ...]:
        names = list(given)
        for name in names:
            if name not in order:
                raise unknown(f"step in design.{key}", name, order)
        return tuple(name for name in order if name in names)

    def _pairs(self) -> tuple[tuple[str, str], ...]:
        given = self.config.interactions
        if given == "all":
            return tuple(combinations(self.names, 2))
        pairs = []
        for pair in given or []:
            if not isinstance(pair, list | tuple) or len(pair) != 2 or pair[0] == pair[1]:
                raise UserError(f"design.interactions: {pair} must be two factors, [[gelu,layer_norm]], or all")
            for name in pair:
                if name not in self.names:
                    raise unknown("factor in design.interactions", name, self.names)
            pairs.append((str(pair[0]), str(pair[1])))
        return tuple(pairs)

    def _sorted(self, steps: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(steps, key=self.order.__getitem__))

    def _with_always(self, steps: Iterable[str]) -> tuple[str, ...]:
        return self._sorted({*steps, *self.always})

    def _missing(self, steps: Iterable[str]) -> list[tuple[str, str]]:
        """Each step that stands there without one that it requires, and that one."""
        held = set(self._with_always(steps))
        return [(step, need) for step in held for need in self.needs.get(step, ()) if need not in held]

    def _too_dear(self, steps: tuple[str, ...]) -> bool:
        return self.limit < math.inf and self._macs(steps) > self.limit  # measured only where it matters

    def _check_macs(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if self._too_dear(row.steps):
                raise UserError(
                    f"design={self.config.kind}: {'+'.join(row.steps)} has more MACs than design.max_macs allows; raise"
                    " it, or let design=optimal choose"
                )

    # --- the kinds --------------------------------------------------------------------------------------------------

    def _combined(self, subsets: Iterable[Iterable[str]]) -> list[Row]:
        """Rows of these subsets, each with every combination of the other factors' levels."""
        levels = [dict(zip(self.factors, values, strict=True)) for values in product(*self.factors.values())]
        return [Row(self._with_always(subset), each) for subset in subsets for each in levels]

    def _chain(self) -> list[Row]:
        return self._combined(self.steps[:i] for i in range(len(self.steps) + 1))

    def _leave_one_out(self) -> list[Row]:
        """The top without each step, and the base with each alone; with what a step requires, without what needs it."""
        subsets: list[set[str]] = [set(self.steps)]
        for step in self.steps:
            left = {s for s in self.steps if s != step}
            while alone := {s for s, need in self._missing(left)}:
                left -= alone
            subsets.append(left)
        for step in self.steps:
            held = {step}
            while needed := {need for _, need in self._missing(held)}:
                held |= needed
            subsets.append(held)
        return self._combined([*subsets, set()])

    def _screening(self) -> list[Row]:
        """Plackett and Burman (Biometrika 33, 1946), folded over on request."""
        import pydoe

        count = len(self.names)
        least = 4 * (count // 4 + 1)
        runs = self.config.runs or (2 * least if self.config.fold else least)
        size = runs // 2 if self.config.fold else runs
        if size < least or size % 4 or runs != size * (2 if self.config.fold else 1):
            unit = "8" if self.config.fold else "4"
            raise UserError(
                f"design.runs={runs}: screening of {count} factors takes a multiple of {unit}, from"
                f" {2 * least if self.config.fold else least}"
            )
        matrix = pydoe.pbdesign(size - 1)[:, :count]
        if len(matrix) != size:
            raise UserError(f"design.runs={runs}: pyDOE has no Plackett-Burman design of {size} runs")
        return self._from_matrix(pydoe.fold(matrix) if self.config.fold else matrix)

    def _factorial(self) -> list[Row]:
        """A regular fraction of the resolution asked for, as few runs as it takes."""
        import pydoe

        count, resolution = len(self.names), self.config.resolution
        if resolution not in (3, 4, 5):
            raise UserError(f"design.resolution={resolution}: allowed are 3, 4, 5")
        try:
            matrix = pydoe.fracfact_by_res(count, resolution) if count > resolution else pydoe.ff2n(count)
        except ValueError as error:
            raise UserError(f"design.resolution={resolution} for {count} factors: {error}") from None
        return self._from_matrix(matrix)

    def _from_matrix(self, matrix: Matrix) -> list[Row]:
        rows = [self._row(values) for values in matrix]
        broken = [missing for row in rows if (missing := self._missing(row.steps))]
        if broken:
            step, need = broken[0][0]
            raise UserError(
                f"design={self.config.kind}: {len(broken)} of {len(rows)} runs hold a step without one that it requires"
                f" ({step} without {need}); take design=optimal, or design.always=[{need}], or design.requires=false"
            )
        return rows

    def _row(self, values: Iterable[float], seed: int = 0) -> Row:
        on = dict(zip(self.names, (value > 0 for value in values), strict=True))
        levels = {key: levels[int(on[key])] for key, levels in self.factors.items()}
        return Row(self._with_always(step for step in self.steps if on[step]), levels, seed)

    def _orders(self) -> tuple[tuple[str, ...], ...]:
        """Random orders of the steps that keep what they require, as many as `design.runs` pays for."""
        count, runs = len(self.steps), self.config.runs or 0
        if count < 2:
            raise UserError("design=permutations needs two steps or more")
        trained: set[tuple[str, ...]] = set()
        orders: list[tuple[str, ...]] = []
        for _ in range(_TRIES):
            order = [str(step) for step in self.rng.permutation(self.steps)]
            if any(self._missing(order[:i]) for i in range(count + 1)):
                continue  # so that all orders that may be are equally likely
            subsets = {self._sorted(order[:i]) for i in range(count + 1)}
            if any(self._too_dear(self._with_always(subset)) for subset in subsets - trained):
                continue
            if tuple(order) not in orders and len(trained | subsets) <= runs:
                trained |= subsets
                orders.append(tuple(order))
        if not orders:
            raise UserError(
                f"design.runs={runs}: one walk of {count} steps takes {count + 1} runs, within design.max_macs and with"
                " all that its steps require"
            )
        return tuple(orders)

    # --- optimal ----------------------------------------------------------------------------------------------------

    def _optimal(self, existing: Sequence[Row]) -> list[Row]:
        config = self.config
        runs, replicates = config.runs or 0, config.replicates
        if not 0 <= replicates < runs:
            raise UserError(f"design.replicates={replicates}: must be from 0 to below design.runs={runs}")
        known = [Row(row.steps, row.levels, row.seed) for row in existing]
        seeds = sorted({*self.seeds, *(row.seed for row in known)})
        candidates = self._candidates()
        effects = _model(candidates, self.names, self.interactions)
        self._check_told(*effects)
        new = runs - replicates
        if len(known) + new < len(effects[0]) + len(seeds):
            raise UserError(
                f"design.runs={runs}: {len(effects[0])} effects and {len(seeds)} seeds take at least"
                f" {len(effects[0]) + len(seeds)} runs that are no replicates"
            )
        have = _model(coded(known, self.steps, self.factors), self.names, self.interactions)[1]
        blocks = [seeds.index(self.seeds[i % len(self.seeds)]) for i in range(new)]
        allowed = self._affordable(candidates)
        while True:
            choice = optimal.choose(
                np.ascontiguousarray(effects[1][allowed]), blocks, existing=have,
                existing_blocks=[seeds.index(row.seed) for row in known], seed=config.seed,
            )  # fmt: skip
            if choice is None:
                raise UserError(
                    f"design.runs={runs}: no {new} runs of the {int(allowed.sum())} that are allowed tell all effects"
                    " apart; ask for more runs, fewer interactions, or a higher design.max_macs"
                )
            picked = np.flatnonzero(allowed)[list(choice.rows)]
            dear = [i for i in set(picked.tolist()) if self._too_dear(self._row(candidates[i]).steps)]
            if not dear:
                break
            allowed[dear] = False
        rows = [self._row(candidates[i], seeds[b]) for i, b in zip(picked, blocks, strict=True)]
        return rows + self._replicates(rows, known, replicates)

    def _replicates(self, rows: Sequence[Row], known: Sequence[Row], count: int) -> list[Row]:
        """Rows once more under a next seed, spread over the design."""
        taken = {row.key for row in (*rows, *known)}
        out = []
        for place in self.rng.permutation(len(rows))[:count]:
            row = rows[place]
            seed = next(s for s in (*self.seeds, *range(1, 10**6)) if Row(row.steps, row.levels, s).key not in taken)
            out.append(Row(row.steps, row.levels, seed))
            taken.add(out[-1].key)
        if len(out) < count:
            raise UserError(f"design.replicates={count}: there are {len(rows)} runs to repeat")
        return out

    def _candidates(self) -> Matrix:
        """All subsets that keep what steps require, with all levels; a random part of them where they are too many."""
        count = len(self.names)
        if count <= math.log2(_MOST):
            every = np.array(list(product((-1.0, 1.0), repeat=count)))
        else:
            every = np.unique(self.rng.choice([-1.0, 1.0], size=(2 * _MOST, count)), axis=0)
        keep = np.ones(len(every), bool)
        places = {name: i for i, name in enumerate(self.steps)}
        for step, needs in self.needs.items():
            for need in needs:
                applied = every[:, places[step]] > 0 if step in places else np.full(len(every), step in self.always)
                there = every[:, places[need]] > 0 if need in places else np.full(len(every), need in self.always)
                keep &= ~applied | there
        return np.ascontiguousarray(every[keep])

    def _affordable(self, candidates: Matrix) -> NDArray[np.bool_]:
        """Which candidates `max_macs` allows, by those of their steps that change MACs in the walk.

        What is chosen among them is measured in full.
        """
        rows = [self._row(values).steps for values in candidates]
        if self.limit == math.inf:
            return np.ones(len(rows), bool)
        order = [step.name for step in self.ladder.steps]
        walk = [self._macs(tuple(order[:i])) for i in range(len(order) + 1)]
        free = {name for name, before, after in zip(order, walk, walk[1:], strict=False) if before == after}
        reduced = [tuple(step for step in row if step not in free) for row in rows]
        if len(set(reduced)) > _MEASURED:
            return np.ones(len(rows), bool)
        return np.array([self._macs(row) <= self.limit for row in reduced])

    def _check_told(self, names: Sequence[str], effects: Matrix) -> None:
        """Raise UserError for an effect that no choice among all candidates could tell."""
        for name, column in zip(names, effects.T, strict=True):
            if len(np.unique(column)) < 2:
                raise UserError(f"design: {name} has one level left by what steps require; leave it out of the factors")
        x = np.column_stack([np.ones(len(effects)), effects])
        rank = 1
        for i, name in enumerate(names, 2):
            if (now := int(np.linalg.matrix_rank(x[:, :i]))) == rank:
                raise UserError(
                    f"design.interactions: {name} can't be told from the other effects, since one of the two requires"
                    " the other"
                )
            rank = now


def _levels(key: str, values: Any) -> list[Any]:
    if not isinstance(values, list | tuple) or len(values) != 2 or values[0] == values[1]:
        raise UserError(f"design.factors: {key}: {values} must be two levels, such as [0, 0.8]")
    if key.partition(".")[0] not in ("recipe", "data", "spec", "engine"):
        raise UserError(f"design.factors: {key}: must be a key of recipe, data, spec or engine")
    if any(isinstance(value, list | dict) for value in values):
        raise UserError(f"design.factors: {key}: {values} must be numbers, words, booleans or null")
    return list(values)
