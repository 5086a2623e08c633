"""Owns the formats of a table: text, Markdown, CSV, LaTeX (booktabs), HTML and JSON, all from the same rows."""

from __future__ import annotations

import csv
import html
import io
import json
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from analysis.compare.layout import Row
from analysis.compare.stats import Change
from analysis.compare.summary import Table
from analysis.read.configs import show
from analysis.show import escape
from analysis.show.cells import Grid, Line, grid, macs_unit, widths
from ladder.common.text import safe_cell

CSV_COLUMNS = (
    *("ladder", "data", "eval_split", "recipe", "epochs", "choice"),
    *("rung", "rung_index", "title", "group", "kind", "parent"),
    *("top1", "top1_std", "seeds", "change", "change_to", "change_low", "change_high", "change_method", "within_noise"),
    *("params", "macs", "images_per_s", "runs", "failed"),
    *("paper_top1", "paper_std", "paper_gflops", "paper_change", "paper_change_low", "paper_change_high"),
    *("paper_within_noise", "paper_macs_note"),
)


def text(tables: Sequence[Table]) -> str:
    """Columns of plain text, for a terminal."""
    return "\n\n".join(text_grid(grid(table)) for table in tables)


def text_grid(g: Grid) -> str:
    """One table for a terminal."""
    head = [("paper: " if c.paper else "") + c.heading for c in g.columns]

    def row(cells: Sequence[str]) -> str:
        return "  ".join(
            f"{cell:<{w}}" if c.left else f"{cell:>{w}}" for cell, c, w in zip(cells, g.columns, sizes, strict=True)
        ).rstrip()

    # A mark has a place of its own at the end of its column, so that the figures stand under one another.
    def mark(cell: str) -> int:
        found = re.search(r" (~|\[\d+\])$", cell)
        return len(found[0]) if found else 0

    marks = [max((mark(line.cells[i]) for line in g.lines), default=0) for i in range(len(g.columns))]

    def align(cells: Sequence[str]) -> list[str]:
        return [f"{c}{' ' * (most - mark(c))}" if c else c for c, most in zip(cells, marks, strict=True)]

    lines = [align(line.cells) for line in g.lines]
    sizes = widths([head, *lines])
    rule = "  ".join("-" * w for w in sizes)
    notes = [textwrap.fill(note, max(len(rule), 76), subsequent_indent="  ") for note in g.footnotes]
    above = [g.title, g.subtitle] if g.subtitle else [g.title]
    return "\n".join([*above, "", row(head), rule, *(row(cells) for cells in lines), rule, *notes])


def markdown(tables: Sequence[Table]) -> str:
    """GitHub's pipe tables."""
    return "\n\n".join(markdown_grid(grid(table, titles=True)) for table in tables)


def markdown_grid(g: Grid) -> str:
    """One table as Markdown."""

    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(escape.markdown(c.strip()) for c in cells) + " |"

    head = row([("paper: " if c.paper else "") + c.heading for c in g.columns])
    rule = "| " + " | ".join("---" if c.left else "---:" for c in g.columns) + " |"
    notes = [f"- {escape.markdown(note, start=True)}" for note in g.footnotes]
    subtitle = [escape.markdown(g.subtitle, start=True), ""] if g.subtitle else []
    above = [f"### {escape.markdown(g.title)}", "", *subtitle]
    return "\n".join([*above, head, rule, *(row(x.cells) for x in g.lines), "", *notes])


def latex(tables: Sequence[Table], *, standalone: bool = False) -> str:
    """`table` environments for \\input, no wider than the text. `standalone`: a document that compiles by itself."""
    return latex_grids([grid(table, titles=True) for table in tables], standalone=standalone)


def latex_grids(grids: Sequence[Grid], *, standalone: bool = False) -> str:
    """Tables of any kind as LaTeX."""
    body = "\n\n".join(map(_latex, grids))
    if not standalone:
        return f"% \\usepackage{{booktabs,graphicx}}  % in the preamble\n{body}"
    fonts = "\\usepackage{iftex}\n\\ifPDFTeX\\usepackage[T1]{fontenc}\\else\\usepackage{fontspec}\\fi\n"
    head = f"\\documentclass{{article}}\n{fonts}\\usepackage{{booktabs,graphicx}}\n"
    page = "\\usepackage[a4paper,landscape,margin=15mm]{geometry}\n\\begin{document}\n\\small\n"
    return f"{head}{page}{body}\n\\end{{document}}"


# scales what follows down to the width of the text, where it is wider
_FIT = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%"


