"""Owns the look of all charts: sizes for one- and two-column papers, colours, and how a figure is saved.

A chart is drawn on white, so that it reads the same on a dark page. Colours are Okabe and Ito's (2008), told apart
by colour-blind people; nothing is said by colour alone. Settings hold inside `context` only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from analysis.show.files import write
from ladder.errors import unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.compare.layout import Row
    from analysis.compare.summary import Table

INK, DIM, FAINT, PAPER = "#1a1a1a", "#5c5c5c", "#d5d5d5", "#ffffff"
DARK = ("#0072b2", "#d55e00", "#007a59", "#b0468a", "#8a6d00", "#1a1a1a")  # for lines: dark enough on white
BASE = "#8c8c8c"
BEHIND = "#d0d0d0"
OFF = "#bfd3e2"  # a network of no group
PATH = "#a8a8a8"  # a line that only joins points
COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#0072b2", "#d55e00", "#f0e442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
WIDTHS = {1: 3.35, 2: 6.9}  # inches: columns of a two-column paper
SIZES = {1: 6.2, 2: 7.6}  # points
FORMATS = ("svg", "pdf", "png")
DPI = 200


_TITLES: ContextVar[bool] = ContextVar("titles", default=False)


@contextmanager
def titles(shown: bool = True) -> Iterator[None]:
    """Whether figures drawn within have their title in them, as slides do; papers say it in the caption."""
    token = _TITLES.set(shown)
    try:
        yield
    finally:
        _TITLES.reset(token)


def of_rows(rows: Sequence[Row], references: str = PAPER) -> dict[str, str]:
    """A colour for each rung of a table, the same in all of its charts: that of its group in the ladder's order, grey
    for a base of none, a pale one for other networks of none, white (or `references`) for references."""
    groups = dict.fromkeys(row.group for row in rows if row.group and row.kind != "reference")
    of_group = {"": OFF if groups else COLOURS[0]}
    of_group |= {group: COLOURS[i % len(COLOURS)] for i, group in enumerate(groups)}
    base = next((row for row in rows if row.kind == "main"), None)
    return {
        row.rung: references
        if row.kind == "reference"
        else BASE
        if row is base and not row.group
        else of_group[row.group]
        for row in rows
    }


def shades(colour: str, count: int) -> list[str]:
    """`count` shades of a colour for lines on white, from the darkest on."""
    from colorsys import hls_to_rgb, rgb_to_hls

    from matplotlib.colors import to_hex, to_rgb

    hue, _, saturation = rgb_to_hls(*to_rgb(colour))
    lights = [0.18 + 0.44 * i / (count - 1) for i in range(count)] if count > 1 else [0.3]
    return [to_hex(hls_to_rgb(hue, light, saturation)) for light in lights]


def settings(columns: int) -> Any:
    """matplotlib settings of a chart that is `columns` columns wide."""
    size = SIZES[columns]
    return {
        "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same everywhere
        "font.size": size,
        "axes.titlesize": size + 1,
        "axes.labelsize": size,
        "xtick.labelsize": size - 0.4,
        "ytick.labelsize": size,
        "legend.fontsize": size - 0.4,
        "legend.frameon": False,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": DIM,
        "axes.facecolor": PAPER,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "grid.color": FAINT,
        "grid.linewidth": 0.5,
        "hatch.linewidth": 0.6,
        "lines.linewidth": 1.1,
        "figure.facecolor": PAPER,
        "savefig.facecolor": PAPER,
        "pdf.fonttype": 42,  # TrueType: conferences refuse Type 3
        "svg.fonttype": "path",
        "svg.hashsalt": "ladder",  # the same chart gives the same file
        "axes.unicode_minus": True,
        "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    }


@contextmanager
def context(columns: int = 2) -> Iterator[None]:
    """The settings of a chart while it is drawn or saved, and what was there before afterwards."""
    import matplotlib as mpl

    if columns not in WIDTHS:
        raise unknown("--columns", columns, [str(c) for c in WIDTHS])
    with mpl.rc_context():
        mpl.rcdefaults()  # the same chart whatever style a notebook has set
        mpl.rcParams.update(settings(columns))
        yield


def figure(columns: int, height: float) -> Figure:
    """An empty figure of a paper's column width and of `height` inches, not known to pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    out = Figure(figsize=(WIDTHS[columns], height))
    FigureCanvasAgg(out)
    return out


