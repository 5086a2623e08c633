"""Owns training curves: a panel for each group of steps, mean over seeds as a line, their range as a band.

Seeds that were not all evaluated after the same epochs have no mean worth a line: then each seed is a line of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.show.charts import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.compare.layout import Row
    from analysis.compare.summary import Table

FEW = 8  # evaluations that are marked on their line
WHAT = {"top1": "top-1 (%)", "train_loss": "training loss (nats)", "eval_loss": "evaluation loss (nats)"}


def draw(table: Table, curves: pd.DataFrame, column: str = "top1", columns: int = 2) -> Figure | None:
    """The curves of a table's runs, from a frame of `analysis.load_curves`; None where no epoch is finished.

    A panel shows the rungs of one group in shades of its colour and, thin, the rung that its first step started from.
    One evaluation is no curve: None where no run has two.
    """
    data = curves[curves["rung"].isin([row.rung for row in table.rows]) & curves[column].notna()]
    if data.groupby(["rung", "seed"])["epoch"].nunique().max() == 1:
        return None
    looks = _looks(table)
    panels = _panels(table, set(data["rung"]))
    if not panels:
        return None
    with style.context(columns):
        size, width = style.SIZES[columns], style.WIDTHS[columns]
        across = min(3 if columns == 2 else 2, len(panels))
        notes = style.wrap(_caption(table, data, panels), width - 0.12, size - 1)
        line = (size + 1.6) / 72
        cell_w = (width - 0.5) / across
        fold = partial(style.wrap, width=cell_w - 0.48, size=size - 0.4)  # names in the key
        entries = [
            sum(len(fold(row.title)) for row in (*rows, *([before] if before else []))) for _, rows, before in panels
        ]
        keys = [line * max(entries[i : i + across]) for i in range(0, len(panels), across)]  # of each row of panels
        left = 0.5
        plot_h = 1.3 if columns == 2 else 1.05
        cells = [0.2 + plot_h + 0.36 + key + 0.06 for key in keys]  # title, plot, ticks and label, key
        bottom = 0.12 + (size + 1) / 72 * len(notes)
        title = f"{table.title}: {WHAT.get(column, column)}"
        fig = style.figure(columns, style.title_height(title, columns) + 0.04 + sum(cells) + bottom)
        shared: Axes | None = None
        for i, (name, rows, before) in enumerate(panels):
            top = bottom + sum(cells[i // across :])
            axes = style.place(fig, left + (i % across) * cell_w, top - 0.2 - plot_h, cell_w - 0.14, plot_h)
            if shared is not None:
                axes.sharex(shared)
                axes.sharey(shared)
            shared = shared or axes
            _panel(axes, data, column, looks, rows, before, -0.36 / plot_h, fold)
            name = style.fit(fig, name, cell_w - 0.14, size, fontstyle="italic")
            axes.set_title(name, loc="left", fontsize=size, style="italic", pad=2)
            axes.tick_params(labelleft=i % across == 0)
            axes.set_xlabel("epoch", labelpad=1)
            if i % across == 0:
                axes.set_ylabel(WHAT.get(column, column))
        assert shared is not None
        _limits(shared, data, column)
        style.title_and_notes(fig, title, notes, size)
        return fig


def _panels(table: Table, found: set[str]) -> list[tuple[str, list[Row], Row | None]]:
    """Name, rungs and rung before of each panel."""
    out: list[tuple[str, list[Row], Row | None]] = []
    for name in dict.fromkeys(row.group for row in table.rows):
        rows = [row for row in table.rows if row.group == name and row.rung in found]
        if not rows:
            continue
        before = table.row(rows[0].parent)
        if not name and len(rows) == 1 and len(table.rows) > 1:
            continue  # the base alone: it stands grey in the first group
        out.append((name or "all", rows, before if before and before.rung in found else None))
    if not out:
        rows = [row for row in table.rows if row.rung in found]
        out = [("", rows, None)] if rows else []
    return out


def _looks(table: Table) -> dict[str, tuple[str, Any]]:
    """The colour and the dashes of each rung: a shade of its group's colour, the same in every panel."""
    colours = style.of_rows(table.rows, references=style.INK)
    out: dict[str, tuple[str, Any]] = {}
    for colour in dict.fromkeys(colours.values()):
        mine = [rung for rung, of in colours.items() if of == colour]
        for i, (rung, shade) in enumerate(zip(mine, style.shades(colour, len(mine)), strict=True)):
            out[rung] = (colour if colour == style.BASE else shade, style.DASHES[i % len(style.DASHES)])
    return out


