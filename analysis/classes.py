"""Owns the command `ladder classes`: top-1 by class and rung, and of which classes two rungs differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from analysis.show import options
from analysis.show.cells import NONE, Column, Grid, Line
from analysis.show.files import deliver
from analysis.show.formats import markdown_grid, text_grid
from ladder.common.command import command
from ladder.errors import UserError, run_cli

if TYPE_CHECKING:
    from analysis.compare.answers import Answers

SHOWN = 20  # confusions listed
EXAMPLES = """examples:
  ladder classes runs/demo
  ladder classes runs/demo --won resnet separate_downsampling
  ladder classes runs/demo --confusion resnet separate_downsampling

Read from predictions.npz of each run: the evaluation split after the last epoch, mean over seeds. An image is won where
the second rung is right in more seeds than the first, lost the other way round.
"""


@command("classes", examples=EXAMPLES)
@options.studies()
@click.option("--won", nargs=2, metavar="RUNG RUNG", help="how many images of each class the second wins and loses")
@click.option("--confusion", nargs=2, metavar="RUNG RUNG", help="what two rungs take each class for, where they differ")
@options.output_format("text", "md")
@options.out()
@options.where()
def main(
    study: tuple[str, ...],
    won: tuple[str, str] | None,
    confusion: tuple[str, str] | None,
    kind: str,
    out: Path | None,
    where: dict[str, str],
) -> None:
    """Top-1 of each class at each rung: which classes a change helps, and which it hurts."""
    from analysis.compare.answers import load_answers

    if won and confusion:
        raise UserError("--won and --confusion are two tables: ask for one")
    answers = load_answers(study, where)
    grid = by_class(answers)
    if won:
        grid = wins(answers, *answers.two(*won))
    elif confusion:
        grid = confusions(answers, *answers.two(*confusion))
    deliver((markdown_grid if kind == "md" else text_grid)(grid), out)


def by_class(answers: Answers) -> Grid:
    """A row a class, a column a rung; the last line is the mean over images, the headline."""
    rungs = list(answers.runs)
    table = np.array([answers.by_class(rung) for rung in rungs])
    count = np.bincount(answers.label, minlength=len(answers.class_names))
    lines = [
        Line((name, f"{count[i]:,}", *(_percent(value) for value in table[:, i])), "main")
        for i, name in enumerate(answers.class_names)
    ]
    total = [100 * float(np.mean([each.correct for each in answers.of(rung)])) for rung in rungs]
    lines.append(Line(("all", f"{len(answers.label):,}", *(_percent(value) for value in total)), "main"))
    columns = (Column("class", left=True), Column("images"), *map(Column, rungs))
    seeds = ", ".join(f"{rung} {len(answers.of(rung))}" for rung in rungs)
    return _grid("top-1 in percent of each class", answers, columns, lines, f"mean over seeds: {seeds}")


def wins(answers: Answers, before: str, after: str) -> Grid:
    """A row a class: images that `after` is right of in more seeds than `before`, or in fewer; the last line is all."""
    won = answers.won(before, after)
    every = np.ones(len(won), bool)
    classes = [(name, answers.label == place) for place, name in enumerate(answers.class_names)]
    lines = []
    for name, mine in [*classes, ("all", every)]:
        here = won[mine]
        counts = (len(here), (here > 0).sum(), (here == 1).sum(), (here < 0).sum(), (here == -1).sum())
        net = f"{100 * here.mean():+.2f}" if len(here) else NONE
        lines.append(Line((name, *(f"{int(count):,}" for count in counts), net), "main"))
    headings = ("class", "images", "won", "in every seed", "lost", "in every seed", "net points")
    columns = tuple(Column(name, left=name == "class") for name in headings)
    seeds = f"{before} {len(answers.of(before))}, {after} {len(answers.of(after))}"
    note = f"won: right in more seeds with {after} than with {before}; lost: in fewer; seeds: {seeds}"
    return _grid(f"images that {after} wins and loses against {before}", answers, columns, lines, note)


def confusions(answers: Answers, before: str, after: str) -> Grid:
    """The confusions that change most from one rung to another, as percent of a class's images."""
    one, other = answers.confusion(before), answers.confusion(after)
    names = answers.class_names
    pairs = [(i, j) for i in range(len(names)) for j in range(min(one.shape[1], other.shape[1], len(names))) if i != j]
    pairs.sort(key=lambda p: (-abs(np.nan_to_num(other[p] - one[p])), p))
    lines = [
        Line(
            (names[i], names[j], _percent(one[i, j]), _percent(other[i, j]), f"{other[i, j] - one[i, j]:+.2f}"), "main"
        )
        for i, j in pairs[:SHOWN]
        if one[i, j] != other[i, j]
    ]
    headings = ("class", "taken for", before, after, "change")
    columns = tuple(Column(name, left=i < 2) for i, name in enumerate(headings))
    left = f"; the {SHOWN} largest of {len(pairs)}" if len(pairs) > SHOWN else ""
    return _grid("confusions in percent of a class's images", answers, columns, lines, f"mean over seeds{left}")


def _grid(what: str, answers: Answers, columns: Sequence[Column], lines: Sequence[Line], note: str) -> Grid:
    table = answers.table
    return Grid(table.title, f"{what}, {table.data}, {table.eval_split} split", tuple(columns), tuple(lines), (note,))


def _percent(value: float) -> str:
    return NONE if np.isnan(value) else f"{value:.2f}"


if __name__ == "__main__":
    run_cli(main)