def _latex(g: Grid) -> str:
    own = sum(not c.paper for c in g.columns)
    spec = "".join("l" if c.left else "r" for c in g.columns)
    out = ["\\begin{table}", "\\centering", f"\\caption{{{escape.tex(g.title)}: {escape.tex(g.subtitle)}.}}"]
    out += ["\\setlength{\\tabcolsep}{4pt}", _FIT, f"\\begin{{tabular}}{{{spec}}}", "\\toprule"]
    if own < len(g.columns):
        paper = f"\\multicolumn{{{len(g.columns) - own}}}{{c}}{{paper}}"
        ours = f"\\multicolumn{{{own - 1}}}{{c}}{{ours}} & " if own > 1 else ""
        out.append(f"& {ours}{paper} \\\\")
        under = f"\\cmidrule(lr){{2-{own}}} " if own > 1 else ""
        out.append(f"{under}\\cmidrule(lr){{{own + 1}-{len(g.columns)}}}")
    out += [" & ".join(escape.tex(c.heading) for c in g.columns) + " \\\\", "\\midrule"]
    previous = "main"
    for line in g.lines:
        if line.kind == "reference" and previous != "reference":
            out.append("\\midrule")
        out.append(_latex_row(line))
        previous = line.kind
    out += ["\\bottomrule", "\\end{tabular}}", "\\par\\smallskip", "\\begin{minipage}{\\linewidth}\\footnotesize"]
    out += [f"{escape.tex(note)}.\\\\" for note in g.footnotes]
    return "\n".join([*out, "\\end{minipage}", "\\end{table}"])


def _latex_row(line: Line) -> str:
    cells = [escape.tex(c.strip().removeprefix("└ ")) for c in line.cells]
    if line.kind in ("side", "subset"):
        cells[0] = f"\\quad\\emph{{{cells[0]}}}"
    elif line.kind == "main":  # a number of fixed width before the name
        number, _, name = cells[0].partition(" ")
        cells[0] = f"\\makebox[1.2em][r]{{{number}}} {name}"
    return " & ".join(cells) + " \\\\"


def page(tables: Sequence[Table]) -> str:
    """One self-contained HTML page."""
    return page_of_grids([grid(table, titles=True) for table in tables])


def page_of_grids(grids: Sequence[Grid]) -> str:
    """Tables of any kind as one self-contained HTML page."""
    body = "\n".join(map(html_grid, grids))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(grids[0].title)}</title>\n<style>\n{STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>"
    )


STYLE = """:root { color-scheme: light dark; --line: #8888; --dim: #666; --soft: #8881; --page: #fff; --shade: #0004; }
@media (prefers-color-scheme: dark) { :root { --dim: #aaa; --page: #141414; --shade: #fff6; } }
html { background: var(--page); }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 75rem; }
/* a shade where there is more of a wide table: the page's colour moves along with the table and covers it */
.scroll { overflow-x: auto; background: linear-gradient(to right, var(--page) 40%, transparent) left / 3rem 100%,
  linear-gradient(to left, var(--page) 40%, transparent) right / 3rem 100%,
  linear-gradient(to right, var(--shade), transparent) left / .8rem 100%,
  linear-gradient(to left, var(--shade), transparent) right / .8rem 100%;
  background-repeat: no-repeat; background-attachment: local, local, scroll, scroll; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; border-block: 2px solid var(--line); }
th, td { padding: .2rem .55rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th[colspan] { text-align: center; }
thead tr:last-child th { border-bottom: 1px solid var(--line); }
tr.side td:first-child, tr.subset td:first-child { padding-left: 2.4rem; font-style: italic; }
tr.reference td { color: var(--dim); }
td.paper, th.paper { background: var(--soft); }
td.noise { color: var(--dim); }
ul.notes { color: var(--dim); font-size: .87em; padding-left: 1.1rem; }
"""


def html_table(table: Table, level: int = 2) -> str:
    """One table as an HTML section with a heading of `level`, without page and style."""
    return html_grid(grid(table, titles=True), level)


def html_grid(g: Grid, level: int = 2) -> str:
    """One table of any kind as an HTML section."""
    own = sum(not c.paper for c in g.columns)
    head = "".join(f"<th{' class=paper' if c.paper else ''}>{html.escape(c.heading)}</th>" for c in g.columns)
    over = ""
    if own < len(g.columns):
        ours = f"<th colspan={own - 1}>ours</th>" if own > 1 else ""
        over = f"<tr><th></th>{ours}<th class=paper colspan={len(g.columns) - own}>paper</th></tr>"
    rows = []
    for line in g.lines:
        cells = []
        for cell, column in zip(line.cells, g.columns, strict=True):
            names = [n for n, on in (("paper", column.paper), ("noise", cell.endswith("~"))) if on]
            kind = f' class="{" ".join(names)}"' if names else ""
            cells.append(f"<td{kind}>{html.escape(cell.strip().removeprefix('└ '))}</td>")
        rows.append(f'<tr class="{line.kind}">{"".join(cells)}</tr>')
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in g.footnotes)
    return (
        f"<section>\n<h{level}>{html.escape(g.title)}</h{level}>\n<p>{html.escape(g.subtitle)}</p>\n"
        f'<div class="scroll"><table>\n<thead>{over}<tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + f'\n</tbody>\n</table></div>\n<ul class="notes">{notes}</ul>\n</section>'
    )


def csv_text(tables: Sequence[Table]) -> str:
    """Full numbers, a line a rung; intervals as their two ends; an empty cell for what is not known."""
    return csv_of(records(tables), CSV_COLUMNS)


