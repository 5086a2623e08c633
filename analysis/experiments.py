"""Owns the command `ladder experiments`: every study of `conf/experiment/`, and what it costs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.plan import plan, si
from analysis.read.speeds import PEAKS, UTILISATION, Speeds, from_study
from analysis.show import options
from analysis.show.cells import Column, Grid, Line
from analysis.show.formats import markdown_grid, text_grid
from ladder.common.command import command
from ladder.errors import UserError, run_cli
from ladder.paths import conf_dir, strict_json
from ladder.training.progress import in_words

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED = Path("runs/published")
EXAMPLES = """examples:
  ladder experiments
  ladder experiments --gpu a100 --format md

Cost is measured where a study of that name, with all its runs done, lies in runs/published/. Elsewhere it is planned:
from the speed of a published study of the same ladder, by MACs, or else from the GPU's data sheet.
ladder plan experiment=NAME --measure plans each of them better, from what it measures on your machine.
"""


@dataclass(frozen=True)
class Row:
    """One experiment. `macs` of all its runs; `cost` in words."""

    name: str
    what: str
    runs: int
    macs: float
    disk_gb: float
    cost: str
    measured: bool


def describe(name: str) -> str:
    """The first sentence of an experiment's file."""
    lines = (conf_dir() / "experiment" / f"{name}.yaml").read_text().splitlines()
    words = " ".join(
        line.removeprefix("#").strip() for line in lines if line.startswith("# ") and "@package" not in line
    )
    return re.split(r"(?<=[.;]) ", words, maxsplit=1)[0].rstrip(".;")


def rows(gpu: str, published: Path = PUBLISHED) -> list[Row]:
    """Every experiment, the cheapest first. Raises UserError for one that can't be."""
    from ladder.launch.sweeper import runs_of

    studies = _studies(published)
    found = []
    for path in (conf_dir() / "experiment").glob("*.yaml"):
        name = path.stem
        runs = runs_of([f"experiment={name}"])
        own = studies.get(name)
        done = None if own is None else own[own["run"].isin([run.label for run in runs])]
        alike = {n: frame for n, frame in studies.items() if set(frame["ladder"]) == {runs[0].ladder.name}}
        speeds = [speed for study in alike for speed in from_study(published / study)]
        made = plan(runs, Speeds(speeds, gpu))
        on = ", ".join(sorted({str(line.device) for line in made.lines}))
        if measured := done is not None and len(done) == len(runs):
            assert done is not None
            cost = f"{in_words(float(done['wall_s'].sum()))} on {done['device'].iloc[0]}, measured"
        else:
            cost = f"{_rounded(made.gpu_hours or 0.0)} h on {on}, planned"
        found.append(Row(name, describe(name), made.runs, made.macs, made.disk_bytes / 1e9, cost, measured))
    return sorted(found, key=lambda row: row.macs)


def _studies(published: Path) -> dict[str, pd.DataFrame]:
    """The done runs of each published study."""
    from analysis.read.load import load

    folders = sorted(path.parent for path in published.glob("*/study.json"))
    frames = {folder.name: load(folder) for folder in folders}
    return {name: frame[frame["state"] == "done"] for name, frame in frames.items() if (frame["state"] == "done").any()}


def _rounded(hours: float) -> str:
    """Two digits: more would pretend to know more."""
    return f"{float(f'{hours:.2g}'):,g}"


def grid(found: Sequence[Row], note: str) -> Grid:
    """The table that a person reads."""
    columns = (Column("experiment=", left=True), Column("what", left=True), *map(Column, ("runs", "MACs", "disk")))
    cells = [(r.name, r.what, str(r.runs), si(r.macs), f"{r.disk_gb:.1f} GB", r.cost) for r in found]
    lines = tuple(Line(each, "main") for each in cells)
    last = Column("cost, one run after another", left=True)
    return Grid("The studies of conf/experiment/", "", (*columns, last), lines, (note,))


@command("experiments", examples=EXAMPLES)
@click.option("--gpu", default="h100", show_default=True, metavar="NAME", help=f"plan for this one: {', '.join(PEAKS)}")
@options.output_format("text", "md", "json")
def main(gpu: str, kind: str) -> None:
    """Every study of conf/experiment/: what it trains, and what that costs."""
    found = rows(gpu)
    if not found:
        raise UserError(f"no experiments in {conf_dir() / 'experiment'}")
    if kind == "json":
        content: list[dict[str, Any]] = [asdict(row) for row in found]
        print(strict_json(content, 1))
        return
    note = (
        "planned: from the speed of a published study of that ladder, by MACs; without one guessed from the"
        f" {gpu.upper()}'s data sheet, at {UTILISATION:.0%} of its peak. ladder plan experiment=NAME"
        " --measure does better, from what it measures on your machine."
    )
    print({"text": text_grid, "md": markdown_grid}[kind](grid(found, note)))


if __name__ == "__main__":
    run_cli(main)
