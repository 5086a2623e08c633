"""Owns accuracy against cost: top-1 over MACs or over measured throughput, a bubble's area its parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from analysis.compare.layout import chart_order
from analysis.show.charts import style
from analysis.show.charts.labels import place_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.compare.summary import Table


MOST_NAMED = 20  # points that can be told apart by a number each


@dataclass(frozen=True)
class Point:
    """One network: x and top-1 with their unit on the axis, params a count; `series` joins points by a line."""

    label: str
    x: float
    top1: float
    std: float | None = None
    params: float | None = None
    series: str = ""
    hollow: bool = False  # a variant that was not adopted
    mark: str = "o"  # D: a reference
    part: str = ""  # of a series: points of another part are not joined
    colour: str = ""
    number: str = ""  # of a rung in its ladder


def rung_points(table: Table, x: str, *, paper: bool = False) -> list[Point]:
    """The rungs of a table as points. `x`: macs (1e9) or images_per_s (ours alone)."""
    out = []
    colours = style.of_rows(table.rows)
    for row in chart_order(table.rows):
        if paper:
            value = row.paper.gflops if row.paper else None
            if row.paper and row.paper.macs_note and row.macs:
                value = row.macs / 1e9  # the printed figure is doubted
            top1, std = (row.paper.top1, row.paper.std) if row.paper else (None, None)
            params = row.params
        else:
            given = row.macs if x == "macs" else row.images_per_s
            value = None if given is None else given / 1e9 if x == "macs" else given
            top1, std = (row.top1.mean, row.top1.std) if row.top1 else (None, None)
            params = row.params
        if value is None or top1 is None:
            continue
        std = None if std is None or math.isnan(std) else std
        point = Point(row.title, value, top1, std, params, hollow=row.kind == "side", colour=colours[row.rung])
        if row.kind == "main":
            point = replace(point, number=str(row.index), series="ladder" if table.kind == "chain" else "")
        out.append(replace(point, mark="D") if row.kind == "reference" else point)
    return out


def draw_ladder(table: Table, x: str, *, paper: bool = False, columns: int = 2) -> Figure | None:
    """The walk of a ladder through the plane of cost and accuracy; None where fewer than two rungs have both."""
    points = rung_points(table, x, paper=paper)
    if len(points) < 2:
        return None
    label = style.top1_label(table, paper)
    small = x == "macs" and max(p.x for p in points) < 0.5
    if small:
        points = [replace(p, x=p.x * 1e3) for p in points]
    name = f"MACs ({'M' if small else 'G'})" if x == "macs" else "training throughput (images/s)"
    notes = [f"Published: {table.source}" if paper else f"Last epoch on the {table.eval_split} split"]
    if doubted := [row.paper for row in table.rows if x == "macs" and paper and row.paper and row.paper.macs_note]:
        printed = " and ".join(f"{one.gflops:.2f}" for one in doubted if one.gflops is not None)
        notes.append(f"MACs as counted where the printed ones ({printed}) are doubted")
    if any(p.std is not None for p in points):
        notes.append("bars: ± std over seeds")
    if any(p.hollow for p in points):
        notes.append("hollow: not adopted")
    if any(p.mark == "D" for p in points):
        notes.append("diamonds: references, trained by the same recipe")
    if len(points) > MOST_NAMED:
        notes.append(f"named: no other is both better and {'cheaper' if x == 'macs' else 'faster'}")
    return _draw(points, name, label, table.title, notes, columns, cheap=1 if x == "macs" else -1)


def _draw(
    points: Sequence[Point],
    x_label: str,
    y_label: str,
    title: str,
    notes: Sequence[str],
    columns: int,
    cheap: int = 1,
) -> Figure:
    """Points joined along the ladder, a number or a letter beside each, their names in a column at the right.

    Of more than `MOST_NAMED` those alone are named that none beats in both; `cheap`: -1 where more of x is better.
    """
    with style.context(columns):
        size, width = style.SIZES[columns], style.WIDTHS[columns]
        known = [p.params for p in points if p.params]
        if known:
            notes = [*notes, f"area: parameters, {_million(min(known))} to {_million(max(known))}"]
        if len(points) > MOST_NAMED:
            front = _front(points, cheap)
            points = [p if p in front else replace(p, label="") for p in points]
        points = _numbered(points)
        named = [p for p in points if p.number]
        if columns == 1:  # no room for names beside the points: below
            notes = [*notes, ", ".join(f"{p.number} {p.label}" for p in named)]
        lines = style.wrap("; ".join(notes) + ".", width - 0.12, size - 1)
        bottom = 0.46 + (size + 1) / 72 * len(lines)
        height = 2.3 if columns == 1 else 3.2
        scratch = style.figure(columns, 1)
        names = [] if columns == 1 else [style.fit(scratch, p.label, 0.36 * width, size - 0.6, 4) for p in named]
        row = (size + 2.2) / 72
        height = max(height, row * sum(name.count("\n") + 1.2 for name in names))
        fig = style.figure(columns, style.title_height(title, columns) + 0.13 + bottom + height)
        left = 0.5 if columns == 1 else 0.58
        words = style.text_width(fig, [line for name in names for line in name.split("\n")], size - 0.6)
        key = words + 0.42 if names else 0.0
        axes = style.place(fig, left, bottom, width - left - key - 0.12, height)
        areas = _bubbles(axes, points, max(known) if known else None, columns)
        least = min(p.x for p in points)
        if least > 0 and max(p.x for p in points) >= 10 * least:
            axes.set_xscale("log")
            axes.set_xlim(least / 1.25, max(p.x for p in points) * 1.25)
            _plain_log_ticks(axes)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        place_labels(
            axes,
            [replace(p, label=p.number) for p in points],
            size - 0.6,
            [area**0.5 / 2 for area in areas],
            joined=True,
        )
        _key(fig, named, names, size - 0.6, width - key + 0.02, bottom + height, row)
        style.title_and_notes(fig, title, lines, size)
        return fig


def _numbered(points: Sequence[Point]) -> list[Point]:
    """The points with the rung's number, or a letter where there is none; those without a name have neither."""
    letters = iter("abcdefghijklmnopqrstuvwxyz" * (len(points) // 26 + 1))
    return [replace(p, number=(p.number or next(letters)) if p.label else "") for p in points]


def _front(points: Sequence[Point], cheap: int) -> list[Point]:
    """Those that no other beats in both cost and accuracy, the cheapest first."""
    out: list[Point] = []
    for p in sorted(points, key=lambda p: (cheap * p.x, -p.top1)):
        if not out or p.top1 > out[-1].top1:
            out.append(p)
    return out


def _bubbles(axes: Axes, points: Sequence[Point], most: float | None, columns: int) -> list[float]:
    """Draw the points; the area of each, in square typographic points."""
    axes.grid(True)
    axes.set_axisbelow(True)
    style.bare(axes, ("bottom", "left"))
    chain = [p for p in points if p.series]
    axes.plot([p.x for p in chain], [p.top1 for p in chain], color=style.PATH, lw=0.9, zorder=2, label="_chain")
    largest = 90 if columns == 2 else 45
    areas = [largest * (max(p.params / most, 0.06) if p.params and most else 0.3) for p in points]  # the least is seen
    for p, area in zip(points, areas, strict=True):
        if p.std is not None:
            axes.errorbar(p.x, p.top1, yerr=p.std, color=style.INK, elinewidth=0.7, fmt="none", zorder=2.5)
        drawn = axes.scatter([p.x], [p.top1], s=area, marker=p.mark, zorder=3, label=p.label)
        drawn.set(**_face(p))
    xs = [p.x for p in points]
    ys = [p.top1 + d for p in points for d in (-(p.std or 0), p.std or 0)]
    for low, high, set_limits in ((min(xs), max(xs), axes.set_xlim), (min(ys), max(ys), axes.set_ylim)):
        pad = 0.07 * (high - low) or 0.05 * abs(high) or 1
        set_limits(low - pad, high + pad)
    return areas


def _face(p: Point) -> dict[str, Any]:
    """How a point is filled and edged: hollow in its colour where it was not adopted."""
    colour = p.colour or style.COLOURS[0]
    if p.hollow:
        return {"facecolor": style.PAPER, "edgecolor": colour, "linewidth": 1.3}
    return {"facecolor": colour, "edgecolor": style.INK, "linewidth": 0.7}


def _key(
    fig: Figure, points: Sequence[Point], names: Sequence[str], size: float, left: float, top: float, row: float
) -> None:
    """The names in a column from `left` and `top` (inches) on, each after its number and a mark in its colour."""
    from matplotlib.lines import Line2D

    wide, tall = fig.get_size_inches()
    for p, name in zip(points, names, strict=False):
        y = (top - 0.5 * row) / tall
        look = _face(p)
        mark = {"mfc": look["facecolor"], "mec": look["edgecolor"], "mew": look["linewidth"], "ms": 4}
        fig.add_artist(Line2D([(left + 0.05) / wide], [y], marker=p.mark, ls="none", **mark))
        fig.text((left + 0.26) / wide, y, p.number, fontsize=size, va="center", ha="right")
        fig.text((left + 0.32) / wide, (top - 0.1 * row) / tall, name, fontsize=size, va="top")
        top -= (name.count("\n") + 1.2) * row


def _million(count: float) -> str:
    return f"{count / 1e6:.0f} M" if count >= 1e7 else f"{count / 1e6:.2f} M"


def draw_families(
    points: Sequence[Point], x_label: str, title: str, notes: Sequence[str], columns: int = 2, *, log: bool = True
) -> Figure:
    """Families of networks, each a line with its own colour and mark; a point's name beside it."""
    with style.context(columns):
        size, width = style.SIZES[columns], style.WIDTHS[columns]
        known = [p.params for p in points if p.params]
        lines = style.wrap(
            "; ".join([*notes, "area: parameters" if known else ""]).strip("; ") + ".", width - 0.12, size - 1
        )
        bottom = 0.46 + (size + 1) / 72 * len(lines)
        height = 2.3 if columns == 1 else 3.6
        fig = style.figure(columns, style.title_height(title, columns) + 0.13 + bottom + height)
        left = 0.5 if columns == 1 else 0.58
        axes = style.place(fig, left, bottom, width - left - 0.12, height)
        axes.grid(True)
        axes.set_axisbelow(True)
        style.bare(axes, ("bottom", "left"))
        if log:
            axes.set_xscale("log")
        families = list(dict.fromkeys(p.series for p in points))
        most, largest = max(known, default=1.0), 160 if columns == 2 else 70
        areas_of = {id(p): largest * max((p.params or most * 0.3) / most, 0.09) for p in points}  # square points
        for i, family in enumerate(families):
            mine = sorted((p for p in points if p.series == family), key=lambda p: p.x)
            colour, mark = style.COLOURS[i % len(style.COLOURS)], style.MARKERS[i % len(style.MARKERS)]
            for part in dict.fromkeys(p.part for p in mine):
                line = [p for p in mine if p.part == part]
                dashes = "--" if part else "-"
                axes.plot([p.x for p in line], [p.top1 for p in line], color=colour, lw=1.1, ls=dashes, zorder=2)
            areas = [areas_of[id(p)] for p in mine]
            xs, ys = [p.x for p in mine], [p.top1 for p in mine]
            axes.scatter(xs, ys, s=areas, marker=mark, facecolor=colour, edgecolor=style.INK, lw=0.6, zorder=3)
            axes.plot([], [], color=colour, marker=mark, mec=style.INK, mew=0.6, ms=4.5, label=family)
        axes.margins(0.09, 0.12)
        axes.set_xlabel(x_label)
        axes.set_ylabel("ImageNet top-1 (%)")
        if log:
            _plain_log_ticks(axes)
        axes.legend(loc="best", handlelength=1.6, labelspacing=0.3, borderpad=1.0)
        place_labels(axes, points, size - 1, [areas_of[id(p)] ** 0.5 / 2 for p in points])
        style.title_and_notes(fig, title, lines, size)
        return fig


def _plain_log_ticks(axes: Axes) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = axes.get_xlim()
    marks = [m * 10**e for e in range(-3, 5) for m in (1, 1.5, 2, 3, 4, 6, 8) if low <= m * 10**e <= high]
    axes.xaxis.set_major_locator(FixedLocator(marks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.set_xlim(low, high)