def csv_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Mappings of equal keys as CSV; no cell is read as a formula."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _csv_cell(v) for k, v in row.items()} for row in rows)
    return out.getvalue().rstrip("\n")


def records(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """What `csv_text` writes, as it is: a mapping a rung, None for what is not known."""
    return [_record(table, row) for table in tables for row in table.rows]


def _csv_cell(value: Any) -> Any:
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        return safe_cell(value)
    return round(value, 6) if isinstance(value, float) and not value.is_integer() else value


def _record(table: Table, row: Row) -> dict[str, Any]:
    paper, top1 = row.paper, row.top1
    ours, theirs = _ends(row.change), _ends(row.paper_change)
    return {
        "ladder": table.ladder,
        "data": table.data,
        "eval_split": table.eval_split,
        "recipe": table.recipe,
        "epochs": table.epochs,
        "choice": " ".join(f"{k}={show(v)}" for k, v in table.choice.items()),
        "rung": row.rung,
        "rung_index": row.index,
        "title": row.title,
        "group": row.group,
        "kind": row.kind,
        "parent": row.parent,
        "top1": top1.mean if top1 else None,
        "top1_std": top1.std if top1 else None,
        "seeds": top1.n if top1 else 0,
        "change": ours["delta"],
        "change_to": row.against if row.change else None,
        "change_low": ours["low"],
        "change_high": ours["high"],
        "change_method": ours["method"],
        "within_noise": ours["within_noise"],
        "params": row.params,
        "macs": row.macs,
        "images_per_s": row.images_per_s,
        "runs": row.runs,
        "failed": row.states.get("failed", 0),
        "paper_top1": paper.top1 if paper else None,
        "paper_std": paper.std if paper else None,
        "paper_gflops": paper.gflops if paper else None,
        "paper_change": theirs["delta"],
        "paper_change_low": theirs["low"],
        "paper_change_high": theirs["high"],
        "paper_within_noise": theirs["within_noise"],
        "paper_macs_note": paper.macs_note if paper else None,
    }


def _ends(change: Change | None) -> dict[str, Any]:
    if change is None:
        return dict.fromkeys(("delta", "low", "high", "method", "within_noise"))
    return {
        "delta": change.delta,
        "low": change.low,
        "high": change.high,
        "method": change.method,
        "within_noise": change.within_noise,
    }


def json_text(tables: Sequence[Table]) -> str:
    """Full numbers with their units in the names; null for what is not known."""
    return json.dumps({"format": 1, "tables": [_json_table(t) for t in tables]}, indent=1, allow_nan=False)


def _json_table(table: Table) -> dict[str, Any]:
    keys = ("ladder", "title", "kind", "source", "data", "eval_split", "eval_size", "image_size", "recipe", "epochs")
    head = {key: getattr(table, key) for key in (*keys, "batch_size")}
    rows = [
        {
            **{k: getattr(row, k) for k in ("rung", "title", "group", "index", "kind", "parent")},
            "top1": _plain(
                asdict(row.top1) | {"by_seed": {str(k): v for k, v in row.values.items()}} if row.top1 else None
            ),
            "change": _plain({"to": row.against, **_ends(row.change)} if row.change else None),
            "params": row.params,
            "macs": row.macs,
            "images_per_s": row.images_per_s,
            "runs": dict(row.states),
            "paper": _plain({**asdict(row.paper), "change": _ends(row.paper_change) if row.paper_change else None})
            if row.paper and row.paper.top1 is not None
            else None,
        }
        for row in table.rows
    ]
    references = [{"title": r.title, "recipe": r.recipe, "paper": asdict(r.paper)} for r in table.references]
    return {
        **head,
        "choice": dict(table.choice),
        "seeds": list(table.seeds),
        "interval": table.interval,
        "model": _model(table),
        "macs_unit_shown": macs_unit(row.macs for row in table.rows)[0],
        "rows": rows,
        "references": references,
        "notes": list(table.notes),
    }


def _model(table: Table) -> dict[str, Any] | None:
    """What the intervals of the changes stand on."""
    model = table.fit
    if model is None or not model.components:
        return None
    whole = _ends(table.whole) if table.whole else None
    facts: dict[str, Any] = {"std": model.std, "degrees_of_freedom": model.freedom, "within_seeds": model.blocked}
    facts |= {"spread_apart": list(model.apart), "least_half_width": model.floor, "whole_walk": whole}
    return {key: _plain(value) for key, value in facts.items()}


def _plain(value: Any) -> Any:
    """NaN as null, all the way down."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


FORMATS: dict[str, Callable[[Sequence[Table]], str]] = {
    "text": text,
    "md": markdown,
    "csv": csv_text,
    "latex": latex,
    "html": page,
    "json": json_text,
}
SUFFIXES = {
    ".txt": "text",
    ".md": "md",
    ".csv": "csv",
    ".tex": "latex",
    ".html": "html",
    ".htm": "html",
    ".json": "json",
}


Table._repr_html_ = html_table  # type: ignore[attr-defined]  # how a notebook shows a table
