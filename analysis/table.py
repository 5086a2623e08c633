"""Owns the command `python -m analysis.table`: a study's ladder as a table, ours beside the paper's numbers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from analysis.show.files import deliver
from analysis.show.options import STUDY_HELP, add_compare, add_out, add_where, pairs
from ladder.errors import UserError, run_cli, unknown

FORMATS = ("text", "md", "csv", "latex", "html", "json")

EPILOG = """examples:
  python -m analysis.table runs/demo
  python -m analysis.table runs/demo --format latex --out table.tex
  python -m analysis.table runs/lr --compare recipe.lr      one table for each learning rate
  python -m analysis.table runs/lr --where recipe.lr=0.004  only these runs

The headline is the last epoch's top-1, mean and std over seeds. Runs that differ in more than rung and seed
are refused: say with --compare what you compare, or with --where what you keep.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = argparse.ArgumentParser(
        prog="python -m analysis.table",
        description="A study's accuracy/MACs table: per rung the top-1 over seeds and what each step changed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    out.add_argument("study", nargs="*", help=STUDY_HELP)
    out.add_argument("--format", choices=FORMATS, help="default: text, or what the suffix of --out says")
    add_out(out)
    add_compare(out, "a table")
    add_where(out)
    out.add_argument("--paper", metavar="LADDER", help="the published numbers of a ladder alone, without runs")
    out.add_argument("--standalone", action="store_true", help="latex: a whole document instead of a table to \\input")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Print or write the table. Raises UserError on a user's mistake."""
    args = parser().parse_args(argv)
    kind = args.format or _by_suffix(args.out)
    if args.standalone and kind != "latex":
        raise UserError(f"--standalone goes with --format latex, not {kind}")
    if bool(args.study) == bool(args.paper):
        raise UserError("give a study folder, such as runs/demo, or --paper LADDER (one of them)")
    from analysis.compare.summary import paper_table, summarise
    from analysis.show.formats import FORMATS as RENDER
    from analysis.show.formats import latex

    if args.paper:
        from ladder.networks.rungs import load_ladder

        tables = [paper_table(load_ladder(args.paper))]
    else:
        from analysis.read.load import load

        tables = summarise(load(args.study), compare=args.compare, where=pairs(args.where))
    content = latex(tables, standalone=args.standalone) if kind == "latex" else RENDER[kind](tables)
    deliver(content, args.out)
    return 0


def _by_suffix(out: Path | None) -> str:
    from analysis.show.formats import SUFFIXES

    if out is None or not out.suffix:
        return "text"
    if out.suffix not in SUFFIXES:
        raise unknown("suffix of --out", out.suffix, sorted(SUFFIXES))
    return SUFFIXES[out.suffix]


if __name__ == "__main__":
    run_cli(main)
