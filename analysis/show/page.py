"""Owns the report's HTML: one page that asks nothing of the network, good on a phone, in the dark and on paper."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from analysis.show.formats import STYLE

if TYPE_CHECKING:
    from analysis.show.collection import Chart

PHONE = 640  # pixels of the window below which the one-column drawing is shown

PAGE_STYLE = """
* { box-sizing: border-box; }
body { max-width: 76rem; overflow-wrap: break-word; }
pre, code, td { overflow-wrap: anywhere; }
th { overflow-wrap: normal; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .4rem 0 .2rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
nav { font-size: .9em; }
nav a { margin-right: .9rem; white-space: nowrap; }
.lead { font-size: 1.1em; }
.big { font-size: 1.6rem; font-weight: 700; font-variant-numeric: tabular-nums; white-space: nowrap; }
.big small { font-size: 1rem; font-weight: 400; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .7rem; margin: .8rem 0; }
.card { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem; }
.card p { margin: 0; }
.dim { color: var(--dim); font-size: .9em; }
figure { margin: .8rem 0; max-width: 62rem; }
figure img { width: 100%; height: auto; display: block; background: #fff; border-radius: .4rem; padding: .4rem; }
/* charts are drawn on white; turned round, and their hues back */
@media screen and (prefers-color-scheme: dark) { figure img { filter: invert(.92) hue-rotate(180deg); } }
pre { background: var(--soft); border-radius: .4rem; padding: .6rem .8rem; overflow-x: auto; white-space: pre-wrap; }
code { font-size: .92em; }
table.plain th, table.plain td { text-align: left; white-space: normal; vertical-align: top; }
table.plain th { white-space: nowrap; }
details { margin: .6rem 0; }
summary { cursor: pointer; }
.bad { border-left: 4px solid #d55e00; padding-left: .8rem; }
@media (max-width: 640px) {
  body { padding: .7rem; }
  th, td { padding: .2rem .45rem; font-size: .9em; }
  .scroll td:first-child, .scroll th:first-child { white-space: normal; min-width: 7.5rem; }
}
@media print {
  body { max-width: none; font-size: 10pt; padding: 0; }
  nav { display: none; }
  figure, table, .card, pre { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  figure img { max-height: 22cm; object-fit: contain; object-position: left; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: .1rem .3rem; }
}
"""


def page(title: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """The page from (id, heading, body) of its sections; the first has the title as its heading."""
    links = "".join(f'<a href="#{i}">{html.escape(h)}</a>' for i, h, _ in sections if h)
    parts = []
    for number, (name, heading, body) in enumerate(sections):
        head = f"<h1>{html.escape(title)}</h1>" if number == 0 else f"<h2>{html.escape(heading)}</h2>"
        nav = f"<nav>{links}</nav>" if number == 0 else ""
        parts.append(f'<section id="{name}">\n{head}\n{body}\n{nav}</section>')
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{html.escape(title)}</title>\n<style>\n{STYLE}{PAGE_STYLE}</style>\n'
        f"</head>\n<body>\n<main>\n" + "\n".join(parts) + "\n</main>\n</body>\n</html>"
    )


def picture(chart: Chart) -> str:
    """A chart as inline SVG images, the one-column drawing for narrow windows; nothing where it draws nothing."""
    wide = _svg(chart, 2)
    if wide is None:
        return ""
    narrow = _svg(chart, 1)
    alt = html.escape(chart.title)
    place = html.escape(f"figure-{chart.stem}")
    return (
        f'<figure id="{place}"><picture><source media="(max-width: {PHONE}px)" srcset="{narrow}">'
        f'<img src="{wide}" alt="{alt}"></picture><figcaption>{alt}</figcaption></figure>'
    )


def _svg(chart: Chart, columns: int) -> str | None:
    from analysis.show.charts import style

    figure = chart.draw(columns)
    if figure is None:
        return None
    return "data:image/svg+xml;base64," + base64.b64encode(style.svg(figure, columns)).decode("ascii")


def plain_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of words."""
    top = "".join(f"<th>{html.escape(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table class="plain"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def listing(items: Iterable[str]) -> str:
    """A list of lines."""
    return "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>"


def card(figure: str, words: str) -> str:
    """A figure worth reading first; what follows its first word (a ±, a mark) stands smaller."""
    big, _, rest = figure.partition(" ")
    more = f" <small>{html.escape(rest)}</small>" if rest else ""
    return f'<div class="card"><p class="big">{html.escape(big)}{more}</p><p class="dim">{html.escape(words)}</p></div>'
