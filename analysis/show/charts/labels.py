"""Owns where names stand beside points: on the side that is free and that fewest lines run through."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.show.charts.scatter import Point


def place_labels(
    axes: Axes, points: Sequence[Point], size: float, radii: Sequence[float], joined: bool = False
) -> None:
    """A name at each point, on the side of it that is free and that fewest lines run through; none where all are taken.

    `radii`: of what marks the points, in typographic points. `joined`: lines and bars of std are to be kept clear of.
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
    lines = _lines(axes, points) if joined else []
    for p, radius in zip(points, radii, strict=True):
        if not p.label:
            continue
        best: tuple[int, Bbox, Any] | None = None
        for far, (offset, ha, va) in enumerate(_sides(radius)):
            text = axes.annotate(
                p.label, (p.x, p.top1), xytext=offset, textcoords="offset points", ha=ha, va=va, fontsize=size, zorder=4
            )
            box = text.get_window_extent(renderer).padded(2)
            free = not any(box.overlaps(other) for other in taken)
            free = free and inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
            crossed = sum(box.contains(*spot) for spot in lines) + 3 * (far // 8)  # rather near, beside a line
            if not free or (best is not None and best[0] <= crossed):
                text.remove()
                continue
            if best is not None:
                best[2].remove()
            best = (crossed, box, text)
            if not crossed:
                break
        if best is not None:
            taken.append(best[1])


def _sides(radius: float) -> Iterator[tuple[tuple[float, float], str, str]]:
    """Where a name may stand, the best first: an offset in typographic points, and the corner of the name there."""
    for more in (0.0, 6.0):
        off, aslant = radius + 2.5 + more, radius * 0.7 + 2.5 + more
        yield from (
            ((0, off), "center", "bottom"),
            ((0, -off), "center", "top"),
            ((off, 0), "left", "center"),
            ((-off, 0), "right", "center"),
            ((aslant, aslant), "left", "bottom"),
            ((aslant, -aslant), "left", "top"),
            ((-aslant, aslant), "right", "bottom"),
            ((-aslant, -aslant), "right", "top"),
        )


def _lines(axes: Axes, points: Sequence[Point]) -> list[tuple[float, float]]:
    """Spots on the lines that join the points and on their bars of std, in pixels, a few pixels apart."""
    import numpy as np

    chain = [(p.x, p.top1) for p in points if p.series]
    pairs = [*itertools.pairwise(chain), *(((p.x, p.top1 - p.std), (p.x, p.top1 + p.std)) for p in points if p.std)]
    spots: list[tuple[float, float]] = []
    for pair in pairs:
        start, end = axes.transData.transform(pair)
        count = int(np.hypot(*(end - start)) / 4) + 2
        spots += [(float(x), float(y)) for x, y in np.linspace(start, end, count)]
    return spots
