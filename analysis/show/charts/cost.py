"""Owns the cost breakdown: where the MACs and the parameters of each rung sit, by kind of layer or by stage."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from analysis.show.charts import style
from ladder.networks.outline import spec_breakdown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ladder.networks.cost_records import LayerCost
    from ladder.networks.rungs import Ladder, Rung

KINDS = ("dense conv", "pointwise conv", "depthwise conv", "linear", "norm", "other")
HATCHES = ("", "////", "", "xxxx", "", "....")


@dataclass(frozen=True)
class Breakdown:
    """The parts of one rung: name of a part to (macs, params)."""

    rung: str
    label: str
    parts: Mapping[str, tuple[int, int]]


_layers = lru_cache(maxsize=64)(spec_breakdown)


def breakdowns(
    ladder: Ladder, rungs: Sequence[Rung], by: str, *, image_size: int, num_classes: int, in_chans: int = 3
) -> list[Breakdown]:
    """The cost of rungs, by `kind` of layer or by `stage`."""
    part: Callable[[LayerCost], str] = _kind if by == "kind" else _stage
    out = []
    for rung in rungs:
        parts: dict[str, tuple[int, int]] = {}
        for layer in _layers(rung.spec.for_images(image_size), image_size, num_classes, in_chans):
            macs, params = parts.get(part(layer), (0, 0))
            parts[part(layer)] = (macs + layer.macs, params + layer.params)
        label = rung.title if rung.index is None else f"{rung.index} {rung.title}"
        out.append(Breakdown(rung.name, label, parts))
    return out


def _kind(layer: LayerCost) -> str:
    """The kind of a layer; a linear layer within a block is a pointwise convolution in another layout."""
    inside = not re.match(r"(head|fc|classifier)\b", layer.path)
    return "pointwise conv" if layer.kind == "linear" and inside else layer.kind


def _stage(layer: LayerCost) -> str:
    if found := re.match(r"(?:stages|layers)\.(\d+)\.", layer.path):
        return f"stage {int(found[1]) + 1}"
    if found := re.match(r"layer([1-9])\.", layer.path):  # timm's ResNet
        return f"stage {found[1]}"
    if found := re.match(r"blocks\.", layer.path):
        return "blocks"
    return "head" if re.match(r"(head|fc|classifier|norm)\b", layer.path) else "stem"


def draw(title: str, data: Sequence[Breakdown], by: str, note: str, columns: int = 2) -> Figure:
    """Two panels of stacked bars, MACs and parameters, a bar for each rung."""
    names = _order({name for one in data for name in one.parts}, by)
    with style.context(columns):
        size, width = style.SIZES[columns], style.WIDTHS[columns]
        notes = style.wrap(note, width - 0.12, size - 1)
        line = 0.19 if columns == 2 else 0.165
        per_row = len(names) if columns == 2 else 3
        key = (size + 3) / 72 * -(-len(names) // per_row)
        head = style.title_height(title, columns) + 0.04
        bottom, top = 0.46 + (size + 1) / 72 * len(notes), head + key + 0.1
        fig = style.figure(columns, top + bottom + line * len(data))
        data = [replace(one, label=style.fit(fig, one.label, 0.36 * width, size - 0.3)) for one in data]
        labels = style.text_width(fig, [x for one in data for x in one.label.split("\n")], size - 0.3)
        left = 0.06 + labels + 0.08
        panel = (width - left - 0.12) / 2
        total = max(sum(macs for macs, _ in one.parts.values()) for one in data)
        scale, unit = (1e9, "G") if total >= 5e8 else (1e6, "M")
        for i, (what, divide) in enumerate(((f"MACs ({unit})", scale), ("parameters (M)", 1e6))):
            axes = style.place(fig, left + i * panel, bottom, panel - 0.14, line * len(data))
            _stack(axes, data, names, i, divide)
            axes.set_xlabel(what)
            axes.set_yticks(range(len(data)), [one.label for one in data] if i == 0 else [""] * len(data))
            axes.tick_params(axis="y", labelsize=size - 0.3)
            if i == 0:
                handles, words = axes.get_legend_handles_labels()
        where = (0.06 / width, 1 - head / fig.get_size_inches()[1])
        fig.legend(
            handles, words, loc="upper left", bbox_to_anchor=where, ncols=per_row, borderaxespad=0, columnspacing=1.2
        )
        style.title_and_notes(fig, title, notes, size)
        return fig


def _order(names: set[str], by: str) -> list[str]:
    if by == "kind":
        return [k for k in KINDS if k in names]
    return sorted(names, key=lambda n: (n != "stem", n == "head", n))


def _stack(axes: Axes, data: Sequence[Breakdown], names: Sequence[str], which: int, divide: float) -> None:
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    style.bare(axes)
    axes.set_ylim(len(data) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, pad=3)
    start = [0.0] * len(data)
    for n, name in enumerate(names):
        widths = [one.parts.get(name, (0, 0))[which] / divide for one in data]
        axes.barh(
            range(len(data)),
            widths,
            left=start,
            height=0.72,
            color=style.COLOURS[n % len(style.COLOURS)],
            edgecolor=style.INK,
            linewidth=0.4,
            hatch=HATCHES[n % len(HATCHES)] or None,
            label=name,
        )
        start = [a + b for a, b in zip(start, widths, strict=True)]
    axes.set_xlim(0, max(start) * 1.04 or 1)
