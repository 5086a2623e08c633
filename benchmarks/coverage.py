"""Owns the measurement of intervals: how often they hold the truth, in simulated studies whose truth is known.

    python benchmarks/coverage.py                 # 2,000 studies of 13 rungs x 3 seeds of each kind
    python benchmarks/coverage.py --only missing  # one kind
    python benchmarks/coverage.py --format md     # as a table of docs/statistics.md
    python -m benchmarks.coverage --study runs/published/cifar10 --format md    # a real study by each kind of interval

Each study draws changes, an effect of each seed, and noise; then the changes' intervals are asked for, one by one and
all at once. Printed for each kind: how often single intervals hold the true change (over all changes, and of the
change that fares worst), how often all intervals of a study hold at once, mean half widths, and the same of the
interval that stands on two rungs alone (paired t, or Welch's).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.compare.model import fit

RUNGS, SEEDS = 13, 3
COLLAPSED = 6  # the rung that collapses
Draw = Callable[[np.random.Generator], Mapping[str, Mapping[int, float]]]


@dataclass(frozen=True)
class Result:
    """Coverage and mean half widths over the studies of one kind; `pair` of two rungs alone."""

    single: float
    worst: float
    whole: float
    width: float
    width_whole: float
    pair: float
    pair_whole: float
    pair_width: float


def _study(
    random: np.random.Generator,
    noise: Callable[[tuple[int, int]], np.ndarray],
    seeds: Mapping[int, int] | None = None,
    missing: float = 0.0,
    collapsed: float = 1.0,
    seed_effect: float = 0.5,
) -> Mapping[str, Mapping[int, float]]:
    """Top-1 less the true one, by rung and seed: what is left is error. Noise has a spread of 1 before it is scaled."""
    most = max((seeds or {}).values(), default=SEEDS)
    errors = noise((RUNGS, most))
    errors[COLLAPSED] *= collapsed
    errors += seed_effect * random.normal(size=most)
    kept = random.random((RUNGS, most)) >= missing
    count = [(seeds or {}).get(rung, SEEDS) for rung in range(RUNGS)]
    return {
        str(rung): {s: float(errors[rung, s]) for s in range(count[rung]) if kept[rung, s]} for rung in range(RUNGS)
    }


def _kinds() -> dict[str, tuple[str, Draw]]:
    def normal(random: np.random.Generator) -> Callable[[tuple[int, int]], np.ndarray]:
        return lambda shape: random.normal(size=shape)

    def heavy(random: np.random.Generator, freedom: int = 5) -> Callable[[tuple[int, int]], np.ndarray]:
        return lambda shape: random.standard_t(freedom, size=shape) / (freedom / (freedom - 2)) ** 0.5

    uneven = {0: 8, 3: 2, 5: 5, 8: 2, 12: 4}
    begun = {rung: 3 if rung == 0 else 2 for rung in range(RUNGS)}
    return {
        "normal": ("normal noise", lambda r: _study(r, normal(r))),
        "seeds": ("seeds that matter as much as noise", lambda r: _study(r, normal(r), seed_effect=1.0)),
        "heavy": ("heavy tails (t of 5 degrees)", lambda r: _study(r, heavy(r))),
        "heavier": ("heavier tails (t of 3 degrees)", lambda r: _study(r, heavy(r, 3))),
        "missing": ("a fifth of the runs missing", lambda r: _study(r, normal(r), missing=0.2)),
        "collapsed": ("one rung spread 30 times as wide", lambda r: _study(r, normal(r), collapsed=30.0)),
        "wide": ("one rung spread 10 times as wide", lambda r: _study(r, normal(r), collapsed=10.0)),
        "wider": ("one rung spread 3 times as wide", lambda r: _study(r, normal(r), collapsed=3.0)),
        "unequal": ("2 to 8 seeds a rung", lambda r: _study(r, normal(r), seeds=uneven)),
        "begun": ("two seeds, and a third of one rung", lambda r: _study(r, normal(r), seeds=begun)),
        "all": (
            "heavy tails, missing, collapsed, unequal",
            lambda r: _study(r, heavy(r), seeds=uneven, missing=0.1, collapsed=30.0),
        ),
    }


def simulate(draw: Draw, studies: int) -> Result:
    """Coverage over `studies` studies; a change without an interval, or of a rung without runs, does not count."""
    random = np.random.default_rng(2022)
    pairs = [(str(i), str(i + 1)) for i in range(RUNGS - 1)]
    held: dict[str, list[list[float]]] = {"each": [], "all": [], "pair": []}
    widths: dict[str, list[list[float]]] = {"each": [], "all": [], "pair": []}
    for _ in range(studies):
        values = draw(random)
        whole = fit(values)
        found = {kind: whole.changes(pairs, kind=kind) for kind in ("each", "all")}
        found["pair"] = [fit({a: values[a], b: values[b]}).changes([(a, b)])[0] for a, b in pairs]
        for kind, changes in found.items():
            known = [(c.delta, c.half) if c is not None else (np.nan, np.nan) for c in changes]
            held[kind].append([abs(d) <= h if h == h else np.nan for d, h in known])
            widths[kind].append([h for _, h in known])
    each, every, pair = (np.array(held[kind], float) for kind in ("each", "all", "pair"))
    return Result(
        single=float(np.nanmean(each)),
        worst=float(np.nanmean(each, axis=0).min()),
        whole=float(np.nanmin(every, axis=1).mean()),
        width=float(np.nanmean(widths["each"])),
        width_whole=float(np.nanmean(widths["all"])),
        pair=float(np.nanmean(pair)),
        pair_whole=float(np.nanmin(pair, axis=1).mean()),
        pair_width=float(np.nanmean(widths["pair"])),
    )


def of_study(folder: str) -> list[list[str]]:
    """The changes of a study with the interval of two rungs alone, of each by the model, and of all at once.

    A star marks an interval that leaves 0 out. The last lines: mean half width, and verdicts unlike the first kind's.
    """
    from analysis.compare.summary import summarise
    from analysis.read.load import load

    (table,) = summarise(load(folder))
    assert table.fit is not None
    rows = [row for row in table.rows if row.change is not None and row.against is not None]
    pairs = [(str(row.against), row.rung) for row in rows]
    values = {row.rung: row.values for row in table.rows}
    kinds = [
        [fit({a: values[a], b: values[b]}, table.fit.floor).changes([(a, b)])[0] for a, b in pairs],
        table.fit.changes(pairs, kind="each"),
        table.fit.changes(pairs, kind="all"),
    ]
    found = [[change for change in changes if change is not None] for changes in kinds]
    out = [["step", "change", "two rungs alone", "each, by the model", "all at once, by the model"]]
    for row, *changes in zip(rows, *found, strict=True):
        cells = [f"±{c.half:.2f}" + ("" if c.within_noise else " *") for c in changes]
        out.append([row.title, f"{changes[0].delta:+.2f}", *cells])
    means = [f"±{np.mean([c.half for c in changes]):.2f}" for changes in found]
    clear = [sum(c.within_noise is False for c in changes) for changes in found]
    other = [sum(a.within_noise != b.within_noise for a, b in zip(found[0], c, strict=True)) for c in found]
    out.append(["mean half width", "", *means])
    out.append(["clear of 0", "", *(f"{n} of {len(rows)}" for n in clear)])
    out.append(["verdicts unlike those of two rungs alone", "", *("-" if not n else str(n) for n in other)])
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--only", choices=sorted(_kinds()))
    parser.add_argument("--format", choices=("text", "md"), default="text")
    parser.add_argument("--study", metavar="FOLDER", help="no simulation: the intervals of this study")
    args = parser.parse_args(argv)
    if args.study:
        rows = of_study(args.study)
        if args.format == "md":
            rows.insert(1, ["---", *["---:"] * (len(rows[0]) - 1)])
        print("\n".join(f"| {' | '.join(row)} |" for row in rows))
        return
    head = ["studies", "single", "worst", "whole studies", "±", "± all", "two rungs: single", "whole studies", "±"]
    rows = [head]
    for name, (words, draw) in _kinds().items():
        if args.only in (None, name):
            r = simulate(draw, args.studies)
            shares = [f"{100 * v:.1f} %" for v in (r.single, r.worst, r.whole)]
            theirs = [f"{100 * v:.1f} %" for v in (r.pair, r.pair_whole)]
            rows.append([words, *shares, f"{r.width:.2f}", f"{r.width_whole:.2f}", *theirs, f"{r.pair_width:.2f}"])
            if args.format == "text":
                print(
                    f"{name}: {'; '.join(f'{h} {c}' for h, c in zip(head[1:], rows[-1][1:], strict=True))}", flush=True
                )
    if args.format == "md":
        rows.insert(1, ["---", *["---:"] * (len(head) - 1)])
        print("\n".join(f"| {' | '.join(row)} |" for row in rows))


if __name__ == "__main__":
    main()
