"""Owns the chart of a network's signal at the start: outputs and gradients of its parts, a column for each ladder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.show.charts import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.signal import Row
    from ladder.networks.rungs import Ladder

TITLE = "Signal at the start of training"
NOTE = (
    "On normal noise, random labels, logarithmic scales. Blue: the rungs of the ladder; orange, dashed: its top rung;"
    " thin grey: networks with random subsets of the steps, where there are any."
)


def draw(tables: Sequence[tuple[Ladder, Sequence[Row]]], columns: int = 2) -> Figure:
    """Two rows of panels: standard deviation of each part's output, and norm of the gradient by its parameters."""
    with style.context(columns):
        size, width = style.SIZES[columns], style.WIDTHS[columns]
        notes = style.wrap(NOTE, width - 0.12, size - 1)
        panel, left = 1.35, 0.62
        bottom = 0.34 + (size + 1) / 72 * len(notes)
        top = style.title_height(TITLE, columns) + 0.3
        fig = style.figure(columns, bottom + 2 * panel + 0.15 + top)
        each = (width - left - 0.1) / len(tables)
        for below, field in enumerate(("std", "gradient")):
            made = []
            for i, (ladder, rows) in enumerate(tables):
                where = bottom + (1 - below) * (panel + 0.15)
                axes = style.place(fig, left + i * each, where, each - 0.12, panel)
                style.bare(axes, ("bottom", "left"))
                names = [part.part for part in rows[0].parts]
                last = max((row.index for row in rows if row.index is not None), default=0)
                for row in sorted(rows, key=lambda r: -1 if r.index is None else r.index):
                    values = [getattr(part, field) for part in row.parts]
                    colour, line, dash = (style.FAINT, 0.5, "-") if row.index is None else (style.DARK[0], 0.7, "-")
                    if row.index == last:
                        colour, line, dash = style.DARK[1], 1.4, "--"
                    axes.plot(range(len(values)), values, color=colour, linewidth=line, linestyle=dash)
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter("{x:g}")
                axes.yaxis.set_minor_formatter("")
                axes.grid(axis="y")
                axes.set_xticks(range(len(names)), names if below else [""] * len(names))
                if not below:
                    axes.set_title(ladder.name)
                if i == 0:
                    axes.set_ylabel("gradient norm" if below else "std of output")
                made.append(axes)
            low, high = min(a.get_ylim()[0] for a in made), max(a.get_ylim()[1] for a in made)
            for axes in made:
                axes.set_ylim(low, high)
                if axes is not made[0]:
                    axes.tick_params(axis="y", labelleft=False)
        style.title_and_notes(fig, TITLE, notes, size)
        return fig