def _panel(
    axes: Axes,
    data: pd.DataFrame,
    column: str,
    looks: Mapping[str, tuple[str, Any]],
    rows: Sequence[Row],
    before: Row | None,
    key_at: float,
    fold: Callable[[str], list[str]],
) -> None:
    axes.grid(True)
    axes.set_axisbelow(True)
    style.bare(axes, ("bottom", "left"))
    if before is not None:
        _line(axes, data[data["rung"] == before.rung], column, *looks[before.rung], before.title, thin=True)
    for row in rows:
        _line(axes, data[data["rung"] == row.rung], column, *looks[row.rung], row.title)
    handles, names = axes.get_legend_handles_labels()
    style.key_below(axes, key_at, handles, ["\n".join(fold(name)) for name in names])


def _even(mine: pd.DataFrame) -> bool:
    """Whether all seeds of a rung have the same epochs."""
    return bool((mine.groupby("epoch")["seed"].nunique() == mine["seed"].nunique()).all())


def _line(
    axes: Axes, mine: pd.DataFrame, column: str, colour: str, dashes: Any, label: str, thin: bool = False
) -> None:
    if not _even(mine):
        for number, (_, one) in enumerate(sorted(mine.groupby("seed"), key=lambda part: -len(part[1]))):
            name = "_" if number else label  # one entry of the key a rung
            _line(axes, one, column, colour, dashes, name, thin)
        return
    grouped = mine.groupby("epoch")[column].agg(["mean", "min", "max"])
    mark = "o" if len(grouped) <= FEW else None
    axes.plot(
        grouped.index,
        grouped["mean"],
        color=colour,
        ls=dashes,
        marker=mark,
        ms=2.5,
        lw=0.8 if thin else 1.3,
        label=label,
        zorder=3,
    )
    if mine["seed"].nunique() > 1:
        axes.fill_between(grouped.index, grouped["min"], grouped["max"], color=colour, alpha=0.18, lw=0, zorder=2)


def _limits(axes: Axes, data: pd.DataFrame, column: str) -> None:
    """From the first epoch known to the last, which has a tick; of many accuracies not what the first tenth had."""
    from matplotlib.ticker import FixedLocator, MaxNLocator

    first, last = float(data["epoch"].min()), float(data["epoch"].max())
    epochs = sorted(data["epoch"].unique())
    later = data[data["epoch"] >= epochs[len(epochs) // 10]] if column.startswith("top") else data
    low, high = float(later[column].min()), float(data[column].max())
    pad = 0.04 * (high - low) or 1.0
    axes.set_ylim(low - pad, high + pad)
    side = 0.03 * (last - first)
    axes.set_xlim(first - side, last + side)
    known = epochs if len(epochs) <= FEW else MaxNLocator(4, integer=True).tick_values(first, last)
    ticks = [last]
    for tick in sorted((float(t) for t in known if first <= t < last), reverse=True):
        if ticks[-1] - tick > 0.12 * (last - first):
            ticks.append(tick)
    axes.xaxis.set_major_locator(FixedLocator(ticks))


def _caption(table: Table, data: pd.DataFrame, panels: Sequence[tuple[str, list[Row], Row | None]]) -> str:
    drawn = {row.rung for _, rows, before in panels for row in (*rows, *([before] if before else []))}
    seeds = data.groupby("rung")["seed"].nunique()
    even = {rung: _even(data[data["rung"] == rung]) for rung in drawn}
    parts = [f"{table.data_name}, {table.eval_split} split, {table.training}"]
    if counts := sorted({int(seeds[rung]) for rung in drawn if even[rung] and seeds[rung] > 1}):
        parts.append(f"band: range over {' to '.join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))} seeds")
    if not all(even.values()):
        some = "" if not any(even.values()) else ", of rungs whose seeds have not the same epochs"
        parts.append(f"a line or a dot for each seed{some}")
    if any(before for _, _, before in panels):
        parts.append("thin: the base" if table.kind == "star" else "thin: the rung before the group's first step")
    return "; ".join(parts) + "."
