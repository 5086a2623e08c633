"""Owns the roadmap chart (arXiv:2201.03545, Figure 2): a bar of top-1 for every rung, its MACs beside it."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from analysis.compare.layout import chart_order
from analysis.read.configs import show
from analysis.show.charts import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.compare.layout import Row
    from analysis.compare.summary import Table

HATCH = "/////"
GROUP, LABEL = 0.2, 0.36  # of the width, at most
_LINE = {1: 0.215, 2: 0.225}  # inches per bar


@dataclass(frozen=True)
class Bar:
    """One bar: top-1 and std in percent, MACs in 1e9; `behind` the value of the larger regime, `paper` a mark."""

    rung: str
    label: str
    group: str
    value: float | None
    std: float | None
    macs: float | None
    kind: str  # main | side | subset | reference
    behind: float | None = None
    paper: float | None = None
    counted: float | None = None  # MACs as the network computes to, where the paper's figure is doubted
    why: str = ""  # said in place of a bar


def bars(table: Table, *, paper: bool = False, behind: Table | None = None) -> list[Bar]:
    """The bars of a table from top to bottom: ours, or with `paper` the published ones; references last."""
    out = [_bar(row, table, paper, behind) for row in chart_order(table.rows if paper else table.shown)]
    values = [bar.value for bar in out if bar.value is not None]
    if (paper or table.on_paper_data) and values:
        for ref in table.references:
            if ref.paper.top1 is not None and ref.paper.top1 >= min(values) - 0.5:
                other = _same_reference(ref.title, behind)
                label = f"{ref.title} / {other[0].rsplit('-', 1)[-1]}" if other else ref.title
                macs = ref.paper.gflops
                out.append(
                    Bar("", label, "", ref.paper.top1, ref.paper.std, macs, "reference", other[1] if other else None)
                )
    return out


def _bar(row: Row, table: Table, paper: bool, behind: Table | None) -> Bar:
    name = f"{row.title} *" if row.kind == "subset" else row.title
    if paper:
        quoted = row.paper
        twin = behind.row(row.rung) or (behind.rows[row.index] if row.index == 0 else None) if behind else None
        other = twin.paper.top1 if twin and twin.paper else None
        if twin and row.index == 0 and twin.title != row.title:
            name = f"{row.title} / {twin.title.rsplit('-', 1)[-1]}"
        if quoted is None or quoted.top1 is None:
            return Bar(row.rung, name, row.group, None, None, None, row.kind, why="not published")
        counted = row.macs / 1e9 if quoted.macs_note and row.macs else None
        bar = Bar(row.rung, name, row.group, quoted.top1, quoted.std, quoted.gflops, row.kind, other)
        return replace(bar, counted=counted)
    printed = row.paper.top1 if row.paper and table.on_paper_data else None
    macs = None if row.macs is None else row.macs / 1e9
    if row.top1 is None:
        busy = ", ".join(f"{n} {state}" for state, n in row.states.items())
        return Bar(row.rung, name, row.group, None, None, macs, row.kind, paper=printed, why=busy or "no run yet")
    std = None if math.isnan(row.top1.std) else row.top1.std
    return Bar(row.rung, name, row.group, row.top1.mean, std, macs, row.kind, paper=printed)


def _same_reference(title: str, behind: Table | None) -> tuple[str, float] | None:
    """The reference of the larger regime that stands for the same network: Swin-B for Swin-T."""
    for ref in behind.references if behind else ():
        if ref.title.split("-")[0] == title.split("-")[0] and ref.paper.top1 is not None and "(" not in ref.title:
            return ref.title, ref.paper.top1
    return None


def draw(table: Table, *, paper: bool = False, behind: Table | None = None, columns: int = 2) -> Figure:
    """The chart of a table: our runs, or with `paper` the published numbers (of `behind` in grey as well)."""
    data = bars(table, paper=paper, behind=behind)
    with style.context(columns):
        size, line = style.SIZES[columns], _LINE[columns]
        width = style.WIDTHS[columns]
        notes = style.wrap(_caption(table, data, paper, behind, _limits(data, 0)[0]), width - 0.12, size - 1)
        title = table.title if behind is None else f"{table.title}, {behind.title}"
        top, bottom = style.title_height(title, columns) + 0.2, 0.46 + (size + 1) / 72 * len(notes)
        fig = style.figure(columns, top + bottom + line * len(data))
        names = {
            g: style.fit(fig, _fold(g, columns), GROUP * width, size - 0.3, 3, fontstyle="italic")
            for g in dict.fromkeys(bar.group for bar in data)
        }
        groups = [name for name in names.values() if name]
        words = style.text_width(fig, [x for g in groups for x in g.split("\n")], size - 0.3, fontstyle="italic")
        data = [
            replace(bar, label=style.fit(fig, _fold(bar.label, columns, label=True), LABEL * width, size, 2))
            for bar in data
        ]
        labels = style.text_width(fig, [x for bar in data for x in bar.label.split("\n")], size)
        left = 0.06 + (words + 0.16 if groups else 0) + labels + 0.06
        right = 0.95 if columns == 2 else 0.6
        wide = width - left - right - 0.1
        axes = style.place(fig, left, bottom, wide, line * len(data))
        room = (style.text_width(fig, ["00.0"], size - 0.3) + 0.1) / wide
        _draw_bars(axes, data, size, room, style.of_rows(table.rows))
        _draw_groups(axes, data, columns, size, 0.06 + words + 0.05, names)
        macs = style.place(fig, width - right, bottom, right - 0.06, line * len(data))
        _draw_macs(macs, data, size, walk=table.kind == "chain")
        axes.set_xlabel(style.top1_label(table, paper))
        style.title_and_notes(fig, title, notes, size)
        return fig


def _caption(table: Table, data: Sequence[Bar], paper: bool, behind: Table | None, low: float) -> str:
    """What the picture needs said, and nothing that is not in it. `low`: where the axis of top-1 starts."""
    parts = []
    if paper:
        parts.append(f"Published: {table.source}")
        if behind:
            parts.append(
                f"grey: {behind.title}, {behind.source.split(', ')[-1]}; MACs of {table.title.split(' to ')[-1]}"
            )
    else:
        choice = "".join(f", {key}={show(value)}" for key, value in table.choice.items())
        parts.append(f"Last epoch on the {table.eval_split} split, {table.training}{choice}")
    if any(bar.std is not None for bar in data):
        counts = sorted({row.top1.n for row in table.rows if row.top1 and row.top1.n > 1})
        seeds = "3" if paper else f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        parts.append(f"error bars: ± std over {seeds} seeds")
    barred = {bar.kind for bar in data if bar.value is not None}
    if "side" in barred:
        parts.append("hatched: not adopted")
    if any(bar.kind == "subset" for bar in data):
        parts.append("*: not a rung of the ladder")
    if "reference" in barred:
        parts.append("white: references" if paper else "white: references, trained by the same recipe")
    if any(bar.paper is not None for bar in data):
        parts.append("diamond: the paper's value")
    if doubted := [f"{bar.macs:.2f}" for bar in data if bar.counted is not None and bar.macs is not None]:
        parts.append(f"*: MACs as counted, printed are {' and '.join(doubted)} (see the table)")
    if not paper and table.not_run and not table.complete:
        parts.append("not run: " + ", ".join(row.title for row in table.not_run))
    if barred and low > 0:
        parts.append("the axis does not start at 0")
    return "; ".join(parts) + "."


def _draw_bars(axes: Axes, data: Sequence[Bar], size: float, room: float, colours: Mapping[str, str]) -> None:
    """`room`: the part of the axes' width that a number beside the longest bar takes; `colours`: by rung."""
    low, high = _limits(data, room)
    marked = any(bar.paper is not None for bar in data)
    clear: dict[str, Any] = {"fc": style.PAPER, "ec": "none", "pad": 0.6}  # the grid ends at a number
    axes.set_xlim(low, high)
    axes.set_ylim(len(data) - 0.5, -0.5)
    axes.set_axisbelow(True)
    axes.grid(axis="x")
    for y, bar in enumerate(data):
        if bar.behind is not None:
            axes.barh(y, bar.behind - low, left=low, height=0.84, color=style.BEHIND, label="_behind", zorder=1.5)
            far: dict[str, Any] = {
                "ha": "right",
                "va": "center",
                "fontsize": size - 0.8,
                "color": style.DIM,
                "bbox": clear,
            }
            axes.text(high, y, _round(bar.behind), **far)
        if bar.paper is not None:
            axes.plot(bar.paper, y, marker="D", markersize=3, color=style.PAPER, mec=style.INK, mew=0.7, zorder=4)
        if bar.value is None:
            axes.text(low, y, f" {bar.why}", va="center", fontsize=size - 0.6, color=style.DIM, style="italic")
            continue
        hatched = bar.kind == "side"
        axes.barh(
            *(y, bar.value - low),
            left=low,
            height=0.66,
            facecolor=colours.get(bar.rung, style.PAPER),
            edgecolor=style.INK,
            linewidth=0.5,
            hatch=HATCH if hatched else None,
            alpha=None,
            zorder=2,
            label=bar.rung or "_reference",
        )
        end = bar.value
        if bar.std is not None:
            axes.errorbar(
                bar.value, y, xerr=bar.std, color=style.INK, elinewidth=0.9, capsize=1.6, zorder=3, fmt="none"
            )
            end += bar.std
        # A number right of the paper's mark would read as the paper's: then it stands at the end of the row.
        x, side = (high, "right") if marked else (end + (high - low) * 0.012, "left")
        box = None if bar.behind is not None else clear  # on a grey bar there is no grid
        axes.text(x, y, _round(bar.value), ha=side, va="center", fontsize=size - 0.3, zorder=3.5, bbox=box)
    axes.set_yticks(range(len(data)), [bar.label for bar in data])
    axes.tick_params(axis="y", length=0, pad=3)
    style.bare(axes)


