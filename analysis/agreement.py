"""Owns the command `ladder agreement`: do a study's steps gain what they gained elsewhere?

Elsewhere is the paper's table, or another study: a small one may be asked how well it foretells a large one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analysis.compare.stats import LEVEL, Change
from analysis.show import options
from analysis.show.cells import Column, Grid, Line, change_text
from analysis.show.files import deliver
from ladder.common.command import command
from ladder.errors import UserError, run_cli
from ladder.paths import strict_json

if TYPE_CHECKING:
    from analysis.compare.agreement import Agreement
    from analysis.compare.effect_answer import Answer
    from analysis.compare.summary import Table

EXAMPLES = """examples:
  ladder agreement runs/cifar10 convnext_t          beside the paper's roadmap
  ladder agreement runs/cifar10 runs/fashion_mnist  beside another study
  ladder agreement runs/designed runs/cifar10 convnext_t    a design and a walk as one study, beside the paper's roadmap

Steps are matched by name. A step helps or hurts where the 95% interval of its change leaves 0 out; else it is within
seed noise. Two walks compare each step to the nearest one before it that both have; of a study with other subsets of
the steps (a design) the effects are taken, averaged over contexts. Kendall's tau (-1 to 1) is the agreement in the
order of the gains of the main steps. Its interval says what other seeds would make of it: the gains of both sides drawn
again 2,000 times with their errors. Its p says how often so few steps in random order agree as well. Seeds may settle a
tau that chance could have made, and the other way round.
"""
VERDICTS = ("helps", "hurts", "noise", "unknown")


def grid(agreement: Agreement) -> Grid:
    """The agreement as a table."""
    here, there = agreement.sides
    columns = [Column("step", left=True), Column(f"{here} ±95%"), Column("", left=True)]
    columns += [Column(f"{there} ±95%"), Column("", left=True)]
    lines = [
        Line(
            (
                f"└ {s.title}" if s.kind == "side" else s.title,
                *(change_text(s.ours).removesuffix(" ~"), s.ours.verdict),
                *(change_text(s.theirs).removesuffix(" ~"), s.theirs.verdict),
            ),
            s.kind,
        )
        for s in agreement.steps
    ]
    at_once = ", the intervals of a side hold at once" if agreement.interval == "all" else ""
    return Grid(
        agreement.title, f"change of top-1 in points{at_once}", tuple(columns), tuple(lines), tuple(notes(agreement))
    )


def notes(agreement: Agreement) -> list[str]:
    """What the numbers come to, in words."""
    from analysis.compare.agreement import KINDS

    here, there = agreement.sides
    both = Counter((s.ours.verdict, s.theirs.verdict) for s in agreement.steps)
    clear = [s for s in agreement.steps if {s.ours.verdict, s.theirs.verdict} <= {"helps", "hurts"}]
    same = sum(s.ours.verdict == s.theirs.verdict for s in clear)
    out = [f"clear of seed noise on both sides: {len(clear)} of {len(agreement.steps)} steps, {same} of one sign"]
    for side, index in ((here, 0), (there, 1)):
        counts = Counter({v: sum(n for pair, n in both.items() if pair[index] == v) for v in VERDICTS})
        out.append(f"{side}: " + ", ".join(f"{counts[v]} {v}" for v in VERDICTS if counts[v]))
    out += agreement.doubts
    if agreement.kinds[0] != agreement.kinds[1]:
        of = "; ".join(f"{side}: {KINDS[kind]}" for side, kind in zip(agreement.sides, agreement.kinds, strict=True))
        out.append(f"CHANGES OF TWO KINDS, which need not agree: {of}")
    main = sum(s.kind == "main" for s in agreement.steps)
    if agreement.tau is None:
        out.append("no rank agreement: fewer than three main steps, or all gains equal")
    else:
        out.append(
            f"rank agreement of the gains of {main} main steps: Kendall's tau {agreement.tau:.2f}; {_why(agreement)}"
        )
    return out


def _why(agreement: Agreement) -> str:
    """What other seeds would make of tau, and what chance would; they are two questions."""
    steps = sum(step.kind == "main" for step in agreement.steps)
    assert agreement.p is not None
    cases = f"in {100 * agreement.p:.0f}% of cases (p = {agreement.p:.2f})"
    chance = f"{steps} steps in random order agree or disagree as much {cases}"
    if agreement.low is None or agreement.high is None:
        return chance
    seeds = f"with other seeds it would be {agreement.low:.2f} to {agreement.high:.2f} (95%), while {chance}"
    if agreement.low > 0 or agreement.high < 0:
        return seeds + (": not made by seeds, but it may be by chance" if agreement.p >= 1 - LEVEL else "")
    return seeds


def side_of(
    sources: Sequence[str],
    where: Mapping[str, str],
    option: str = "--where",
    interval: str = "all",
    without_collapsed: bool = False,
) -> Table | Answer:
    """The one table of studies, or their effects where they have networks beside the walk's; a ladder's published one.

    Raises UserError for several tables, or none.
    """
    from analysis.compare.effect_answer import effects_of
    from analysis.compare.summary import paper_table, summarise
    from analysis.read.load import load
    from ladder.networks.rungs import list_ladders, load_ladder

    if sources[0] in list_ladders():
        return paper_table(load_ladder(sources[0]), interval)
    runs = load(sources)
    if (effects := effects_of(runs, where, interval, without_collapsed=without_collapsed)) is not None:
        return effects
    tables = summarise(runs, where=where, interval=interval)
    if len(tables) > 1:
        names = ", ".join(f"{table.ladder} on {table.data_name}" for table in tables)
        raise UserError(f"{' and '.join(sources)} holds several tables ({names}): keep one with {option} KEY=VALUE")
    return tables[0]


def _name(side: Table | Answer) -> str:
    from analysis.compare.summary import Table

    return f"paper ({side.ladder})" if isinstance(side, Table) and not side.has_runs else side.data_name


@command("agreement", examples=EXAMPLES)
@options.studies()
@click.argument("other", shell_complete=options.ladders, help="a ladder with published numbers, or another study")
@options.output_format("text", "md", "json")
@options.out()
@options.where()
@options.where("--other-where", "only runs of the other study with this value")
@options.interval()
@options.without_collapsed()
def main(
    study: tuple[str, ...],
    other: str,
    kind: str,
    out: Path | None,
    where: dict[str, str],
    other_where: dict[str, str],
    interval: str,
    without_collapsed: bool,
) -> None:
    """Do a study's steps gain what they gained in the paper, or in another study?"""
    from analysis.compare.agreement import compare
    from analysis.show.formats import markdown_grid, text_grid
    from ladder.networks.rungs import list_ladders

    if own := next((name for name in study if name in list_ladders()), None):
        raise UserError(f"{own} is a ladder: give a study first, such as runs/demo")
    ours = side_of(study, where, interval=interval, without_collapsed=without_collapsed)
    theirs = side_of([other], other_where, "--other-where", interval, without_collapsed)
    names = [_name(side) for side in (ours, theirs)]
    if names[0] == names[1]:
        names = [" and ".join(Path(name).name for name in study), Path(other).name]
    found = compare(ours, theirs, (names[0], names[1]))
    if kind == "json":
        content = strict_json(_plain(found), 1)
    else:
        content = {"text": text_grid, "md": markdown_grid}[kind](grid(found))
    deliver(content, out)


def _plain(found: Agreement) -> dict[str, object]:
    def clean(change: Change) -> dict[str, object]:
        known = not math.isnan(change.half)
        ends = {"low": change.low if known else None, "high": change.high if known else None}
        return {"change": change.delta, **ends, "verdict": change.verdict}

    steps = [
        {"rung": s.rung, "title": s.title, "kind": s.kind, "ours": clean(s.ours), "theirs": clean(s.theirs)}
        for s in found.steps
    ]
    return {**asdict(found), "steps": steps}


if __name__ == "__main__":
    run_cli(main)