def place(fig: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches from the lower left corner."""
    w, h = fig.get_size_inches()
    return fig.add_axes((left / w, bottom / h, width / w, height / h))


def text_width(fig: Figure, texts: Iterable[str], size: float, **font: Any) -> float:
    """Inches that the widest of the texts takes."""
    widest = 0.0
    for text in texts:
        artist = fig.text(0, 0, text, fontsize=size, **font)
        widest = max(widest, artist.get_window_extent(fig.canvas.get_renderer()).width)  # type: ignore[attr-defined]
        artist.remove()
    return widest / fig.dpi


def fit(fig: Figure, text: str, room: float, size: float, lines: int = 1, **font: Any) -> str:
    """The text as it is where it takes at most `room` inches; else on up to `lines` lines, the end left out."""
    import textwrap

    def width(of: str) -> float:
        return text_width(fig, of.split("\n"), size, **font)

    if width(text) <= room and text.count("\n") < lines:
        return text
    letters = len(text)
    for _ in range(30):
        letters = max(
            min(letters - 1, int(letters * room / max(width("\n".join(textwrap.wrap(text, letters))), 1e-3))), 1
        )
        folded = "\n".join(textwrap.wrap(text, letters, max_lines=lines, placeholder="…"))
        if width(folded) <= room or letters == 1:
            return folded
    return "…"


def wrap(text: str, width: float, size: float) -> list[str]:
    """Text in lines of at most `width` inches: by the font's mean width of a letter, by fewer where those are wide.

    Lines are no longer than it takes for the last to be a quarter of them, where that takes no line more.
    """
    import textwrap

    letters = int(width * 72 / (size * 0.565))
    lines = textwrap.wrap(text, letters)
    scratch = figure(1, 1)
    while letters > 1 and (found := text_width(scratch, lines, size)) > width:
        letters = max(1, min(letters - 1, int(letters * width / found)))
        lines = textwrap.wrap(text, letters)
    even = lines
    while even and len(even[-1]) < letters / 4 and len(shorter := textwrap.wrap(text, letters - 1)) == len(lines) > 1:
        letters, even = letters - 1, shorter
    return even if even is lines or text_width(scratch, even, size) <= width else lines


def bare(axes: Axes, keep: Sequence[str] = ("bottom",)) -> None:
    """Take the frame away but for the sides to keep."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in keep)


def key_below(axes: Axes, at: float, handles: Sequence[Any], names: Sequence[str]) -> None:
    """The legend below the axes, where no line can run; `at`: its top, in heights of the axes."""
    space = {"handlelength": 2.6, "labelspacing": 0.15, "borderaxespad": 0, "borderpad": 0}
    axes.legend(handles, names, loc="upper left", bbox_to_anchor=(-0.02, at), **space)


def top1_label(table: Table, paper: bool = False) -> str:
    """The label of an axis of top-1: its data set by name, as people write it where it is the paper's."""
    name = table.paper_data_name if paper or table.on_paper_data else table.data_name
    return f"{name} top-1 (%)"


def title_height(title: str, columns: int) -> float:
    """Inches that a title takes at the top of a figure, with the space below it; a margin where none are shown."""
    if not _TITLES.get():
        return 0.08
    size = SIZES[columns]
    return 0.14 + (size + 3.2) / 72 * len(wrap(title, WIDTHS[columns] - 0.12, (size + 1.6) * 1.12))


def title_and_notes(fig: Figure, title: str, notes: Sequence[str], size: float) -> None:
    """The title, where titles are shown, at the top left, the notes at the bottom left of a figure."""
    width, height = fig.get_size_inches()
    if _TITLES.get():
        title = "\n".join(wrap(title, width - 0.12, (size + 1.6) * 1.12))  # bold letters are wider
        fig.text(0.06 / width, 1 - 0.06 / height, title, va="top", fontsize=size + 1.6, weight="bold")
    fig.text(0.06 / width, 0.05 / height, "\n".join(notes), fontsize=size - 1, color=DIM)


def fingerprint(fig: Figure) -> str:
    """16 hex digits over what a figure says: its texts, and its bars, lines and points in the units of its axes.

    A drawing, which has no axes to be read off, says what its texts say, in their order. Not over how it looks: fonts,
    sizes and ticks differ between releases of matplotlib, what is said does not. A PNG carries it, so that a picture
    can be told to be current without comparing pixels.
    """
    from hashlib import sha256

    from matplotlib.collections import Collection
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle
    from matplotlib.text import Text

    said: list[str] = [text.get_text() for text in fig.texts]
    for axes in fig.axes:
        for axis in (axes.xaxis, axes.yaxis):
            said += [axis.get_label_text(), *map(str, getattr(axis.get_major_formatter(), "seq", ()))]
        for artist in axes.get_children():
            if isinstance(artist, Text):
                said.append(artist.get_text())
            elif not axes.axison:
                continue
            elif isinstance(artist, Line2D) and artist.get_transform() == axes.transData:
                said.append(_numbers(artist.get_xydata()))
            elif isinstance(artist, Rectangle) and artist.get_data_transform() == axes.transData:
                said.append(_numbers(artist.get_bbox().bounds))
            elif isinstance(artist, Collection) and artist.get_offset_transform() == axes.transData:
                said.append(_numbers(artist.get_offsets()))
    return sha256("\n".join(said).encode()).hexdigest()[:16]


def _numbers(values: Any) -> str:
    import numpy as np

    flat: list[float] = np.ma.filled(np.ma.asarray(values, float), np.nan).ravel().tolist()
    return " ".join(f"{value:.4g}" for value in flat)


_SVGS: WeakKeyDictionary[Figure, bytes] = WeakKeyDictionary()


def svg(fig: Figure, columns: int = 2) -> bytes:
    """The figure as SVG, made once: a report and the files beside it hold the same."""
    if fig not in _SVGS:
        with context(columns):
            fig.savefig(out := BytesIO(), format="svg", dpi=DPI, metadata={"Date": None})
        _SVGS[fig] = out.getvalue()
    return _SVGS[fig]


def save(fig: Figure, stem: Path, formats: Sequence[str] = FORMATS, columns: int = 2) -> list[Path]:
    """Write the figure as stem.svg, stem.pdf, ...; the paths written. Raises UserError where that can't be."""
    paths = []
    for kind in formats:
        if kind not in FORMATS:
            raise unknown("format", kind, FORMATS)
        path = stem.with_name(f"{stem.name}.{kind}")
        if kind == "svg":
            write(path, svg(fig, columns))
        else:
            made = {"CreationDate": None} if kind == "pdf" else {"Fingerprint": fingerprint(fig)}
            with context(columns):
                fig.savefig(content := BytesIO(), format=kind, dpi=DPI, metadata=made)
            write(path, content.getvalue())
        paths.append(path)
    return paths
