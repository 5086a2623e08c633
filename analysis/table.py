"""Owns the command `ladder table`: a study's ladder as a table, ours beside the paper's numbers."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from analysis.show import options
from analysis.show.files import deliver
from ladder.common.command import command
from ladder.errors import UserError, run_cli, unknown

FORMATS = ("text", "md", "csv", "latex", "html", "json")

EXAMPLES = """examples:
  ladder table runs/demo
  ladder table runs/demo --format latex --out table.tex
  ladder table runs/lr --compare recipe.lr      one table for each learning rate
  ladder table runs/norms --compare spec.norm   another choice of a field as a row under the plain rung
  ladder table runs/lr --where recipe.lr=0.004  only these runs

The headline is the last epoch's top-1, mean and std over seeds. Runs that differ in more than rung and seed
are refused: say with --compare what you compare, or with --where what you keep.
"""


@command("table", examples=EXAMPLES)
@options.studies(required=False)
@options.output_format(*FORMATS, default=None, about="default: text, or what the suffix of --out says")
@options.out()
@options.compare("a table")
@options.where()
@options.interval()
@options.noise()
@click.option("--all", "complete", is_flag=True, help="show the rungs that were never run, too")
@click.option(
    "--paper",
    metavar="LADDER",
    shell_complete=options.ladders,
    help="the published numbers of a ladder alone, without runs",
)
@click.option("--standalone", is_flag=True, help="latex: a whole document instead of a table to \\input")
def main(
    study: tuple[str, ...],
    kind: str | None,
    out: Path | None,
    compare: tuple[str, ...],
    where: dict[str, str],
    interval: str,
    noise: str,
    complete: bool,
    paper: str | None,
    standalone: bool,
) -> None:
    """A study's accuracy/MACs table: per rung the top-1 over seeds and what each step changed."""
    kind = kind or _by_suffix(out)
    if standalone and kind != "latex":
        raise UserError(f"--standalone goes with --format latex, not {kind}")
    if bool(study) == bool(paper):
        raise UserError("give a study folder, such as runs/demo, or --paper LADDER (one of them)")
    from analysis.compare.summary import paper_table, summarise
    from analysis.show.escape import beyond_pdftex
    from analysis.show.formats import FORMATS as RENDER
    from analysis.show.formats import latex

    if paper:
        from ladder.networks.rungs import load_ladder

        tables = [paper_table(load_ladder(paper), interval)]
    else:
        from analysis.read.load import load

        tables = summarise(load(study), compare=compare, where=where, interval=interval, noise=noise, complete=complete)
    content = latex(tables, standalone=standalone) if kind == "latex" else RENDER[kind](tables)
    if kind == "latex" and (beyond := beyond_pdftex(content)):
        print(f"warning: pdfLaTeX has no {' '.join(beyond)}: compile with LuaLaTeX or XeLaTeX", file=sys.stderr)
    deliver(content, out)


def _by_suffix(out: Path | None) -> str:
    from analysis.show.formats import SUFFIXES

    if out is None or not out.suffix:
        return "text"
    if out.suffix not in SUFFIXES:
        raise unknown("suffix of --out", out.suffix, sorted(SUFFIXES))
    return SUFFIXES[out.suffix]


if __name__ == "__main__":
    run_cli(main)