def _limits(data: Sequence[Bar], room: float) -> tuple[float, float]:
    """The axis: from below the lowest bar, which keeps some length, to past the highest with its number."""
    lows = [b.value - (b.std or 0) for b in data if b.value is not None] + [
        b.paper for b in data if b.paper is not None
    ]
    highs = [b.value + (b.std or 0) for b in data if b.value is not None]
    highs += [v for b in data for v in (b.paper, b.behind) if v is not None]
    if not lows:
        return 0.0, 100.0
    span = max(max(highs) - min(lows), 0.5)
    step = 0.5 if span < 6 else 2.5 if span < 30 else 10
    low = max(0.0, math.floor((min(lows) - 0.12 * span) / step) * step)
    return low, low + (max(highs) - low) / (1 - room)


def _draw_groups(
    axes: Axes, data: Sequence[Bar], columns: int, size: float, where: float, names: Mapping[str, str]
) -> None:
    """The group names left of the labels, a line along the bars of each. `where`: inches from the figure's left."""
    from matplotlib.lines import Line2D
    from matplotlib.transforms import blended_transform_factory

    fig = axes.figure
    x = where / style.WIDTHS[columns]
    mixed = blended_transform_factory(fig.transFigure, axes.transData)
    start = 0
    while start < len(data):
        end = start
        while end + 1 < len(data) and data[end + 1].group == data[start].group and data[start].group:
            end += 1
        if group := data[start].group:
            axes.add_line(
                Line2D([x, x], [start - 0.36, end + 0.36], transform=mixed, clip_on=False, color=style.DIM, lw=1.2)
            )
            fig.text(
                *(x - 0.05 / style.WIDTHS[columns], (start + end) / 2, names[group]),
                transform=mixed,
                ha="right",
                va="center",
                fontsize=size - 0.3,
                style="italic",
                linespacing=0.95,
            )
        start = end + 1


