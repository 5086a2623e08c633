"""Owns the dot-and-interval chart: what each step changed, with its 95% interval; for ablations and for chains."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from analysis.compare.layout import chart_order
from analysis.show.cells import interval_words
from analysis.show.charts import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.compare.layout import Row
    from analysis.compare.stats import Change
    from analysis.compare.summary import Table


def draw(table: Table, *, paper: bool = False, columns: int = 2) -> Figure | None:
    """The change of each rung to the one before (in a star: to the base); None where no change is known.

    Filled: the interval leaves 0 out. Hollow: within seed noise. A cross: no interval is known.
    """
    ordered = chart_order(table.shown)
    rows = [(row, change) for row in ordered if (change := row.paper_change if paper else row.change) is not None]
    if not rows:
        return None
    with style.context(columns):
        size, width = style.SIZES[columns], style.WIDTHS[columns]
        notes = style.wrap(_caption(table, rows, paper), width - 0.12, size - 1)
        line = 0.2 if columns == 2 else 0.17
        title = f"{table.title}: what each step changed"
        top, bottom = style.title_height(title, columns), 0.46 + (size + 1) / 72 * len(notes)
        fig = style.figure(columns, top + bottom + line * len(rows))
        labels = [style.fit(fig, _label(table, row), 0.45 * width, size, 2) for row, _ in rows]
        left = 0.06 + style.text_width(fig, [x for label in labels for x in label.split("\n")], size) + 0.08
        numbers = style.text_width(fig, [_number(c) for _, c in rows], size - 0.6) + 0.06
        axes = style.place(fig, left, bottom, width - left - numbers - 0.1, line * len(rows))
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        style.bare(axes)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.axvline(0, color=style.INK, lw=0.8, zorder=1.5)
        for y, (row, change) in enumerate(rows):
            _dot(axes, y, row, change)
            if theirs := _published(table, row, paper):
                axes.plot(theirs.delta, y, "D", ms=3.6, mfc=style.PAPER, mec=style.INK, mew=0.7, zorder=2.5)
            axes.annotate(
                *(_number(change), (1, y)),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=size - 0.6,
                annotation_clip=False,
            )
        ends = [0.0] + [theirs.delta for row, _ in rows if (theirs := _published(table, row, paper))]
        ends += [v for _, c in rows for v in ((c.delta,) if math.isnan(c.half) else (c.low, c.high))]
        pad = 0.06 * (max(ends) - min(ends)) or 0.5
        axes.set_xlim(min(ends) - pad, max(ends) + pad)
        axes.set_yticks(range(len(rows)), labels)
        axes.tick_params(axis="y", length=0, pad=3)
        to = "the base" if table.kind == "star" else "the rung before"
        # of narrow axes the label is the wider, and there is room at their left only
        axes.set_xlabel(f"change of top-1 to {to} (points)", loc="right" if columns == 1 else "center")
        style.title_and_notes(fig, title, notes, size)
        return fig


def _published(table: Table, row: Row, paper: bool) -> Change | None:
    """The paper's change, to stand beside ours where both are on one data set."""
    return row.paper_change if table.on_paper_data and not paper else None


def _dot(axes: object, y: int, row: Row, change: Change) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    colour = style.DARK[1] if change.delta < 0 else style.DARK[0]
    if math.isnan(change.half):
        axes.plot(change.delta, y, marker="x", color=style.INK, ms=4, mew=1.2, zorder=3, label=row.rung)
        return
    face = style.PAPER if change.within_noise else colour
    axes.errorbar(
        *(change.delta, y),
        xerr=change.half,
        fmt="s" if row.kind == "side" else "o",
        ms=4.2,
        color=colour,
        mfc=face,
        elinewidth=1.1,
        capsize=2,
        zorder=3,
        label=row.rung,
    )


def _number(change: Change) -> str:
    half = "" if math.isnan(change.half) else f" ±{change.half:.2f}"
    return f"{change.delta:+.2f}{half}"


def _label(table: Table, row: Row) -> str:
    """The step, and what it is compared to where that is not its neighbour."""
    before = table.row(row.against) if row.against != row.parent else None
    return row.title if before is None else f"{row.title} (to {before.title})"


def _caption(table: Table, rows: list[tuple[Row, Change]], paper: bool) -> str:
    changes = [change for _, change in rows]
    parts = [
        f"Published: {table.source}" if paper else f"{table.data_name}, {table.eval_split} split, {table.training}"
    ]
    if any(not math.isnan(c.half) for c in changes):
        parts.append(f"bars: {interval_words(table)}")
    if any(c.within_noise for _, c in rows):
        parts.append("hollow: within seed noise")
    if any(math.isnan(c.half) for c in changes):
        parts.append("cross: no interval, too few seeds" if not paper else "cross: the paper gives no std")
    if any(row.kind == "side" for row, _ in rows):
        parts.append("square: not adopted")
    if any(_published(table, row, paper) for row, _ in rows):
        parts.append("diamond: the paper's")
    return "; ".join(parts) + "."
