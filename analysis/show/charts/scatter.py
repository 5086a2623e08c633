"""Owns accuracy against cost: top-1 over MACs or over measured throughput, a bubble's area its parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from analysis.show.charts import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.compare.summary import Table


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


def rung_points(table: Table, x: str, *, paper: bool = False) -> list[Point]:
    """The rungs of a table as points. `x`: macs (1e9) or images_per_s (ours alone)."""
    out = []
    for row in table.rows:
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
        name = row.title if row.kind != "main" else f"{row.index} {row.title}"
        std = None if std is None or math.isnan(std) else std
        walk = "ladder" if row.kind == "main" and table.kind == "chain" else ""
        mark = "D" if row.kind == "reference" else "o"
        out.append(Point(name, value, top1, std, params, walk, row.kind == "side", mark))
    return out


def draw_ladder(table: Table, x: str, *, paper: bool = False, columns: int = 2) -> Figure | None:
    """The walk of a ladder through the plane of cost and accuracy; None where fewer than two rungs have both."""
    points = rung_points(table, x, paper=paper)
    if len(points) < 2:
        return None
    label = style.top1_label(table, paper)
    small = x == "macs" and max(p.x for p in points) < 0.5
    if small:
        points = [Point(**{**p.__dict__, "x": p.x * 1e3}) for p in points]
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
    return _draw(points, name, label, table.title, notes, columns)


def _draw(
    points: Sequence[Point], x_label: str, y_label: str, title: str, notes: Sequence[str], columns: int
) -> Figure:
    """Points joined along the ladder, their names in a column at the right, so that crowded ones stay readable."""
    with style.context(columns):
        size, width = style.SIZES[columns], style.WIDTHS[columns]
        known = [p.params for p in points if p.params]
        if known:
            notes = [*notes, f"area: parameters, {_million(min(known))} to {_million(max(known))}"]
        if columns == 1:  # no room for names beside the points: a letter or number there, the names below
            pairs = zip(_short(points), points, strict=True)
            notes = [*notes, ", ".join(p.label if p.label[0].isdigit() else f"{s.label} {p.label}" for s, p in pairs)]
        lines = style.wrap("; ".join(notes) + ".", width - 0.12, size - 1)
        bottom = 0.46 + (size + 1) / 72 * len(lines)
        row = (size + 2.2) / 72
        height = max(2.3 if columns == 1 else 3.2, row * len(points) + 0.1)
        fig = style.figure(columns, style.title_height(title, columns) + 0.13 + bottom + height)
        shown = points if columns == 2 else _short(points)
        shown = [replace(p, label=style.fit(fig, p.label, 0.4 * width, size - 0.6)) for p in shown]
        names = style.text_width(fig, [p.label for p in shown], size - 0.6)
        left = 0.5 if columns == 1 else 0.58
        axes = style.place(fig, left, bottom, width - left - names - 0.42, height)
        _bubbles(axes, points, max(known) if known else None, columns)
        least = min(p.x for p in points)
        if least > 0 and max(p.x for p in points) >= 10 * least:
            axes.set_xscale("log")
            axes.set_xlim(least / 1.25, max(p.x for p in points) * 1.25)
            _plain_log_ticks(axes)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        _names(axes, shown, size - 0.6, width - names - 0.06, row / height)
        style.title_and_notes(fig, title, lines, size)
        return fig


def _short(points: Sequence[Point]) -> list[Point]:
    """The points named by the rung's number, others by a letter."""
    letters = iter("abcdefghijklmnopqrstuvwxyz" * (len(points) // 26 + 1))
    return [
        Point(**{**p.__dict__, "label": p.label.split()[0] if p.label[0].isdigit() else next(letters)}) for p in points
    ]


def _bubbles(axes: Axes, points: Sequence[Point], most: float | None, columns: int) -> None:
    axes.grid(True)
    axes.set_axisbelow(True)
    style.bare(axes, ("bottom", "left"))
    chain = [p for p in points if p.series]
    axes.plot([p.x for p in chain], [p.top1 for p in chain], color=style.DIM, lw=0.8, zorder=2, label="_chain")
    largest = 90 if columns == 2 else 45
    for p in points:
        area = largest * (max(p.params / most, 0.06) if p.params and most else 0.3)  # the least can still be seen
        if p.std is not None:
            axes.errorbar(p.x, p.top1, yerr=p.std, color=style.INK, elinewidth=0.7, fmt="none", zorder=2.5)
        face = style.PAPER if p.hollow else style.COLOURS[p.mark == "D"]
        drawn = axes.scatter([p.x], [p.top1], s=area, marker=p.mark, facecolor=face, zorder=3, label=p.label)
        drawn.set(edgecolor=style.INK, linewidth=0.7)
    xs = [p.x for p in points]
    ys = [p.top1 + d for p in points for d in (-(p.std or 0), p.std or 0)]
    for low, high, set_limits in ((min(xs), max(xs), axes.set_xlim), (min(ys), max(ys), axes.set_ylim)):
        pad = 0.07 * (high - low) or 0.05 * abs(high) or 1
        set_limits(low - pad, high + pad)


def _names(axes: Axes, points: Sequence[Point], size: float, where: float, gap: float) -> None:
    """The names in a column, ordered by height, at least `gap` (of the axes' height) apart, lines to the points."""
    fig = axes.figure
    x = where / fig.get_size_inches()[0]  # type: ignore[union-attr]
    low, high = axes.get_ylim()
    order = sorted(points, key=lambda p: (p.top1, -p.x))
    places = spread_apart([(p.top1 - low) / (high - low) for p in order], gap)
    box = axes.get_position()
    for p, place in zip(order, places, strict=True):
        axes.annotate(
            p.label,
            (p.x, p.top1),
            xytext=(x, box.y0 + place * box.height),
            textcoords="figure fraction",
            fontsize=size,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": style.DIM,
                "lw": 0.4,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 2,
            },
        )


def spread_apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Rising places in 0..1 as near to the wanted ones as can be with `gap` between neighbours.

    >>> spread_apart([0.5, 0.5, 0.9], 0.2)
    [0.4, 0.6, 0.9]
    """
    blocks: list[list[float]] = []  # [sum of (wanted - offset), count]: neighbours that touch move as one
    for i, place in enumerate(wanted):
        blocks.append([place - i * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + count]
    flat = [total / count for total, count in blocks for _ in range(int(count))]
    top = 1 - (len(wanted) - 1) * gap  # of what is left after the gaps
    return [round(min(max(base, 0.0), max(top, 0.0)) + i * gap, 9) for i, base in enumerate(flat)]


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


def place_labels(axes: Axes, points: Sequence[Point], size: float, radii: Sequence[float]) -> None:
    """A name at each point, on the first side of it that is free; none where all are taken.

    `radii`: of what marks the points, in typographic points.
    """
    from matplotlib.transforms import Bbox

    fig = axes.figure
    canvas = fig.canvas
    canvas.draw()
    renderer = canvas.get_renderer()  # type: ignore[attr-defined]
    inside = axes.get_window_extent(renderer)
    legend = axes.get_legend()
    taken = [legend.get_window_extent(renderer)] if legend else []
    for p, radius in zip(points, radii, strict=True):
        cx, cy = axes.transData.transform((p.x, p.top1))
        half = radius * fig.dpi / 72
        taken.append(Bbox([[cx - half, cy - half], [cx + half, cy + half]]))
    for p, radius in zip(points, radii, strict=True):
        off, aslant = radius + 2.5, radius * 0.7 + 2.5
        sides = (
            ((0, off), "center", "bottom"),
            ((0, -off), "center", "top"),
            ((off, 0), "left", "center"),
            ((-off, 0), "right", "center"),
            ((aslant, aslant), "left", "bottom"),
            ((aslant, -aslant), "left", "top"),
            ((0, -off - 6), "center", "top"),
            ((0, off + 6), "center", "bottom"),
        )
        for offset, ha, va in sides:
            text = axes.annotate(
                p.label, (p.x, p.top1), xytext=offset, textcoords="offset points", ha=ha, va=va, fontsize=size, zorder=4
            )
            box = text.get_window_extent(renderer).padded(2)
            free = not any(box.overlaps(other) for other in taken)
            if free and inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1:
                taken.append(box)
                break
            text.remove()
