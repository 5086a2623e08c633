"""Owns the comparison of designs in simulated studies whose truth is known: which runs tell most of the steps.

    python -m benchmarks.designs                  # 300 studies of each design in each of three worlds
    python -m benchmarks.designs --world additive --format md    # as a table of docs/designs.md
    python -m benchmarks.designs --out docs/designs     # a chart: half widths over the number of runs

A study trains the twelve steps of `convnext_mini` by a design. Top-1 is 60, plus an effect of each step (drawn anew for
each study, standard deviation 1.5 points), an effect of each seed (0.5) and noise (0.6, as on a tenth of CIFAR-10).
Worlds:

additive       steps add up
interactions   each pair of steps has one, of standard deviation 0.6: as large as the noise
collapses      one network in twenty does not learn; runs that `ladder effects --without-collapsed` finds are left out

Effects are those of `ladder effects`: it looks for interactions where replicates say that steps do not add up, and
takes all others for random effects. The truth is a step's effect averaged over all contexts; of the walk also its
change in the walk. Printed: root mean square error of the effects, mean half width of the intervals that hold all at
once, how often single intervals (each by itself) and all intervals of a study hold the truth, and which part of the
effects can be told at all.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.compare.cases import Cases, collapsed
from analysis.compare.effect_answer import fit_effects
from ladder.errors import run_cli
from ladder.launch import designs
from ladder.launch.designs import Row
from ladder.networks.rungs import load_ladder
from ladder.runs.config import DesignConfig

Array = NDArray[np.float64]

LADDER = load_ladder("convnext_mini")
STEPS = tuple(step.name for step in LADDER.steps)
EFFECT, SEED, NOISE, PAIR, LOST = 1.5, 0.5, 0.6, 0.6, 0.05
WORLDS = ("additive", "interactions", "collapses")
OWN = "walk (its own changes)"
DESIGNS: Mapping[str, tuple[DesignConfig, tuple[int, ...]]] = {
    "walk": (DesignConfig(kind="chain"), (0, 1, 2)),
    "leave_one_out": (DesignConfig(kind="leave_one_out"), (0,)),
    "permutations": (DesignConfig(kind="permutations", runs=39), (0,)),
    "screening": (DesignConfig(kind="screening", requires=False), (0, 1)),
    "optimal": (DesignConfig(kind="optimal", runs=39), (0, 1, 2)),
    "optimal, 6 replicates": (DesignConfig(kind="optimal", runs=39, replicates=6), (0, 1, 2)),
}
BOTH = ("walk", "optimal, 6 replicates")  # of one study, as docs/cifar10.md's


@dataclass(frozen=True)
class Result:
    """What the studies of one design in one world come to."""

    runs: int
    error: float
    half: float
    single: float
    whole: float
    told: float


def no_macs(steps: tuple[str, ...]) -> float:
    """No design here bounds MACs."""
    return 1.0


@cache
def rows_of(name: str) -> tuple[Row, ...]:
    """The runs of a design; "A and B": those of both."""
    if " and " in name:
        return tuple(row for part in name.split(" and ") for row in rows_of(part))
    config, seeds = DESIGNS[name]
    return designs.make(LADDER, config, seeds, no_macs).rows


def cases_of(rows: Sequence[Row], top1: Array) -> Cases:
    """Runs as `ladder effects` sees them."""
    frame = pd.DataFrame({"run": range(len(rows)), "top1": top1, "eval_size": 10_000})
    return Cases(LADDER, frame, STEPS, {}, tuple(rows))


def simulate(name: str, world: str, studies: int, seed: int = 0) -> Result:
    """Studies of one design in one world; of `OWN` the truth is the change in the walk."""
    own = name == OWN
    rows = rows_of("walk" if own else name)
    random = np.random.default_rng([seed, WORLDS.index(world)])
    data = cases_of(rows, np.zeros(len(rows)))
    truth = EFFECT * random.normal(size=(studies, len(STEPS)))
    pairs = PAIR * random.normal(size=(studies, len(data.pairs))) / 2 * (world == "interactions")
    seeds = {s: i for i, s in enumerate(sorted({row.seed for row in rows}))}
    blocks = np.array([seeds[row.seed] for row in rows])
    y = 60 + truth @ data.applied.T + pairs @ data.products(data.applied, data.pairs).T
    y += SEED * random.normal(size=(studies, len(seeds)))[:, blocks] + NOISE * random.normal(size=(studies, len(rows)))
    if world == "collapses":
        names = {row.steps: i for i, row in enumerate(rows)}
        lost = random.random((studies, len(rows))) < LOST
        y[lost[:, [names[row.steps] for row in rows]]] = 12.0
    if own:
        walk = np.tri(len(STEPS) + 1, len(STEPS), -1)
        truth = np.diff(truth @ walk.T + pairs @ data.products(walk, data.pairs).T, axis=1)
    found = [_effects(rows, top1) for top1 in y]
    estimates, singles, wholes = (np.array(part) for part in zip(*found, strict=True))
    off, told = np.abs(estimates - truth), ~np.isnan(estimates)
    return Result(
        runs=len(rows),
        error=float(np.sqrt(np.nanmean(off**2))),
        half=float(np.nanmean(wholes)),
        single=float((off <= singles)[told].mean()),
        whole=float(((off <= wholes) | ~told).all(axis=1).mean()),
        told=float(told.mean()),
    )


def _effects(rows: Sequence[Row], top1: Array) -> tuple[list[float], list[float], list[float]]:
    """Effects as `ladder effects --without-collapsed` shows them; half widths of each by itself, of all at once."""
    data = cases_of(rows, top1)
    fitted = fit_effects(data.part(~collapsed(data)))[0]
    each, every = (fitted.main_effects(kind) for kind in ("each", "all"))
    return (
        [each[step].delta for step in STEPS],
        [each[step].half for step in STEPS],
        [every[step].half for step in STEPS],
    )


def table(world: str, studies: int, markdown: bool) -> str:
    """All designs in one world."""
    heads = ["design", "runs", "error", "half width", "single held %", "all held %", "told %"]
    lines = []
    names = (*DESIGNS, " and ".join(BOTH), OWN)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        results = list(pool.map(partial(simulate, world=world, studies=studies), names))
    for name, one in zip(names, results, strict=True):
        parts = [f"{100 * part:.0f}" for part in (one.single, one.whole, one.told)]
        lines.append([name, str(one.runs), f"{one.error:.2f}", f"{one.half:.2f}", *parts])
    if markdown:
        rule = ["---", *["---:"] * (len(heads) - 1)]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *lines))
    sizes = [max(len(cells[i]) for cells in (heads, *lines)) for i in range(len(heads))]
    return "\n".join("  ".join(c.rjust(n) for c, n in zip(cells, sizes, strict=True)) for cells in (heads, *lines))


SIZES: Mapping[str, Sequence[tuple[DesignConfig, tuple[int, ...]]]] = {
    "walk": [(DesignConfig(kind="chain"), tuple(range(n))) for n in (2, 3, 4, 5)],
    "permutations": [(DesignConfig(kind="permutations", runs=n), (0,)) for n in (24, 35, 46, 57, 68)],
    "leave_one_out": [(DesignConfig(kind="leave_one_out"), tuple(range(n))) for n in (1, 2)],
    "screening": [(DesignConfig(kind="screening", requires=False), tuple(range(n))) for n in (1, 2, 3, 4)],
    "optimal": [(DesignConfig(kind="optimal", runs=n), (0,)) for n in (16, 20, 24, 32, 39, 52, 64)],
}


def chart(folder: Path) -> None:
    """Mean expected half widths of the twelve effects, each interval by itself, over the number of runs."""
    from analysis.show.charts import style

    with style.context(2):
        size, width = style.SIZES[2], style.WIDTHS[2]
        title = "What a study's runs tell of each of twelve steps"
        note = "Mean half width of the 95% intervals, each by itself, in standard deviations of a run; steps add up."
        notes = style.wrap(note, width - 0.12, size - 1)
        top, bottom = style.title_height(title, 2), 0.46 + (size + 1) / 72 * len(notes)
        fig = style.figure(2, top + bottom + 2.4)
        axes = style.place(fig, 0.5, bottom, width - 1.45, 2.4)
        for place, (name, sizes) in enumerate(SIZES.items()):
            made = [designs.make(LADDER, config, seeds, no_macs) for config, seeds in sizes]
            points = [(len(d.rows), float(np.mean([d.half_widths()[step] for step in STEPS]))) for d in made]
            colour, marker = style.DARK[place], style.MARKERS[place]
            axes.plot(*zip(*points, strict=True), marker=marker, color=colour, ms=4, lw=1.1)
            aside = (6, {"optimal": 6, "screening": -6}.get(name, 0))  # their lines end together
            axes.annotate(
                *(name, points[-1]), xytext=aside, textcoords="offset points", va="center", color=colour, fontsize=size
            )
        axes.set_ylim(0)
        axes.set_xlabel("runs")
        axes.set_ylabel("half width (standard deviations of a run)")
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        style.bare(axes, ("bottom", "left"))
        style.title_and_notes(fig, title, notes, size)
        for path in style.save(fig, folder / "half_width", ("png",), 2):
            print(path)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--world", choices=WORLDS, help="one of them alone")
    parser.add_argument("--format", choices=("text", "md"), default="text")
    parser.add_argument("--out", type=Path, help="draw half_width.png into this folder instead")
    args = parser.parse_args(argv)
    if args.out is not None:
        chart(args.out)
        return
    for place, world in enumerate([args.world] if args.world else WORLDS):
        if args.world is None:
            print(f"{world}:" if place == 0 else f"\n{world}:")
        print(table(world, args.studies, args.format == "md"))


if __name__ == "__main__":
    run_cli(main)
