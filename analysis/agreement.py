"""Owns the command `ladder agreement`: do a study's steps gain what they gained elsewhere?

Elsewhere is the paper's table, or another study: a small one may be asked how well it foretells a large one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analysis.compare.stats import LEVEL, Change
from analysis.compare.summary import neighbours
from analysis.show import options
from analysis.show.cells import Column, Grid, Line, change_text
from analysis.show.files import deliver
from ladder.common.command import command
from ladder.errors import UserError, run_cli
from ladder.paths import strict_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from analysis.compare.summary import Table

EXAMPLES = """examples:
  ladder agreement runs/cifar10 convnext_t          beside the paper's roadmap
  ladder agreement runs/cifar10 runs/fashion_mnist  beside another study

Steps are matched by name. A step helps or hurts where the 95% interval of its change leaves 0 out; else it is within
seed noise. Two walks compare each step to the nearest one before it that both have. Kendall's tau (-1 to 1) is the
agreement in the order of the gains of the main steps. Its interval says what other seeds would make of it: the gains
of both sides drawn again 2,000 times with their errors. Its p says how often so few steps in random order agree as
well. Seeds may settle a tau that chance could have made, and the other way round.
"""
DRAWS = 2000
_BASE = ""  # no rung is called so
VERDICTS = ("helps", "hurts", "noise", "unknown")


@dataclass(frozen=True)
class Step:
    """One step on both sides: its change of top-1 in points."""

    rung: str
    title: str
    kind: str  # main | side
    ours: Change
    theirs: Change


@dataclass(frozen=True)
class Agreement:
    """How two walks over the same steps agree. `tau` None: fewer than three main steps in common."""

    title: str
    sides: tuple[str, str]
    steps: tuple[Step, ...]
    tau: float | None
    low: float | None  # 95% interval over seed noise; None where a side gives no std
    high: float | None
    p: float | None  # two-sided, of no association
    kinds: tuple[str, str]  # of the two ladders: chain | star
    interval: str = "all"  # all: the intervals of a side hold at once; each: one by one


def compare(ours: Table, theirs: Table, sides: tuple[str, str]) -> Agreement:
    """The steps that both tables have. `theirs` may be published numbers alone. Raises UserError for fewer than two."""
    both = list(zip((ours, theirs), _common(ours, theirs), strict=True))
    here, there = (_gains(table, rungs) for table, rungs in both)
    steps = [
        Step(row.rung, row.title, row.kind, here[row.rung], there[row.rung])
        for row in ours.rows
        if row.rung in here and row.rung in there
    ]
    if len(steps) < 2:
        raise UserError(f"{sides[0]} and {sides[1]} have {len(steps)} finished steps in common: at least 2 are needed")
    main = [step.rung for step in steps if step.kind == "main"]
    tau = low = high = p = None
    if len(main) > 2:
        from scipy.stats import kendalltau

        gains = [[getattr(s, side).delta for s in steps if s.kind == "main"] for side in ("ours", "theirs")]
        found = kendalltau(*gains)
        if not math.isnan(found.statistic):  # all gains equal on a side: no order
            tau, p = float(found.statistic), float(found.pvalue)
            low, high = _interval(*(_drawn(table, rungs, main, seed) for seed, (table, rungs) in enumerate(both)))
    title = f"{ours.title}: {sides[0]} beside {sides[1]}"
    return Agreement(title, sides, tuple(steps), tau, low, high, p, (ours.kind, theirs.kind), ours.interval)


def _common(*tables: Table) -> list[set[str]]:
    """The rungs of each table that all have a top-1 of, of runs or of published numbers; bases by place, not name."""
    known = []
    for table in tables:
        rows = [row for row in table.rows if row.kind in ("main", "side")]
        known.append(
            {
                _BASE if row.index == 0 else row.rung: row.rung
                for row in rows
                if (row.top1 if table.has_runs else row.paper and row.paper.top1 is not None)
            }
        )
    if len({table.kind for table in tables}) > 1:  # changes of two kinds: each side its own
        return [set(names.values()) for names in known]
    common = set.intersection(*(set(names) for names in known))
    return [{names[name] for name in common} for names in known]


def _gains(table: Table, rungs: set[str]) -> dict[str, Change]:
    """The change of each rung to the nearest of `rungs` before it; the intervals of a side hold at once."""
    model = table.fit if table.has_runs else table.paper_fit
    pairs = [(before, rung) for rung, before in neighbours(table.rows, rungs).items()]
    found = model.changes(pairs, LEVEL, table.interval) if model is not None else []
    return {rung: change for (_, rung), change in zip(pairs, found, strict=True) if change is not None}


def _drawn(table: Table, rungs: set[str], main: Sequence[str], seed: int) -> NDArray[np.float64] | None:
    """Gains of the steps `main` with other seeds, (DRAWS, steps); None where their noise is not known."""
    model = table.fit if table.has_runs else table.paper_fit
    before = neighbours(table.rows, rungs)
    return None if model is None else model.draws([(before[rung], rung) for rung in main], DRAWS, seed)


def _interval(
    ours: NDArray[np.float64] | None, theirs: NDArray[np.float64] | None
) -> tuple[float, float] | tuple[None, None]:
    if ours is None or theirs is None:
        return None, None
    import numpy as np
    from scipy.stats import kendalltau

    taus = [kendalltau(a, b).statistic for a, b in zip(ours, theirs, strict=True)]
    low, high = np.nanquantile(taus, [0.025, 0.975])
    return float(low), float(high)


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
    here, there = agreement.sides
    both = Counter((s.ours.verdict, s.theirs.verdict) for s in agreement.steps)
    clear = [s for s in agreement.steps if {s.ours.verdict, s.theirs.verdict} <= {"helps", "hurts"}]
    same = sum(s.ours.verdict == s.theirs.verdict for s in clear)
    out = [f"clear of seed noise on both sides: {len(clear)} of {len(agreement.steps)} steps, {same} of one sign"]
    for side, index in ((here, 0), (there, 1)):
        counts = Counter({v: sum(n for pair, n in both.items() if pair[index] == v) for v in VERDICTS})
        out.append(f"{side}: " + ", ".join(f"{counts[v]} {v}" for v in VERDICTS if counts[v]))
    if agreement.kinds[0] != agreement.kinds[1]:
        words = {"chain": "from the rung before", "star": "from the base"}
        of = "; ".join(f"{side}: {words[kind]}" for side, kind in zip(agreement.sides, agreement.kinds, strict=True))
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


def table_of(source: str, where: Mapping[str, str], option: str = "--where", interval: str = "all") -> Table:
    """The one table of a study, or the published one of a ladder. Raises UserError for several tables, or none."""
    from analysis.compare.summary import paper_table, summarise
    from analysis.read.load import load
    from ladder.networks.rungs import list_ladders, load_ladder

    if source in list_ladders():
        return paper_table(load_ladder(source), interval)
    tables = summarise(load(source), where=where, interval=interval)
    if len(tables) > 1:
        names = ", ".join(f"{table.ladder} on {table.data_name}" for table in tables)
        raise UserError(f"{source} holds several tables ({names}): keep one with {option} KEY=VALUE")
    return tables[0]


@command("agreement", examples=EXAMPLES)
@options.study()
@click.argument("other", shell_complete=options.ladders, help="a ladder with published numbers, or another study")
@options.output_format("text", "md", "json")
@options.out()
@options.where()
@options.where("--other-where", "only runs of the other study with this value")
@options.interval()
def main(
    study: str,
    other: str,
    kind: str,
    out: Path | None,
    where: dict[str, str],
    other_where: dict[str, str],
    interval: str,
) -> None:
    """Do a study's steps gain what they gained in the paper, or in another study?"""
    from analysis.show.formats import markdown_grid, text_grid

    ours = table_of(study, where, interval=interval)
    if not ours.has_runs:
        raise UserError(f"{study} is a ladder: give a study first, such as runs/demo")
    theirs = table_of(other, other_where, "--other-where", interval)
    names = [f"paper ({t.ladder})" if not t.has_runs else t.data_name for t in (ours, theirs)]
    if names[0] == names[1]:
        names = [Path(study).name, Path(other).name]
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
