"""Owns the command `ladder figures`: the charts of a study, or of a paper's published numbers, as files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analysis.show import options
from ladder.common.command import FOLDER, command
from ladder.errors import UserError, run_cli

if TYPE_CHECKING:
    from analysis.show.collection import Chart

FORMATS = ("svg", "pdf", "png")

EXAMPLES = """examples:
  ladder figures runs/demo                        into runs/demo/figures/
  ladder figures --paper convnext_t --out charts  published numbers; no run needed
  ladder figures --paper                          all that is published: every ladder
  ladder figures --paper isotropic_to_convmixer   nothing is published: its networks, drawn
  ladder figures runs/demo --columns 1 --formats pdf --only roadmap

Charts are drawn on white, one or two columns of a paper wide. The paths written are printed, one a line.
"""


@command("figures", examples=EXAMPLES)
@options.studies(required=False)
@click.option(
    "--paper",
    is_flag=False,
    flag_value="all",
    metavar="[LADDER]",
    shell_complete=options.ladders,
    help="published numbers: a ladder, convmixer; alone: all",
)
@click.option("--out", type=FOLDER, metavar="DIR", help="where to write; default STUDY/figures, or figures")
@click.option("--formats", default=",".join(FORMATS), show_default=True, help="any of svg, pdf, png")
@click.option(
    "--columns", type=click.Choice(["1", "2"]), default="2", show_default=True, help="width in columns of a paper"
)
@click.option("--title", is_flag=True, help="titles in the figures, for slides; papers have them in the caption")
@click.option("--only", multiple=True, metavar="WORD", help="only charts with this in their name")
@options.compare("charts")
@options.where()
@options.interval()
@options.without_collapsed()
@click.option("--beside", metavar="SOURCE", help="effects beside a ladder's published numbers, or another study's")
def main(
    study: tuple[str, ...],
    paper: str | None,
    out: Path | None,
    formats: str,
    columns: str,
    title: bool,
    only: tuple[str, ...],
    compare: tuple[str, ...],
    where: dict[str, str],
    interval: str,
    beside: str | None,
    without_collapsed: bool,
) -> None:
    """The charts of a study: the paper's Figure 2 of your own runs, accuracy over cost, curves, blocks."""
    from analysis.show.collection import check_formats

    kinds = [f.strip() for f in formats.split(",") if f.strip()]
    check_formats(kinds, FORMATS)
    if not study and not paper:
        raise UserError("give a study folder, such as runs/demo, or --paper LADDER, such as --paper convnext_t")
    from analysis.read.load import place_in
    from analysis.show.charts.style import save, titles

    out = out or (place_in(study[0], "figures") if study else Path("figures"))
    met: list[str] = []
    drawn = 0
    for chart in _charts(study, paper, compare, where, interval, beside, without_collapsed):
        met.append(chart.stem)
        if only and not any(word in chart.stem for word in only):
            continue
        with titles(title):
            figure = chart.draw(int(columns))
        if figure is None:
            continue  # nothing to show: a scatter of one rung, curves of no epoch
        drawn += 1
        for path in save(figure, out / chart.stem, kinds, int(columns)):
            print(path, flush=True)
    if not drawn:
        raise UserError(f"no chart to draw with --only {' '.join(only)}; there are: {', '.join(met)}")


def _charts(
    study: Sequence[str],
    paper: str | None,
    compare: Sequence[str],
    where: dict[str, str],
    interval: str,
    beside: str | None,
    without_collapsed: bool,
) -> Iterator[Chart]:
    from analysis.show.collection import effect_charts, paper_charts, study_charts

    if paper:
        yield from paper_charts(paper, interval)
    if study:
        from analysis.compare.effect_answer import effects_of
        from analysis.compare.summary import summarise
        from analysis.read.load import load, load_curves

        runs = load(study)
        tables = summarise(runs, compare=compare, where=where, interval=interval)
        curves = load_curves(runs)
        yield from (chart for _, chart in study_charts(tables, curves))
        effects = None if compare else effects_of(runs, where, interval, beside, without_collapsed)
        if effects is not None:
            yield from effect_charts(effects)


if __name__ == "__main__":
    run_cli(main)
