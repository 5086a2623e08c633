"""Owns the command `python -m analysis.figures`: the charts of a study, or of a paper's published numbers, as files."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.show.options import STUDY_HELP, add_compare, add_where, pairs
from ladder.errors import UserError, run_cli

if TYPE_CHECKING:
    from analysis.show.collection import Chart

FORMATS = ("svg", "pdf", "png")

EPILOG = """examples:
  python -m analysis.figures runs/demo                        into runs/demo/figures/
  python -m analysis.figures --paper convnext_t --out charts  published numbers; no run needed
  python -m analysis.figures --paper                          all that is published: every ladder
  python -m analysis.figures --paper isotropic_to_convmixer   nothing is published: its networks, drawn
  python -m analysis.figures runs/demo --columns 1 --formats pdf --only roadmap

Charts are drawn on white, one or two columns of a paper wide. The paths written are printed, one a line.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = argparse.ArgumentParser(
        prog="python -m analysis.figures",
        description="The charts of a study: the paper's Figure 2 of your own runs, accuracy over cost, curves, blocks.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    out.add_argument("study", nargs="*", help=STUDY_HELP)
    out.add_argument(
        "--paper", nargs="?", const="all", metavar="LADDER", help="published numbers: a ladder, convmixer; alone: all"
    )
    out.add_argument("--out", type=Path, metavar="DIR", help="where to write; default STUDY/figures, or figures")
    out.add_argument("--formats", default=",".join(FORMATS), help="any of svg, pdf, png; default all: %(default)s")
    out.add_argument("--columns", type=int, choices=(1, 2), default=2, help="width in columns of a paper; default 2")
    out.add_argument("--only", action="append", default=[], metavar="WORD", help="only charts with this in their name")
    add_compare(out, "charts")
    add_where(out)
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Draw and write the charts, print their paths. Raises UserError on a user's mistake."""
    args = parser().parse_args(argv)
    from analysis.show.collection import check_formats

    formats = [f.strip() for f in args.formats.split(",") if f.strip()]
    check_formats(formats, FORMATS)
    if not args.study and not args.paper:
        raise UserError("give a study folder, such as runs/demo, or --paper LADDER, such as --paper convnext_t")
    from analysis.read.load import home
    from analysis.show.charts.style import save

    out = args.out or (home(args.study[0]) / "figures" if args.study else Path("figures"))
    met: list[str] = []
    drawn = 0
    for chart in _charts(args):
        met.append(chart.stem)
        if args.only and not any(word in chart.stem for word in args.only):
            continue
        figure = chart.draw(args.columns)
        if figure is None:
            continue  # nothing to show: a scatter of one rung, curves of no epoch
        drawn += 1
        for path in save(figure, out / chart.stem, formats, args.columns):
            print(path, flush=True)
    if not drawn:
        raise UserError(f"no chart to draw with --only {' '.join(args.only)}; there are: {', '.join(met)}")
    return 0


def _charts(args: argparse.Namespace) -> Iterator[Chart]:
    from analysis.show.collection import paper_charts, study_charts

    if args.paper:
        yield from paper_charts(args.paper)
    if args.study:
        from analysis.compare.summary import summarise
        from analysis.read.load import load, load_curves

        runs = load(args.study)
        tables = summarise(runs, compare=args.compare, where=pairs(args.where))
        curves = load_curves(runs)
        yield from (chart for _, chart in study_charts(tables, curves))


if __name__ == "__main__":
    run_cli(main)
