"""Owns accuracy over one number of the spec: kernel size, patch size, width, depth; ours beside the paper's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.show.charts import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.compare.summary import Table
    from ladder.networks.rungs import Ladder, Rung


@dataclass(frozen=True)
class Line:
    """Networks that differ in one number alone: (number, top-1 in percent, std or None), in order of the number."""

    label: str
    points: tuple[tuple[int, float, float | None], ...]
    paper: bool


@dataclass(frozen=True)
class Panel:
    """All lines over one field of the spec."""

    field: str
    lines: tuple[Line, ...]


def panels(table: Table, ladder: Ladder, *, paper: bool = False) -> list[Panel]:
    """A panel for each number of the spec that a ladder varies with at least three known accuracies.

    With `paper` the published accuracies alone; else ours, and the paper's where both are on one data set.
    """
    rungs = [*ladder.rungs, *ladder.side_rungs]
    out = []
    for field in rungs[0].spec.field_names():
        groups = [g for g in _alike(rungs, field) if len(g) > 2]
        differing = _differing(groups, field)
        groups.sort(key=lambda group: [str(getattr(group[0].spec, n)).zfill(12) for n in differing])
        lines = []
        for group in groups:
            label = ", ".join(f"{_words(name)} {getattr(group[0].spec, name)}" for name in differing)
            if not paper:
                lines.append(Line(label or "ours", _points(table, group, field, paper=False), False))
            if paper or table.on_paper_data:
                lines.append(Line(label or "the paper's", _points(table, group, field, paper=True), True))
        lines = [line for line in lines if len(line.points) > 1]
        ours = [line for line in lines if paper or not line.paper]
        if any(len(line.points) > 2 for line in ours):
            out.append(Panel(field, tuple(lines)))
    return out


def _alike(rungs: Sequence[Rung], field: str) -> list[list[Rung]]:
    """The rungs parted into those that are equal but for `field`, which is a whole number."""
    parts: dict[str, list[Rung]] = {}
    for rung in rungs:
        spec = rung.spec.to_dict()
        value = spec.pop(field)
        if isinstance(value, int) and not isinstance(value, bool):
            parts.setdefault(f"{spec} {sorted(rung.recipe.items())}", []).append(rung)
    for part in parts.values():
        part.sort(key=lambda rung: getattr(rung.spec, field))
    return list(parts.values())


def _differing(groups: Sequence[Sequence[Rung]], field: str) -> list[str]:
    """The other fields that tell groups apart."""
    specs = [group[0].spec for group in groups]
    names = specs[0].field_names() if specs else ()
    return [n for n in names if n != field and len({str(getattr(s, n)) for s in specs}) > 1]


def _points(
    table: Table, group: Sequence[Rung], field: str, *, paper: bool
) -> tuple[tuple[int, float, float | None], ...]:
    out = []
    for rung in group:
        row = table.row(rung.name)
        found = row and (row.paper if paper else row.top1)
        top1 = getattr(found, "top1" if paper else "mean", None)
        std = getattr(found, "std", None)
        if top1 is not None:
            out.append((getattr(rung.spec, field), top1, None if std is None or math.isnan(std) else std))
    return tuple(out)


def _words(field: str) -> str:
    return field.replace("_", " ")


def draw(table: Table, ladder: Ladder, *, paper: bool = False, columns: int = 2) -> Figure | None:
    """The panels side by side on one scale of accuracy; None where a ladder varies no number often enough."""
    data = panels(table, ladder, paper=paper)
    if not data:
        return None
    with style.context(columns):
        size, width = style.SIZES[columns], style.WIDTHS[columns]
        notes = style.wrap(_caption(table, data, paper), width - 0.12, size - 1)
        title = f"{table.title}: {' and '.join(_words(panel.field) for panel in data)}"
        key = (size + 3) / 72 * max(_entries(panel) for panel in data)
        across = min(2, len(data))
        rows = -(-len(data) // across)
        tall = 2.0 if columns == 2 else 1.6
        cell, bottom = tall + 0.42 + key, 0.1 + (size + 1) / 72 * len(notes)
        fig = style.figure(columns, style.title_height(title, columns) + 0.1 + cell * rows + bottom)
        left = 0.62 if columns == 2 else 0.56
        wide = (width - left - 0.02) / across
        values = [(y, std or 0) for panel in data for line in panel.lines for _, y, std in line.points]
        low, high = min(y - s for y, s in values), max(y + s for y, s in values)
        pad = 0.16 * (high - low) or 0.5
        for i, panel in enumerate(data):
            row, place = divmod(i, across)
            up = bottom + cell * (rows - 1 - row) + 0.42 + key
            axes = style.place(fig, left + place * wide, up, wide - 0.16, tall)
            _panel(axes, panel, size, -0.36 / tall)
            axes.set_ylim(low - pad, high + pad)
            axes.tick_params(labelleft=place == 0)
            if place == 0:
                axes.set_ylabel(style.top1_label(table, paper))
        style.title_and_notes(fig, title, notes, size)
        return fig


def _entries(panel: Panel) -> int:
    return len(panel.lines) if len(panel.lines) > 1 else 0


def _panel(axes: Axes, panel: Panel, size: float, key_at: float) -> None:
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    style.bare(axes, ("bottom", "left"))
    alone = sum(not line.paper for line in panel.lines) <= 1
    labels = list(dict.fromkeys(line.label for line in panel.lines if not line.paper)) or [panel.lines[0].label]
    for line in panel.lines:
        n = 0 if alone else labels.index(line.label)
        colour = style.INK if line.paper and alone else style.DARK[n % len(style.DARK)]
        xs, ys = [x for x, _, _ in line.points], [y for _, y, _ in line.points]
        bars = [std or 0.0 for _, _, std in line.points]
        name = line.label if alone or not line.paper else f"{line.label}, the paper's"
        axes.errorbar(
            *(xs, ys),
            yerr=bars if any(bars) else None,
            color=colour,
            ls="--" if line.paper else "-",
            marker="D" if line.paper else style.MARKERS[n % len(style.MARKERS)],
            mfc=style.PAPER if line.paper else colour,
            ms=4,
            capsize=2,
            elinewidth=0.8,
            label=name,
        )
        if len(panel.lines) == 1 or (alone and len(panel.lines) == 2):
            # with two lines the higher one is labelled above and the lower one below
            others = [y for other in panel.lines if other is not line for _, y, _ in other.points]
            above = not others or sum(ys) / len(ys) >= sum(others) / len(others)
            for (x, y, _), bar in zip(line.points, bars, strict=True):
                axes.annotate(
                    f"{y:.2f}",
                    (x, y + bar if above else y - bar),
                    xytext=(0, 4 if above else -4),
                    textcoords="offset points",
                    ha="center",
                    va="bottom" if above else "top",
                    fontsize=size - 0.8,
                    color=colour,
                    bbox={"fc": style.PAPER, "ec": "none", "pad": 0.4},  # a line may run behind it
                )
    xs = sorted({x for line in panel.lines for x, _, _ in line.points})
    if all(b * xs[0] == a * xs[1] for a, b in itertools.pairwise(xs)):  # each as many times the one before
        axes.set_xscale("log")
        room = (xs[-1] / xs[0]) ** 0.16
        axes.set_xlim(xs[0] / room, xs[-1] * room)
        axes.minorticks_off()
    else:
        room = 0.16 * (xs[-1] - xs[0])
        axes.set_xlim(xs[0] - room, xs[-1] + room)
    axes.set_xticks(xs, [str(x) for x in xs])
    axes.set_xlabel(_words(panel.field), labelpad=1)
    if _entries(panel):
        style.key_below(axes, key_at, *axes.get_legend_handles_labels())


def _caption(table: Table, data: Sequence[Panel], paper: bool) -> str:
    if paper:
        return f"Published: {table.source}."
    parts = [f"Last epoch on the {table.eval_split} split, {table.training}"]
    lines = [line for panel in data for line in panel.lines]
    if any(std for line in lines for _, _, std in line.points):
        parts.append("bars: ± std over seeds")
    if any(line.paper for line in lines):
        parts.append(f"dashed: {table.source}")
    return "; ".join(parts) + "."