def _round(value: float) -> str:
    """One decimal, halves up, as the paper's figure rounds."""
    return f"{math.floor(value * 10 + 0.5 + 1e-6) / 10:.1f}"


def _fold(text: str, columns: int, label: bool = False) -> str:
    """A long name on two lines; labels only where the figure is one column wide."""
    if label and columns == 2:
        return text
    return "\n".join(textwrap.wrap(text, 19 if label else 14 if columns == 2 else 11, break_long_words=False))


def _draw_macs(axes: Axes, data: Sequence[Bar], size: float, walk: bool) -> None:
    """A dot for the MACs of each rung on an axis of their own, those of a walk joined by a line."""
    data = [replace(bar, macs=bar.counted or bar.macs) for bar in data]
    known = [bar.macs for bar in data if bar.macs is not None]
    scale, unit = (1.0, "G") if not known or max(known) >= 0.5 else (1e3, "M")
    axes.set_ylim(len(data) - 0.5, -0.5)
    axes.set_yticks([])
    axes.set_xticks([])
    axes.set_title(f"MACs ({unit})", fontsize=size, pad=4)
    style.bare(axes, ())
    if not known:
        return
    largest = max(known) * scale
    axes.set_xlim(-0.08 * largest, 1.9 * largest)
    chain = [(bar.macs * scale, y) for y, bar in enumerate(data) if bar.macs is not None and bar.kind == "main"]
    if walk:
        axes.plot([x for x, _ in chain], [y for _, y in chain], color=style.DIM, lw=0.8, zorder=1, label="_chain")
    for y, bar in enumerate(data):
        if bar.macs is None:
            continue
        x = bar.macs * scale
        face = style.INK if bar.kind == "main" else style.PAPER
        axes.plot(x, y, marker="o", markersize=3, color=face, mec=style.INK, mew=0.7, zorder=2, label=bar.rung)
        shown = f"{x:.2g}" if x < 1 else _round(x) if x < 100 else f"{x:.0f}"
        axes.text(1.2 * largest, y, f"{shown}{'*' if bar.counted else ''}", va="center", fontsize=size - 0.6)
