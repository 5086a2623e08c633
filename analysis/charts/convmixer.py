"""Owns ConvMixer's charts (arXiv:2201.09792): accuracy over kernel and patch size, and the published ablation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.charts import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOURCE = "ConvMixer-256/8 on CIFAR-10, arXiv:2201.09792 as quoted in public sources (one source; not the paper itself)"


def draw_sweeps(sweeps: Sequence[tuple[str, Sequence[tuple[float, float]]]], columns: int = 2) -> Figure:
    """A panel for each named sweep: (size, top-1 in percent) joined by a line, on one scale of accuracy."""
    with style.context(columns):
        size, width = style.SIZES[columns], style.WIDTHS[columns]
        notes = style.wrap(f"Published: {SOURCE}.", width - 0.12, size - 1)
        title = "ConvMixer: kernel and patch size"
        bottom, height = 0.46 + (size + 1) / 72 * len(notes), 2.0 if columns == 2 else 1.6
        fig = style.figure(columns, style.title_height(title, columns) + 0.1 + height + bottom)
        panel = (width - 0.56) / len(sweeps)
        values = [y for _, points in sweeps for _, y in points]
        pad = 0.16 * (max(values) - min(values))
        for i, (name, points) in enumerate(sweeps):
            axes = style.place(fig, 0.52 + i * panel, bottom, panel - 0.14, height)
            axes.grid(axis="y")
            axes.set_axisbelow(True)
            style.bare(axes, ("bottom", "left"))
            xs, ys = [x for x, _ in points], [y for _, y in points]
            axes.plot(xs, ys, color=style.DARK[i], marker=style.MARKERS[i], ms=4, mec=style.INK, mew=0.6, label=name)
            rising = ys[-1] > ys[0]
            for x, y in points:
                axes.annotate(
                    *(f"{y:.2f}", (x, y)),
                    xytext=(3, -3 if rising else 3),  # off the line
                    textcoords="offset points",
                    va="top" if rising else "bottom",
                    fontsize=size - 0.8,
                )
            axes.set_xticks(xs, [f"{x:g}" for x in xs])
            room = 0.24 * (max(xs) - min(xs))
            axes.set_xlim(min(xs) - room, max(xs) + room)
            axes.set_ylim(min(values) - pad, max(values) + pad)
            axes.set_xlabel(f"{name} size")
            axes.tick_params(labelleft=i == 0)
            if i == 0:
                axes.set_ylabel("CIFAR-10 top-1 (%)")
        style.title_and_notes(fig, title, notes, size)
        return fig


def draw_ablation(changes: Sequence[tuple[str, float]], columns: int = 2) -> Figure:
    """The published changes to the base as dots; no interval, because the quotations give no std."""
    with style.context(columns):
        size, width = style.SIZES[columns], style.WIDTHS[columns]
        notes = style.wrap(f"Published: {SOURCE}. No std is quoted, so no interval.", width - 0.12, size - 1)
        title = "ConvMixer: published ablation"
        line = 0.24
        bottom = 0.46 + (size + 1) / 72 * len(notes)
        fig = style.figure(columns, style.title_height(title, columns) + bottom + line * len(changes))
        labels = [name.replace("->", " to ") for name, _ in changes]
        left = 0.14 + style.text_width(fig, labels, size)
        axes = style.place(fig, left, bottom, width - left - 0.55, line * len(changes))
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        style.bare(axes)
        axes.axvline(0, color=style.INK, lw=0.8)
        for y, (name, delta) in enumerate(changes):
            axes.plot([0, delta], [y, y], color=style.DIM, lw=0.8, zorder=1.5)
            axes.plot(delta, y, "o", ms=4.5, color=style.DARK[1 if delta < 0 else 0], zorder=3, label=name)
            axes.annotate(
                *(f"{delta:+.2f}", (1, y)),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=size - 0.6,
                annotation_clip=False,
            )
        axes.set_ylim(len(changes) - 0.5, -0.5)
        axes.set_yticks(range(len(changes)), labels)
        axes.tick_params(axis="y", length=0, pad=3)
        axes.set_xlabel("change of top-1 to the base (points)")
        style.title_and_notes(fig, title, notes, size)
        return fig
