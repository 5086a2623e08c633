"""Owns the cells of a table: which columns there are, what each says, how numbers are rounded and marked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from analysis.compare.layout import Row
from analysis.compare.stats import Change
from analysis.compare.summary import PAPER_SEEDS, Table
from analysis.read.configs import show
from ladder.common.text import printable

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
    """A table as text, all of it printable: what every format but csv and json is made from."""

    title: str
    subtitle: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    footnotes: tuple[str, ...]

    def __post_init__(self) -> None:
        """Titles and names may be of anybody's ladder file or study."""
        made = {
            "title": printable(self.title),
            "subtitle": printable(self.subtitle),
            "columns": tuple(replace(column, heading=printable(column.heading)) for column in self.columns),
            "lines": tuple(replace(line, cells=tuple(map(printable, line.cells))) for line in self.lines),
            "footnotes": tuple(map(printable, self.footnotes)),
        }
        for name, value in made.items():
            object.__setattr__(self, name, value)


def grid(table: Table, *, titles: bool = False) -> Grid:
    """The cells of a table; `titles` names rungs in words instead of by the name that one types."""
    unit, scale = macs_unit(row.macs for row in table.rows)
    far = [row for row in table.shown if _skips(row)]
    columns = [Column("rung", left=True)]
    if table.has_runs:
        columns += [Column("top-1 % ±std"), Column("seeds"), Column("change ±95%")]
        columns += [Column("to", left=True)] if far else []
        columns += [Column("params M"), Column(f"MACs {unit}"), Column("images/s")]
    gflops = _prints_gflops(table)
    if table.has_paper:
        columns += [Column("top-1 % ±std", True), Column("change ±95%", True)]
        columns += [Column("GFLOPs", True)] if gflops else []
    marks: dict[str, str] = {}
    lines = [_line(row, table, scale, titles, marks, bool(far)) for row in table.shown]
    if table.has_paper:
        for ref in table.references:
            theirs = [number(ref.paper.top1) + _mark(ref.paper.note, marks), ""]
            theirs += [number(ref.paper.gflops)] if gflops else []
            lines.append(Line((ref.title, *[""] * (len(columns) - 1 - len(theirs)), *theirs), "reference"))
    return Grid(heading(table), subtitle(table), tuple(columns), tuple(lines), _footnotes(table, marks))


def _prints_gflops(table: Table) -> bool:
    papers = [*(row.paper for row in table.rows), *(ref.paper for ref in table.references)]
    return any(paper is not None and paper.gflops is not None for paper in papers)


def _mark(note: str | None, marks: dict[str, str]) -> str:
    """The mark of a footnote, a new one or one given before; nothing for no note."""
    if not note:
        return ""
    marks.setdefault(note, "")
    return f" [{list(marks).index(note) + 1}]"


def heading(table: Table) -> str:
    """What the table is of, in a line."""
    data = f" on {table.data_name}" if table.data else ""
    choice = "".join(f", {k}={show(v)}" for k, v in table.choice.items())
    return f"{table.title} ({table.ladder}){data}{choice}"


def subtitle(table: Table) -> str:
    """Which number the headline is, and how it was trained."""
    if not table.has_runs:
        return f"as published: {table.source}"
    images = f" ({table.eval_size:,} images)" if table.eval_size else ""
    parts = [f"top-1 of the last epoch on the {table.eval_split} split{images}", table.training]
    parts += [f"batch {table.batch_size}"] if table.batch_size else []
    parts += [f"{table.image_size} px"] if table.image_size else []
    return ", ".join(parts)


def macs_unit(macs: Iterable[float | None]) -> tuple[str, float]:
    """The unit that these MACs are shown in, and how many one of it is."""
    largest = max(filter(None, macs), default=0.0)
    return ("G", 1e9) if largest >= 5e8 else ("M", 1e6)


def number(value: float | None, digits: int = 2) -> str:
    """A number with that many decimals; a dash for none."""
    return NONE if value is None or math.isnan(value) else f"{value:.{digits}f}"


