"""Owns the command `python -m analysis.tuning`: what a search over settings found, one row for each setting.

`analysis.table` compares networks at one setting; this compares settings, over the few networks they were tried on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from analysis.cells import NONE, Column, Grid, Line, spread
from analysis.configs import differences, flatten, read_config, show
from analysis.files import deliver
from analysis.options import STUDY_HELP, add_out, add_where, pairs
from analysis.render import markdown_grid, text_grid
from analysis.selection import natural, only
from analysis.stats import Summary
from ladder.errors import UserError, run_cli

if TYPE_CHECKING:
    import pandas as pd

BEST = "*"
EPILOG = """examples:
  python -m ladder.train -m rung=0,12 recipe.lr=1e-3,2e-3,4e-3 data=cifar10 data.holdout=0.1 study=tuning ...
  python -m analysis.tuning runs/tuning

Columns on the left are the config keys that differ among the runs, whichever they are; then one for each network.
"""


def grid(runs: pd.DataFrame) -> Grid:
    """The settings that were tried, and their top-1. Raises UserError without done runs, or for one setting alone."""
    done = runs[runs["state"] == "done"]
    if not len(done):
        raise UserError("no run is done yet: nothing to compare")
    configs = {str(path): read_config(str(path)) or {} for path in done["path"]}
    by_rung = [[configs[str(path)] for path in part["path"]] for _, part in done.groupby("rung")]
    keys = list(dict.fromkeys(key for part in by_rung for key in differences(part)))  # a step may change the recipe
    if not keys:
        raise UserError("all runs have one setting: compare their networks with python -m analysis.table")
    found: dict[tuple[Any, ...], dict[str, list[float]]] = {}
    for run in done.itertuples():
        flat = flatten(configs[str(run.path)])
        setting = tuple(flat.get(key) for key in keys)
        found.setdefault(setting, {}).setdefault(str(run.rung), []).append(float(str(run.top1)))
    rungs = list(dict.fromkeys(done.sort_values("rung_index", kind="stable")["rung"].astype(str)))
    means = {s: {rung: Summary.of(by[rung]) for rung in by} for s, by in found.items()}
    best = {rung: max(m.mean for by in means.values() if (m := by.get(rung))) for rung in rungs}
    lines = []
    for setting in sorted(means, key=natural):
        cells = []
        for rung in rungs:
            one = means[setting].get(rung)
            mark = f" {BEST}" if one is not None and one.mean == best[rung] else ""
            cells.append(NONE if one is None else spread(one.mean, one.std) + mark)
        lines.append(Line((*(show(value) for value in setting), *cells), "main"))
    columns = (*(Column(key) for key in keys), *(Column(rung) for rung in rungs))
    return Grid(_title(done), "top-1 % ±std of the last epoch", columns, tuple(lines), tuple(_notes(done)))


def _title(done: pd.DataFrame) -> str:
    def met(column: str) -> str:
        return ", ".join(str(value) for value in dict.fromkeys(done[column].dropna()))

    return f"Settings of {met('ladder')} on {met('data')}, {met('eval_split')} split"


def _notes(done: pd.DataFrame) -> list[str]:
    notes = [f"best of its column: {BEST}"]
    seeds = done.groupby(["rung", "group_hash"])["seed"].nunique()
    if int(seeds.max()) == 1:
        notes.append("one seed each: small differences are noise")
    if set(done["eval_split"]) & {"test"}:
        notes.append("seen on the test split: a choice made here biases what it reports; data.holdout=0.1 avoids that")
    return notes


def main(argv: Sequence[str] | None = None) -> int:
    """Print or write the table. Raises UserError on a user's mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.tuning",
        description="What a search over settings found: top-1 by setting, one column for each network.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", nargs="+", help=STUDY_HELP)
    parser.add_argument("--format", choices=("text", "md"), default="text")
    add_where(parser)
    add_out(parser)
    args = parser.parse_args(argv)
    from analysis.load import load

    found = grid(only(load(args.study), pairs(args.where)))
    deliver({"text": text_grid, "md": markdown_grid}[args.format](found), args.out)
    return 0


if __name__ == "__main__":
    run_cli(main)
