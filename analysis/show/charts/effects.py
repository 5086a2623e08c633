"""Owns the charts of effects: each step's effect beside the paper's, interactions, half-normal plot, Shapley values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from analysis.compare.stats import LEVEL, Change
from analysis.show.cells import signed
from analysis.show.charts import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.compare.effect_answer import Answer

_LINE = {1: 0.19, 2: 0.22}  # inches a row


def draw_effects(answer: Answer, columns: int = 2) -> Figure | None:
    """Each step's average effect with its interval; below it the walk's change and the paper's, on the same axis.

    Filled: the interval leaves 0 out. Hollow: within noise.
    """
    rows = [(name, change) for name, change in answer.changes.items() if not math.isnan(change.delta)]
    if not rows:
        return None
    names = [name for name, _ in rows]
    others = [({} if answer.one_context else answer.walk, "s", "squares: the walk's changes")]
    others.append((answer.beside, "D", f"diamonds: {answer.beside_name}"))
    others = [other for other in others if any(name in other[0] for name in names)]
    notes = [_about(answer), "filled: clear of noise; hollow: within it", *(note for *_, note in others)]
    with style.context(columns):
        fig, axes = _rows(answer, names, "; ".join(notes) + ".", columns, high=1.35 if len(others) > 1 else 1.0)
        shown = []
        for y, (name, change) in enumerate(rows):
            marks = [(change, "o"), *((changes[name], marker) for changes, marker, _ in others if name in changes)]
            apart = 0.27 if len(others) > 1 else 0.38
            for place, (one, marker) in enumerate(marks):
                colour = style.DIM if marker == "D" else style.DARK[int(one.delta < 0)]
                _dot(axes, y + apart * (place - (len(marks) - 1) / 2), one, colour, marker)
                shown.append(one)
        _finish(axes, shown, f"effect on {answer.unit}", columns)
        return fig


def draw_shapley(answer: Answer, columns: int = 2) -> Figure | None:
    """Each step's change averaged over random orders, with the interval of its sampling error; None without orders."""
    from scipy.special import stdtrit

    if not answer.shares:
        return None
    orders = max(share.orders for share in answer.shares)
    note = f"Shapley values over {orders} random orders of the steps; bars: 95% interval of it, each by itself."
    with style.context(columns):
        fig, axes = _rows(answer, [share.step for share in answer.shares], note, columns)
        shown = []
        for y, share in enumerate(answer.shares):
            factor = float(stdtrit(share.orders - 1, 0.5 + LEVEL / 2)) if share.orders > 1 else math.nan
            change = Change(share.mean, factor * share.error, "pooled")
            _dot(axes, y, change, style.DARK[1] if share.mean < 0 else style.DARK[0], "o")
            shown.append(change)
        _finish(axes, shown, f"mean change of {answer.unit}", columns)
        return fig


def draw_interactions(answer: Answer, columns: int = 2) -> Figure | None:
    """What each step makes of another one's effect, as a matrix; None where interactions were not looked for."""
    names = answer.paired
    if not names:
        return None
    count = len(names)
    values = np.full((count, count), np.nan)
    texts: dict[tuple[int, int], str] = {}
    for one in answer.interactions:
        column, row = (names.index(name) for name in one.pair)
        values[row, column] = one.change.delta
        texts[row, column] = f"{signed(one.change.delta)}{'*' if one.found else ''}"
    with style.context(columns):
        size, width = style.SIZES[columns], style.WIDTHS[columns]
        note = (
            f"How much more the row's step is worth with the column's than without, in {answer.unit}. Bold: clear of"
            " noise by itself, as one pair in twenty is by chance. *: in the fit. Empty: not told apart."
        )
        notes = style.wrap(note, width - 0.12, size - 1)
        title = f"{answer.cases.ladder.title}: interactions"
        top, bottom = style.title_height(title, columns), 0.12 + (size + 1) / 72 * len(notes)
        labels = [answer.cases.title_of(name) for name in names]
        probe = style.figure(columns, 1)
        left = min(style.text_width(probe, labels, size) + 0.12, 0.42 * width)
        cell = (width - left - 0.1) / (count - 1)
        high = max(min(cell, 0.3), (size + 3) / 72)
        below = style.text_width(probe, labels[:-1], size) * 0.66 + 0.06
        fig = style.figure(columns, top + bottom + high * (count - 1) + below)
        axes = style.place(fig, left, bottom + below, cell * (count - 1), high * (count - 1))
        part = values[1:, :-1]
        most = float(np.nanmax(np.abs(part))) or 1.0
        axes.imshow(part, cmap="RdBu", vmin=-1.6 * most, vmax=1.6 * most, aspect="auto")
        clear = {one.pair for one in answer.interactions if not one.change.within_noise}
        for (row, column), text in texts.items():
            bold = (names[column], names[row]) in clear
            weight = "bold" if bold else "normal"
            axes.text(
                column,
                row - 1,
                text,
                ha="center",
                va="center",
                fontsize=size - (1.2 if columns == 2 else 2),
                weight=weight,
            )
        fitted = [style.fit(fig, label, left - 0.1, size) for label in labels]
        axes.set_yticks(range(count - 1), fitted[1:])
        axes.set_xticks(range(count - 1), fitted[:-1], rotation=45, ha="right", rotation_mode="anchor")
        axes.tick_params(length=0)
        style.bare(axes, ())
        style.title_and_notes(fig, title, notes, size)
        return fig


