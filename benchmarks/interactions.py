"""Owns the simulation of interactions whose truth is known: which are found, and whether what is said of them holds.

    python -m benchmarks.interactions                 # 200 studies of each row
    python -m benchmarks.interactions --format md     # the table of docs/designs.md

A study trains 48 networks of `convnext_mini`'s steps by an optimal design, eight of them twice. Top-1 is 60, plus an
effect of each step (standard deviation 1.5 points), of each seed (0.5) and noise (0.6), all as in `benchmarks.designs`.
One pair of steps, another one in each study, has an interaction of the size in the first column. All others have none,
or, in the lower half, one each of standard deviation 0.6. `ladder effects` searches them as it does in a real study.

Printed: how often the pair is found; how large its interaction looks then, as a multiple of the truth; how many other
pairs join the fit; and in how many studies with any, the intervals of all effects "without" and "with" hold the truth.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from analysis.compare.cases import Cases
from analysis.compare.contexts import Pair
from analysis.compare.effect_answer import fit_effects
from benchmarks.designs import EFFECT, LADDER, NOISE, PAIR, SEED, STEPS, cases_of, no_macs
from ladder.errors import run_cli
from ladder.launch import designs
from ladder.launch.designs import Row
from ladder.runs.config import DesignConfig

SIZES = (0.0, 2.0, 3.0, 6.0)
HEADS = ("others", "interaction", "found %", "looks", "other pairs", "all held %")


def simulate(rows: Sequence[Row], size: float, others: float, studies: int) -> list[str]:
    """One row of the table."""
    known = cases_of(rows, np.zeros(len(rows)))
    applied, names = known.applied, known.pairs
    columns = known.products(applied, names)
    told = [place for place, column in enumerate(columns.T) if _told(applied, column)]
    random = np.random.default_rng([round(10 * size), round(10 * others)])
    blocks = np.array([row.seed for row in rows])
    found, looks, more, held = 0, [], 0, []
    for _ in range(studies):
        single = EFFECT * random.normal(size=len(STEPS))
        pairs = others * random.normal(size=len(names)) / 2
        place = random.choice(told)
        pairs[place] = size / 2
        y = 60 + applied @ single + columns @ pairs + SEED * random.normal(size=3)[blocks]
        data = cases_of(rows, y + NOISE * random.normal(size=len(rows)))
        fitted, _, tried = fit_effects(data, interactions=True)
        chosen = fitted.pairs
        if names[place] in chosen:
            found += 1
            looks += [one.change.delta / size for one in tried if one.pair == names[place] and size]
        more += len(set(chosen) - {names[place]})
        truth = dict(zip(STEPS, single, strict=True))
        extra = dict(zip(names, pairs, strict=True))
        given = fitted.given(len(tried))
        if given:
            held.append(
                all(
                    abs(change.delta - truth[one.step] - _pulled(known, extra, one.step, one.other, on)) <= change.half
                    for one in given
                    for on, change in ((False, one.without), (True, one.with_it))
                )
            )
    ratio = f"x {np.mean(looks):.2f}" if looks else "-"
    sure = f"{100 * np.mean(held):.0f}" if held else "-"
    return [f"{others:g}", f"{size:g}", f"{100 * found / studies:.0f}", ratio, f"{more / studies:.2f}", sure]


def _pulled(known: Cases, pairs: dict[Pair, float], step: str, other: str, on: bool) -> float:
    """What interactions make of a step's effect where networks have another one, or lack it."""
    total, share = 0.0, known.contexts.share
    for pair, pull in pairs.items():
        if step in pair:
            (third,) = {*pair} - {step}
            there = float(on) if third == other else share(third, step, (other, on))
            total += 2 * pull * (there - share(third, step))
    return total


def _told(applied: np.ndarray, column: np.ndarray) -> bool:
    """Whether the runs tell an interaction apart from the steps' effects."""
    x = np.column_stack([np.ones(len(applied)), applied])
    return float(np.abs(column - x @ np.linalg.lstsq(x, column, rcond=None)[0]).max()) > 1e-6


def main(argv: Sequence[str] | None = None) -> None:
    """Run the simulation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--format", choices=("text", "md"), default="text")
    args = parser.parse_args(argv)
    rows = designs.make(LADDER, DesignConfig(kind="optimal", runs=48, replicates=8), (0, 1, 2), no_macs).rows
    lines = [simulate(rows, size, others, args.studies) for others in (0.0, PAIR) for size in SIZES]
    if args.format == "md":
        rule = ["---:"] * len(HEADS)
        print("\n".join(f"| {' | '.join(cells)} |" for cells in (HEADS, rule, *lines)))
        return
    sizes = [max(len(cells[i]) for cells in (HEADS, *lines)) for i in range(len(HEADS))]
    print("\n".join("  ".join(c.rjust(n) for c, n in zip(cells, sizes, strict=True)) for cells in (HEADS, *lines)))


if __name__ == "__main__":
    run_cli(main)
