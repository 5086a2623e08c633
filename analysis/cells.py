"""Owns the cells of a table: which columns there are, what each says, how numbers are rounded and marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.configs import show
from analysis.stats import Change
from analysis.summary import PAPER_SEEDS, Row, Table

NOISE = "~"  # the mark of a change within seed noise
NONE = "-"


@dataclass(frozen=True)
class Column:
    """One column: its heading, whether it is the paper's, whether its cells stand left."""

    heading: str
    paper: bool = False
    left: bool = False


@dataclass(frozen=True)
class Line:
    """One row of cells. kind: main, side, subset, reference."""

    cells: tuple[str, ...]
    kind: str


@dataclass(frozen=True)
class Grid:
    """A table as text: what every format but csv and json is made from."""

    title: str
    subtitle: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    footnotes: tuple[str, ...]


def grid(table: Table, *, titles: bool = False) -> Grid:
    """The cells of a table; `titles` names rungs in words instead of by the name that one types."""
    unit, scale = macs_unit(table)
    columns = [Column("rung", left=True)]
    if table.has_runs:
        columns += [Column("top-1 % ±std"), Column("seeds"), Column("change ±95%"), Column("params M")]
        columns += [Column(f"MACs {unit}"), Column("images/s")]
    if table.has_paper:
        columns += [Column("top-1 % ±std", True), Column("change ±95%", True), Column("GFLOPs", True)]
    marks: dict[str, str] = {}
    lines = [_line(row, table, scale, titles, marks) for row in table.rows]
    if table.has_paper:
        for ref in table.references:
            top1, gflops = number(ref.paper.top1), number(ref.paper.gflops)
            lines.append(Line((ref.title, *[""] * (len(columns) - 4), top1, "", gflops), "reference"))
    return Grid(heading(table), subtitle(table), tuple(columns), tuple(lines), _footnotes(table, marks))


def heading(table: Table) -> str:
    """What the table is of, in a line."""
    data = f" on {table.data}" if table.data else ""
    choice = "".join(f", {k}={show(v)}" for k, v in table.choice.items())
    return f"{table.title} ({table.ladder}){data}{choice}"


def subtitle(table: Table) -> str:
    """Which number the headline is, and how it was trained."""
    if not table.has_runs:
        return f"as published: {table.source}"
    images = f" ({table.eval_size:,} images)" if table.eval_size else ""
    parts = [f"top-1 of the last epoch on the {table.eval_split} split{images}", f"recipe {table.recipe}"]
    parts += [f"{table.epochs} epochs"] if table.epochs else []
    parts += [f"batch {table.batch_size}"] if table.batch_size else []
    parts += [f"{table.image_size} px"] if table.image_size else []
    return ", ".join(parts)


def macs_unit(table: Table) -> tuple[str, float]:
    """The unit that MACs are shown in, and how many one of it is."""
    largest = max((row.macs for row in table.rows if row.macs), default=0.0)
    return ("G", 1e9) if largest >= 5e8 else ("M", 1e6)


def number(value: float | None, digits: int = 2) -> str:
    """A number with that many decimals; a dash for none."""
    return NONE if value is None or math.isnan(value) else f"{value:.{digits}f}"


def spread(mean: float | None, std: float | None) -> str:
    """`mean ±std`, the std left out where it is not known."""
    if mean is None:
        return NONE
    return f"{mean:.2f}" if std is None or math.isnan(std) else f"{mean:.2f} ±{std:.2f}"


def change_text(change: Change | None) -> str:
    """`+0.54 ±0.20`, and the mark where the interval holds 0."""
    if change is None:
        return NONE
    half = "" if math.isnan(change.half) else f" ±{change.half:.2f}"
    return f"{change.delta:+.2f}{half}{f' {NOISE}' if change.within_noise else ''}"


def name_of(row: Row, titles: bool) -> str:
    """The first cell: number and name; a side rung indented and marked."""
    name = row.title if titles else row.rung
    if row.kind == "main":
        return f"{row.index:>2} {name}"
    return f"   └ {name} (side)" if row.kind == "side" else f"   {name} (not a rung)"


def _line(row: Row, table: Table, scale: float, titles: bool, marks: dict[str, str]) -> Line:
    cells = [name_of(row, titles)]
    if table.has_runs:
        cells += _own_cells(row, scale)
    if table.has_paper:
        paper = row.paper
        mark = ""
        if paper and paper.macs_note:
            mark = f" [{list(marks.setdefault(paper.macs_note, '') or marks).index(paper.macs_note) + 1}]"
        cells += [
            spread(paper.top1, paper.std) if paper else NONE,
            change_text(row.paper_change),
            (number(paper.gflops) if paper else NONE) + mark,
        ]
    return Line(tuple(cells), row.kind)


def _own_cells(row: Row, scale: float) -> list[str]:
    top1 = row.top1
    return [
        spread(top1.mean, top1.std) if top1 else NONE,
        NONE if not row.runs else str(top1.n if top1 else 0) + ("" if top1 and top1.n == row.runs else f"/{row.runs}"),
        change_text(row.change),
        number(row.params / 1e6 if row.params is not None else None),
        number(row.macs / scale if row.macs is not None else None, 3 if scale == 1e9 else 1),
        f"{row.images_per_s:,.0f}" if row.images_per_s else NONE,
    ]


def _footnotes(table: Table, marks: dict[str, str]) -> tuple[str, ...]:
    notes: list[str] = []
    chain = "the base" if table.kind == "star" else "the rung before (a side rung: to the rung that it hangs off)"
    if table.has_runs:
        notes.append(f"change: to {chain}; 95% t interval, paired by seed where both have the same seeds, else Welch's")
    if any(c and c.within_noise for row in table.rows for c in (row.change, row.paper_change)):
        notes.append(f"{NOISE} within seed noise: the interval holds 0")
    if table.has_paper:
        seeds = any(row.paper and row.paper.std is not None for row in table.rows)
        how = f"; std and interval over {PAPER_SEEDS} seeds" if seeds else "; it gives no std, so no interval"
        notes.append(f"paper: {table.source}{how}; its FLOPs are multiply-accumulates")
        if table.has_runs and not table.on_imagenet:
            notes.append(f"the paper's top-1 is on ImageNet, ours on {table.data}: compare the changes, not the values")
    notes += [f"[{i}] {note}" for i, note in enumerate(marks, 1)]
    return (*notes, *table.notes)


def widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """The longest cell of each column."""
    return [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
