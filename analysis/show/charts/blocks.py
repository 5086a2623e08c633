"""Owns the block drawings (arXiv:2201.03545, Figures 3 and 4): blocks layer by layer, changes marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from analysis.read.configs import show
from analysis.show.anatomy import Anatomy, Layer, anatomy
from analysis.show.charts import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ladder.networks.rungs import Ladder, Rung

NEW, GONE = style.DARK[1], "#9a9a9a"
_HEIGHT = {"conv": 1.0, "norm": 0.72, "act": 0.72, "scale": 0.72, "pool": 0.72, "add": 0.8, "other": 0.72, "fork": 0.3}
_FILL = {
    "conv": "#dcecf7",
    "norm": "#ffffff",
    "act": "#fdf1d8",
    "scale": "#efe3ee",
    "pool": "#e3f1ec",
    "other": "#eeeeee",
}


@dataclass(frozen=True)
class Item:
    """One layer of a drawing. state: same, new (this step brought or changed it), gone (it took it away)."""

    layer: Layer
    state: str


@dataclass(frozen=True)
class Drawing:
    """One rung: its block, and in words what changed outside it."""

    rung: str
    title: str
    items: tuple[Item, ...]
    channels: int
    notes: tuple[str, ...]
    changed: bool


def drawings(ladder: Ladder, rungs: Sequence[Rung], image_size: int | None = None, in_chans: int = 3) -> list[Drawing]:
    """A drawing of each rung against the rung before it, from the networks that the specs build."""
    size = image_size or ladder.image_size
    every = {r.name: r for r in (*ladder.rungs, *ladder.side_rungs)}
    out = []
    for rung in rungs:
        mine = anatomy(rung.spec, size, in_chans)
        before = every.get(rung.parent or "")
        theirs = None if before is None else anatomy(before.spec, size, in_chans)
        items = compare(theirs.block, mine.block) if theirs else tuple(Item(layer, "same") for layer in mine.block)
        recipe = [] if before is None else _recipe_change(before.recipe, rung.recipe)
        notes = [*_outside(theirs, mine), *recipe]
        if theirs and all(item.state == "same" for item in items):
            notes.append("the block stays")
        name = rung.title if rung.index is None else f"{rung.index} {rung.title}"
        out.append(Drawing(rung.name, name, items, mine.channels, tuple(notes), theirs is not None))
    return out


def compare(before: Sequence[Layer], after: Sequence[Layer]) -> tuple[Item, ...]:
    """The layers after a step, new ones marked, and those that it took away at the place where they were."""
    out: list[Item] = []
    matcher = SequenceMatcher(a=list(before), b=list(after), autojunk=False)
    for what, i, j, k, m in matcher.get_opcodes():
        if what == "equal":
            out += [Item(layer, "same") for layer in after[k:m]]
            continue
        kept = [layer.kind for layer in after[k:m]]
        for layer in before[i:j]:
            if layer.kind in kept:  # changed rather than taken away
                kept.remove(layer.kind)
            elif layer.kind != "fork":  # its shortcut says all
                out.append(Item(layer, "gone"))
        out += [Item(layer, "new") for layer in after[k:m]]
    return tuple(out)


def _outside(before: Anatomy | None, after: Anatomy) -> list[str]:
    """Depths, stem and what lies between stages: all of it for the base, else what changed."""
    depths = "blocks" if len(after.depths) == 1 else "stages"
    said = {
        depths: (":".join(map(str, after.depths)), None if before is None else ":".join(map(str, before.depths))),
        "stem": (_words(after.stem), None if before is None else _words(before.stem)),
        "between stages": (_words(after.between), None if before is None else _words(before.between)),
    }
    return [
        f"{name}: {now}"
        for name, (now, then) in said.items()
        if now and now != then and (then is None or _real(now, then))
    ]


def _real(now: str, then: str) -> bool:
    """Whether more changed than the block itself shows (its width, its strided convolution)."""
    inside = "in the first block"
    if now.startswith(inside) and then.startswith(inside):
        return ("pool" in now) != ("pool" in then)
    strip = str.maketrans("", "", "0123456789→")
    return now.translate(strip) != then.translate(strip) or "→" not in now


def _words(layers: Sequence[Layer]) -> str:
    return ", ".join(layer.text for layer in layers)


def _recipe_change(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    return [f"recipe: {k} {show(v)}" for k, v in after.items() if k not in before or before[k] != v]


def draw(title: str, data: Sequence[Drawing], columns: int = 2) -> Figure:
    """A grid of blocks, in order, the input at the top of each."""
    with style.context(columns):
        size = style.SIZES[columns] - (0.7 if columns == 2 else 0.4)
        width = style.WIDTHS[columns]
        across = min(5 if columns == 2 else 3, len(data))
        cell = (width - 0.12) / across
        unit = (size + 4.6) / 72  # inches of a layer of height 1
        line = (size + 1.4) / 72
        wrapped = [[w for note in one.notes for w in style.wrap(note, cell - 0.1, size - 0.6)] for one in data]
        titles = [style.wrap(one.title, cell - 0.1, size * 1.1) for one in data]
        rows = [range(i, min(i + across, len(data))) for i in range(0, len(data), across)]
        heads = [max(len(titles[i]) + len(wrapped[i]) for i in row) * line + 0.06 for row in rows]
        bodies = [max(_tall(data[i].items) for i in row) * unit for row in rows]
        key = style.wrap(_KEY, width - 0.12, size - 0.4)
        bottom = 0.1 + (size + 1) / 72 * len(key)
        height = style.title_height(title, columns) + sum(heads) + sum(bodies) + 0.16 * len(rows) + bottom
        fig = style.figure(columns, height)
        top = height - style.title_height(title, columns)
        for row, head, body in zip(rows, heads, bodies, strict=True):
            for place, i in enumerate(row):
                axes = style.place(fig, 0.06 + place * cell, top - head - body, cell, head + body)
                axes.set_xlim(0, cell)
                axes.set_ylim(-(head + body), 0)
                axes.axis("off")
                _head(axes, titles[i], wrapped[i], size, line)
                _block(axes, data[i], head, unit, cell, size)
            top -= head + body + 0.16
        style.title_and_notes(fig, title, key, style.SIZES[columns])
        return fig


_ARROW = {"arrowstyle": "-|>", "lw": 0.6, "fc": style.INK, "ec": style.INK}
_KEY = (
    "A block of the first stage (not its first), top to bottom. k×k, in→out: convolution; dw: depthwise; /2: stride 2."
    " Orange outline: new or changed by this step; grey and dashed: taken away by it."
)


def _tall(items: Sequence[Item]) -> float:
    return sum(_HEIGHT[item.layer.kind] for item in items) + 1.25  # entry and exit


def _head(axes: Axes, title: Sequence[str], notes: Sequence[str], size: float, line: float) -> None:
    axes.text(0.03, 0, "\n".join(title), va="top", fontsize=size, weight="bold", linespacing=1.1)
    axes.text(
        *(0.03, -line * len(title) - 0.01, "\n".join(notes)),
        va="top",
        fontsize=size - 0.6,
        color=style.DIM,
        linespacing=1.15,
    )


def _block(axes: Axes, one: Drawing, head: float, unit: float, cell: float, size: float) -> None:
    from matplotlib.patches import Circle, FancyBboxPatch

    centre, half, skip = cell * 0.44, cell * 0.37, cell * 0.44 + cell * 0.45
    y = -head - 0.35 * unit
    axes.text(
        centre, -head - 0.02, f"{one.channels} channels", ha="center", va="top", fontsize=size - 1, color=style.DIM
    )
    y -= 0.45 * unit
    start = y
    axes.plot(
        [centre, centre], [y + 0.3 * unit, y - (_tall(one.items) - 0.75) * unit], color=style.INK, lw=0.7, zorder=1
    )
    forks: list[float] = []
    whole = 0  # shortcuts around all that comes before them
    for item in one.items:
        layer, tall = item.layer, _HEIGHT[item.layer.kind] * unit
        middle = y - tall / 2
        edge = {"new": NEW, "gone": GONE, "same": style.INK}[item.state]
        heavy = 1.5 if item.state == "new" else 0.6
        if layer.kind == "fork":
            forks.append(middle)
        elif layer.kind == "add":
            radius, gone = 0.3 * unit, item.state == "gone"
            colour, dashes = (GONE, "--") if gone else (style.INK, "-")
            axes.add_patch(Circle((centre, middle), radius, fc=style.PAPER, ec=edge, lw=heavy, ls=dashes, zorder=3))
            axes.text(centre, middle, "+", ha="center", va="center_baseline", fontsize=size, color=colour, zorder=4)
            if forks and not gone:
                branch, right = forks.pop(), skip
            else:
                branch, right = start + 0.14 * unit, skip + 0.05 * cell * whole
                whole += 1
            xs, ys = [centre, right, right, centre + radius], [branch, branch, middle, middle]
            axes.plot(xs, ys, color=colour, lw=0.7, ls=dashes, zorder=0.5, solid_joinstyle="round")
            axes.annotate(
                "",
                (centre + radius, middle),
                (centre + radius + 0.08, middle),
                arrowprops={**_ARROW, "fc": colour, "ec": colour},
            )
        else:
            wide = half if layer.kind == "conv" else half * 0.62
            box = FancyBboxPatch(
                (centre - wide, middle - 0.42 * tall),
                2 * wide,
                0.84 * tall,
                boxstyle=f"round,pad=0,rounding_size={0.03 if layer.kind == 'conv' else 0.06}",
                fc=style.PAPER if item.state == "gone" else _FILL[layer.kind],
                ec=edge,
                lw=heavy,
                ls="--" if item.state == "gone" else "-",
                zorder=2,
            )
            axes.add_patch(box)
            colour = GONE if item.state == "gone" else style.INK
            # Long words shrink to their box.
            fits = 2 * wide * 72 / (0.6 * max(len(layer.text), 1))
            axes.text(
                *(centre, middle, layer.text),
                ha="center",
                va="center_baseline",
                fontsize=min(size - (0.2 if layer.kind == "conv" else 0.8), fits),
                color=colour,
                zorder=3,
            )
        y -= tall
    axes.annotate("", (centre, y - 0.38 * unit), (centre, y - 0.05 * unit), arrowprops=_ARROW)
