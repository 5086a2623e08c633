"""Owns the command `ladder effects`: what each step is worth, over all runs of a study."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analysis.show import options
from analysis.show.files import deliver
from ladder.common.command import command
from ladder.errors import UserError, run_cli

if TYPE_CHECKING:
    from analysis.compare.effect_answer import Answer
    from analysis.show.cells import Grid

EXAMPLES = """examples:
  ladder effects runs/designed                          each step's average effect, with its interval
  ladder effects runs/designed runs/demo --interactions both studies as one; which steps depend on which
  ladder effects runs/designed --beside convnext_t      beside the paper's changes
  ladder effects runs/designed --best --max-macs 5      subsets expected to be best below 5 M MACs

An effect is the top-1 of networks with a step less that of networks without it, all other steps alike. Of a walk it is
the step's change; a design (ladder train design=...) tries each step in many contexts. Steps that exclude each other,
or of which one requires the other, are told where they can be taken. Any other two may interact, and intervals know of
it. Where replicates say that steps do not add up, pairs that stand out are told by themselves. Collapsed runs are
named, and the effects without them.
"""


@command("effects", examples=EXAMPLES)
@options.studies()
@options.output_format("text", "md", "csv", "latex", "html", "json")
@options.out()
@options.where()
@options.interval()
@click.option("--interactions", is_flag=True, help="which steps depend on which, as a matrix")
@click.option("--at-equal-macs", is_flag=True, help="effects beside that of MACs (log2) on top-1")
@click.option(
    "--response",
    type=click.Choice(["points", "logit"]),
    default="points",
    show_default=True,
    help="points of top-1, or its log odds, where top-1 is near 100% or runs collapsed",
)
@options.without_collapsed()
@click.option("--beside", metavar="SOURCE", help="a ladder with published numbers, or another study, to stand beside")
@click.option("--best", is_flag=True, help="subsets expected to be best, and how to train them")
@click.option("--max-macs", type=click.FloatRange(0, min_open=True), metavar="M", help="--best: at most, in millions")
@click.option("--min-speed", type=click.FloatRange(0, min_open=True), metavar="N", help="--best: least images/s")
def main(
    study: tuple[str, ...],
    kind: str,
    out: Path | None,
    where: dict[str, str],
    interval: str,
    interactions: bool,
    at_equal_macs: bool,
    response: str,
    without_collapsed: bool,
    beside: str | None,
    best: bool,
    max_macs: float | None,
    min_speed: float | None,
) -> None:
    """What each step is worth on average over contexts, by all runs of a study."""
    from analysis.compare.effect_answer import answer
    from analysis.read.load import load

    if (max_macs is not None or min_speed is not None) and not best:
        raise UserError("--max-macs and --min-speed go with --best")
    if best and kind == "csv":
        raise UserError("--best goes with --format text, md, latex, html, json")
    found = answer(
        load(study),
        where=where,
        response=response,
        interval=interval,
        interactions=interactions,
        equal_macs=at_equal_macs,
        without_collapsed=without_collapsed,
        beside=beside,
    )
    subsets, commands = _best(found, max_macs, min_speed) if best else (None, [])
    deliver(_written(found, kind, subsets, commands), out)


def _best(found: Answer, max_macs: float | None, min_speed: float | None) -> tuple[Grid, list[str]]:
    from analysis.compare.effect_search import best
    from analysis.compare.reproduce import command_for
    from analysis.show.effect_grid import best_grid
    from ladder.launch.designed import macs_of

    run = found.cases.runs.iloc[0]
    cases = found.cases
    macs: Callable[[tuple[str, ...]], float]
    if cases.ladder.network == "call":  # whose code is not run here
        if max_macs is not None:
            raise UserError("--max-macs: of a function's networks only those that were trained have known MACs")
        known = {row.steps: float(each) for row, each in zip(cases.rows, cases.runs["macs"], strict=True)}
        macs = partial(_lookup, known)
    else:
        macs = macs_of(cases.ladder, int(run["image_size"]), int(run["num_classes"]), int(run["in_chans"]))
    limit = None if max_macs is None else max_macs * 1e6
    subsets = best(found.fit, macs, most_macs=limit, least_speed=min_speed)
    levels = [one.levels for one in subsets]
    if any(level != levels[0] for level in levels):
        commands = [command_for(str(run["path"]), [one.steps], one.levels) for one in subsets]
    else:
        commands = [command_for(str(run["path"]), [one.steps for one in subsets], levels[0])]
    return best_grid(found, subsets), commands


def _lookup(known: Mapping[tuple[str, ...], float], steps: tuple[str, ...]) -> float:
    return known.get(steps, math.nan)


def _written(found: Answer, kind: str, best: Grid | None, commands: list[str]) -> str:
    from analysis.show import effect_grid, formats
    from ladder.paths import strict_json

    if kind == "json":
        content = effect_grid.plain(found)
        if best is not None:
            heads = [column.heading for column in best.columns]
            content["best"] = [dict(zip(heads, line.cells, strict=True)) for line in best.lines]
            content["train"] = commands
        return strict_json(content, 1)
    if kind == "csv":
        return formats.csv_of(effect_grid.records(found))
    grids = effect_grid.grids(found, titles=kind != "text")
    grids += [effect_grid.matrix_grid(found)] if found.interactions else []
    grids += [best] if best is not None else []
    if kind == "latex":
        return formats.latex_grids(grids)
    if kind == "html":
        return formats.page_of_grids(grids)
    parts = [{"text": formats.text_grid, "md": formats.markdown_grid}[kind](grid) for grid in grids]
    if commands:
        parts.append("\n".join(("```sh", *commands, "```") if kind == "md" else ("train them:", *commands)))
    return "\n\n".join(parts)


if __name__ == "__main__":
    run_cli(main)