def signed(value: float, digits: int = 1) -> str:
    """A difference with so many decimals and its sign; what rounds to nothing has none."""
    return f"{0.0:.{digits}f}" if round(value, digits) == 0 else f"{value:+.{digits}f}"


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
    name = (row.title if titles else row.rung) + (" !" if row.doubts else "")
    if row.kind == "main":
        return f"{row.index:>2} {name}"
    if row.kind == "reference":
        return name
    return f"   └ {name} (side)" if row.kind == "side" else f"   {name} (not a rung)"


def _skips(row: Row) -> bool:
    """Whether a change is to another rung than the neighbour."""
    return row.change is not None and row.against != row.parent


def _line(row: Row, table: Table, scale: float, titles: bool, marks: dict[str, str], far: bool) -> Line:
    cells = [name_of(row, titles)]
    if table.has_runs:
        top1, seeds, change, *rest = _own_cells(row, scale)
        before = table.row(row.against) if _skips(row) else None
        to = "" if before is None else before.title if titles else before.rung
        cells += [top1, seeds, change, *([to] if far else []), *rest]
    if table.has_paper:
        paper = row.paper
        top1 = spread(paper.top1, paper.std) + _mark(paper.note, marks) if paper else NONE
        cells += [top1, change_text(row.paper_change)]
        if _prints_gflops(table):
            cells.append(number(paper.gflops) + _mark(paper.macs_note, marks) if paper else NONE)
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
    if table.has_runs:
        notes.append("; ".join(filter(None, (f"change: to {_before(table)}", _interval(table)))))
    if any(c and c.within_noise for row in table.shown for c in (row.change, row.paper_change)):
        kind = "seed noise" if table.noise == "seeds" else "noise"
        notes.append(f"{NOISE} within {kind}: the interval holds 0")
    if table.has_paper:
        seeds = any(row.paper and row.paper.std is not None for row in table.rows)
        how = f"; std over {PAPER_SEEDS} seeds, intervals alike" if seeds else "; it gives no std, so no interval"
        flops = "; its FLOPs are multiply-accumulates" if _prints_gflops(table) else ""
        notes.append(f"paper: {table.source}{how}{flops}")
        if table.has_runs and not table.on_paper_data:
            known = f"the paper's top-1 is on {table.paper_data_name}, ours on {table.data_name}"
            notes.append(f"{known}: compare the changes, not the values")
    if any(row.kind == "reference" for row in table.rows):
        notes.append("below the ladder: references, models of timm trained by the same recipe on the same data")
    notes += [f"[{i}] {note}" for i, note in enumerate(marks, 1)]
    return (*notes, *table.notes)


def _before(table: Table) -> str:
    """What the changes are to."""
    if table.kind == "star":
        return "the base"
    side = " (a side rung: to the rung that it hangs off)" if any(row.kind == "side" for row in table.shown) else ""
    named = ", or where that was not trained to the nearest one before it" if any(map(_skips, table.shown)) else ""
    return f"the rung before{side}{named}"


def interval_words(table: Table) -> str:
    """Which intervals the changes have."""
    at_once = table.interval == "all" and sum(row.change is not None for row in table.shown) != 1
    return "95% interval" + (", for all changes at once" if at_once else "")


def _interval(table: Table) -> str:
    """What the intervals of the changes are, and what they stand on."""
    model = table.fit
    if model is None or not model.components:
        return ""
    if any(part.freedom != math.inf for part in model.components):
        pooled = f"by the spread of all runs ({model.std:.2f}, {model.freedom:.0f} degrees of freedom)"
        how = [pooled if model.freedom else "", "within seeds" if model.blocked else ""]
        how += ["and the test images, for others of both kinds"] if table.noise == "both" else []
    else:
        how = ["for other test images, of the same runs"]
    return "; ".join(filter(None, (f"±: {interval_words(table)}", " ".join(filter(None, how)))))


def widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """The longest cell of each column."""
    return [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