def draw_half_normal(answer: Answer, columns: int = 2) -> Figure | None:
    """Effects in standard errors over the quantiles of a half-normal distribution (Daniel 1959); None below four.

    Effects of nothing but noise lie on the line; those that stand above it at the right end are real.
    """
    from scipy.special import ndtri, stdtrit

    each = answer.fit.effects(answer.changes, kind="each")
    factor = float(stdtrit(answer.fit.freedom, 0.5 + LEVEL / 2)) if answer.fit.freedom >= 1 else math.nan
    sizes = {name: abs(c.delta) * factor / c.half for name, c in each.items() if c.half == c.half and c.half > 0}
    if len(sizes) < 4:
        return None
    order = sorted(sizes, key=sizes.__getitem__)
    quantiles = ndtri(0.5 + 0.5 * (np.arange(len(order)) + 0.5) / len(order))
    with style.context(columns):
        size, width = style.SIZES[columns], style.WIDTHS[columns]
        notes = style.wrap("Line: effects that are noise alone. Named: clear of noise.", width - 0.12, size - 1)
        title = f"{answer.cases.ladder.title}: half-normal plot of the effects"
        top, bottom = style.title_height(title, columns), 0.42 + (size + 1) / 72 * len(notes)
        fig = style.figure(columns, top + bottom + 2.2)
        axes = style.place(fig, 0.5, bottom, width - 0.65, 2.2)
        highest = max([*sizes.values(), float(quantiles[-1])])
        axes.plot([0, quantiles[-1]], [0, quantiles[-1]], color=style.DIM, lw=0.8)
        for x, name in zip(quantiles, order, strict=True):
            clear = answer.changes[name].within_noise is False
            axes.plot(x, sizes[name], "o", ms=4, mfc=style.DARK[0] if clear else style.PAPER, color=style.DARK[0])
            if clear:
                words = style.fit(fig, answer.cases.title_of(name), 0.5 * width, size - 0.6)
                axes.annotate(
                    *(words, (x, sizes[name])),
                    xytext=(-6, 0),
                    textcoords="offset points",
                    ha="right",
                    va="center",
                    fontsize=size - 0.6,
                )
        axes.set_xlim(0, float(quantiles[-1]) * 1.06)
        axes.set_ylim(0, highest * 1.08)
        axes.set_xlabel("quantile of a half-normal distribution")
        axes.set_ylabel("effect, in standard errors")
        style.bare(axes, ("bottom", "left"))
        style.title_and_notes(fig, title, notes, size)
        return fig


def _about(answer: Answer) -> str:
    run = answer.cases.runs.iloc[0]
    at_once = ", for all effects at once" if answer.interval == "all" else ""
    fallen = f" ({len(answer.collapsed)} collapsed left out)" if answer.left_out else ""
    runs = f"{len(answer.cases.rows)} runs{fallen}"
    return f"{answer.data_name}, {run['eval_split']} split, {runs}; bars: 95% interval{at_once}"


def _rows(answer: Answer, names: list[str], note: str, columns: int, high: float = 1.0) -> tuple[Figure, Axes]:
    """A figure with a labelled row for each name, `high` lines each."""
    size, width, line = style.SIZES[columns], style.WIDTHS[columns], high * _LINE[columns]
    notes = style.wrap(note, width - 0.12, size - 1)
    title = f"{answer.cases.ladder.title}: what each step is worth"
    top, bottom = style.title_height(title, columns), 0.46 + (size + 1) / 72 * len(notes)
    fig = style.figure(columns, top + bottom + line * len(names))
    labels = [style.fit(fig, answer.cases.title_of(name), 0.45 * width, size, 2) for name in names]
    left = 0.06 + style.text_width(fig, [x for label in labels for x in label.split("\n")], size) + 0.08
    axes = style.place(fig, left, bottom, width - left - 0.1, line * len(names))
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    style.bare(axes)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.axvline(0, color=style.INK, lw=0.8, zorder=1.5)
    axes.set_yticks(range(len(names)), labels)
    axes.tick_params(axis="y", length=0, pad=3)
    style.title_and_notes(fig, title, notes, size)
    return fig, axes


def _dot(axes: Axes, y: float, change: Change, colour: str, marker: str) -> None:
    face = style.PAPER if change.within_noise in (True, None) else colour
    ms = 4.2 if marker == "o" else 3.2
    half = None if math.isnan(change.half) else change.half
    axes.errorbar(change.delta, y, xerr=half, fmt=marker, ms=ms, color=colour, mfc=face, elinewidth=1.0, zorder=3)


def _finish(axes: Axes, shown: list[Change], label: str, columns: int) -> None:
    ends = [0.0] + [v for c in shown for v in ((c.delta,) if math.isnan(c.half) else (c.low, c.high))]
    pad = 0.06 * (max(ends) - min(ends)) or 0.5
    axes.set_xlim(min(ends) - pad, max(ends) + pad)
    axes.set_xlabel(label, loc="right" if columns == 1 else "center")
