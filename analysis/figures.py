"""Owns the command `python -m analysis.figures`: the charts of a study, or of a paper's published numbers, as files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ladder.errors import UserError, run_cli, unknown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.summary import Table
    from ladder.rungs import Ladder

FORMATS = ("svg", "pdf", "png")
PARTNERS = {"convnext_t": "convnext_b"}  # Figure 2 shows both regimes

EPILOG = """examples:
  python -m analysis.figures runs/demo                        into runs/demo/figures/
  python -m analysis.figures --paper convnext_t --out charts  the published numbers; no run needed
  python -m analysis.figures runs/demo --columns 1 --formats pdf

Charts are drawn on white, one or two columns of a paper wide. The paths written are printed, one a line.
"""

Drawn = Iterator[tuple[str, Callable[[], "Figure"]]]  # file stem, how to draw it


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = argparse.ArgumentParser(
        prog="python -m analysis.figures",
        description="The charts of a study: the paper's Figure 2 of your own runs, and more.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    out.add_argument("study", nargs="*", help="folder of runs, such as runs/demo; several are read as one study")
    out.add_argument("--paper", metavar="LADDER", help="chart the published numbers of a ladder, such as convnext_t")
    out.add_argument("--out", type=Path, metavar="DIR", help="where to write; default STUDY/figures, or figures")
    out.add_argument("--formats", default=",".join(FORMATS), help="any of svg, pdf, png; default all: %(default)s")
    out.add_argument("--columns", type=int, choices=(1, 2), default=2, help="width in columns of a paper; default 2")
    out.add_argument("--compare", "--by", action="append", default=[], metavar="KEY", help="charts for each value")
    out.add_argument("--where", action="append", default=[], metavar="KEY=VALUE", help="only runs with this value")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Draw and write the charts, print their paths. Raises UserError on a user's mistake."""
    args = parser().parse_args(argv)
    formats = [f.strip() for f in args.formats.split(",") if f.strip()]
    for kind in formats:
        if kind not in FORMATS:
            raise unknown("format", kind, FORMATS)
    if not formats:
        raise UserError(f"--formats is empty: give any of {', '.join(FORMATS)}")
    if not args.study and not args.paper:
        raise UserError("give a study folder, such as runs/demo, or --paper LADDER, such as --paper convnext_t")
    from analysis.charts.style import save

    out = args.out or (Path(args.study[0]) / "figures" if args.study else Path("figures"))
    for stem, draw in _charts(args):
        for path in save(draw(), out / stem, formats, args.columns):
            print(path, flush=True)
    return 0


def _charts(args: argparse.Namespace) -> Drawn:
    if args.paper:
        from ladder.rungs import load_ladder

        yield from paper_charts(load_ladder(args.paper), args.columns)
    if args.study:
        from analysis.load import load
        from analysis.summary import summarise
        from analysis.table import pairs

        tables = summarise(load(args.study), compare=args.compare, where=pairs(args.where))
        yield from study_charts(tables, args.columns)


def paper_charts(ladder: Ladder, columns: int = 2) -> Drawn:
    """Every chart that the published numbers of a ladder allow. Raises UserError where it quotes none."""
    from analysis.charts import roadmap
    from analysis.summary import paper_table
    from ladder.rungs import load_ladder

    table = paper_table(ladder)
    yield f"paper_{ladder.name}_roadmap", lambda: roadmap.draw(table, paper=True, columns=columns)
    if partner := PARTNERS.get(ladder.name):
        behind = paper_table(load_ladder(partner))
        stem = f"paper_{ladder.name}_and_{partner}_roadmap"
        yield stem, lambda: roadmap.draw(table, paper=True, behind=behind, columns=columns)


def study_charts(tables: Sequence[Table], columns: int = 2) -> Drawn:
    """Every chart of the tables of a study."""
    from analysis.charts import roadmap

    for stem, table in zip(stems(tables), tables, strict=True):
        yield f"{stem}roadmap", lambda table=table: roadmap.draw(table, columns=columns)  # type: ignore[misc]


def stems(tables: Sequence[Table]) -> list[str]:
    """The start of the file names of each table: nothing for a single one, else what tells them apart."""
    if len(tables) == 1:
        return [""]
    out = []
    for number, table in enumerate(tables):
        choice = "".join(f"_{k}={v}" for k, v in table.choice.items())
        name = "".join(c if c.isalnum() or c in "._=-" else "-" for c in f"{table.ladder}_{table.data}{choice}_")
        out.append(name if name not in out else f"{name}{number}_")
    return out


if __name__ == "__main__":
    run_cli(main)
