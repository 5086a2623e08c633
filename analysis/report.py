"""Owns the command `ladder report`: a study as one self-contained HTML page."""

from __future__ import annotations

import html
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.show import options
from ladder.common.command import FILE, command
from ladder.errors import UserError, run_cli

if TYPE_CHECKING:
    import pandas as pd

    from analysis.compare.effect_answer import Answer
    from analysis.compare.layout import Row
    from analysis.compare.summary import Table
    from analysis.show.collection import Chart

EXAMPLES = """examples:
  ladder report runs/demo                          writes runs/demo/report.html
  ladder report runs/lr --compare recipe.lr --out lr.html

The page holds all it shows: it opens without a network, on a phone, and prints.
"""


@command("report", examples=EXAMPLES)
@options.studies()
@click.option("--out", type=FILE, metavar="FILE", help="default: report.html in the study's folder")
@click.option("--title", help="default: the names of the studies")
@options.compare("a part")
@options.where()
@options.interval()
def main(
    study: tuple[str, ...],
    out: Path | None,
    title: str | None,
    compare: tuple[str, ...],
    where: dict[str, str],
    interval: str,
) -> None:
    """One HTML page about a study: headline, tables, charts, failures, configuration, how to reproduce."""
    from analysis.read.load import place_in
    from analysis.show.files import make_parent, write

    named, out = out is not None, out or place_in(study[0], "report.html")
    if out.suffix not in (".html", ".htm"):
        raise UserError(f"--out {out}: must end in .html")
    contents = gather(study, compare=compare, where=where, interval=interval)
    for line in contents.skipped:
        print(f"skipped {line}", file=sys.stderr)
    make_parent(out)  # before the minute that drawing takes
    write(out, compose(contents, title), follow=named)
    print(out)


def build(
    study: Any, *, title: str | None = None, compare: Sequence[str] = (), where: dict[str, str] | None = None
) -> tuple[str, list[str]]:
    """The page of one or several studies, and a line for every folder that was left out of it.

    Raises:
        UserError: as `analysis.load` and `analysis.summarise`.
    """
    contents = gather(study, compare=compare, where=where)
    return compose(contents, title), contents.skipped


@dataclass(frozen=True)
class Contents:
    """What a page about a study is made of. Each chart is drawn once for a width, however often it is saved."""

    runs: pd.DataFrame
    tables: list[Table]
    charts: list[tuple[Table | Answer, Chart]]
    skipped: list[str]
    options: tuple[str, ...] = ()  # of the command line that makes it
    waiting: tuple[str, ...] = ()  # runs that were asked for and have no folder yet
    effects: Answer | None = None  # what steps are worth on average, where networks beside the walk's were trained


def gather(
    study: Any, *, compare: Sequence[str] = (), where: Mapping[str, str] | None = None, interval: str = "all"
) -> Contents:
    """Read one or several studies. Raises UserError as `build`."""
    from analysis.compare.effect_answer import effects_of
    from analysis.compare.reproduce import to_come
    from analysis.compare.selection import only
    from analysis.compare.summary import summarise
    from analysis.read.load import load, load_curves
    from analysis.show.collection import effect_charts, study_charts

    skipped: list[str] = []
    every = load(study, on_skip=skipped.append)
    runs = only(every, where or {})
    tables = summarise(every, compare=compare, where=where, interval=interval)
    charts: list[tuple[Table | Answer, Chart]] = list(study_charts(tables, load_curves(runs, on_skip=skipped.append)))
    effects = None if compare else effects_of(every, where, interval)
    if effects is not None:
        charts += [(effects, chart) for chart in effect_charts(effects)]
    options = [f"--compare {key}" for key in compare] + [f"--where {k}={v}" for k, v in (where or {}).items()]
    options += [] if interval == "all" else [f"--interval {interval}"]
    drawn = [(of, replace(c, draw=cache(c.draw))) for of, c in charts]
    waiting = [] if where else to_come(every)  # what a run without a folder would be is not known
    return Contents(runs, tables, drawn, skipped, tuple(options), tuple(waiting), effects)


def compose(contents: Contents, title: str | None = None) -> str:
    """The page; its title is that of the studies unless another is given."""
    from analysis.compare.reproduce import launches
    from analysis.show import page
    from analysis.show.effect_grid import grids
    from analysis.show.formats import html_grid

    runs, tables = contents.runs, contents.tables
    name = title or "Study " + ", ".join(dict.fromkeys(runs["study"]))
    sections = [("top", "", _lead(contents))]
    for number, table in enumerate(tables):
        mine = [chart for of, chart in contents.charts if of is table]
        mark = f"-{number}" if len(tables) > 1 else ""
        sections += _table_sections(table, mine, mark, len(tables) > 1)
    if contents.effects is not None:
        worth = "\n".join(html_grid(grid, level=3) for grid in grids(contents.effects, titles=True))
        worth += "\n".join(page.picture(chart) for of, chart in contents.charts if of is contents.effects)
        sections.insert(1, ("effects", "What each step is worth on average", worth))
    launched = launches(runs)
    sections.append(("runs", "Runs and failures", _failures(contents)))
    sections.append(("configuration", "Configuration", _configuration(runs, tables)))
    sections.append(("reproduce", "How to reproduce", _reproduce(contents, list(launched))))
    return page.page(name, sections)


def _table_sections(table: Table, charts: Sequence[Chart], mark: str, several: bool) -> list[tuple[str, str, str]]:
    from analysis.show import page
    from analysis.show.cells import heading
    from analysis.show.formats import html_table

    def pictures(*ends: str) -> str:
        return "\n".join(page.picture(chart) for chart in charts if chart.stem.endswith(ends))

    of = f": {heading(table)}" if several else ""
    parts = [
        ("ladder", f"The ladder{of}", _headline(table) + pictures("roadmap")),
        ("table", "Table", html_table(table, level=3)),
        ("changes", "What each step changed", pictures("changes")),
        ("sizes", "Accuracy over sizes", pictures("sizes")),
        ("cost-accuracy", "Accuracy over cost", pictures("macs", "throughput")),
        ("curves", "Training curves", pictures("curves", "curves_loss")),
        ("blocks", "The blocks", pictures("blocks")),
        ("cost", "Where the cost sits", pictures("cost_by_kind", "cost_by_stage")),
    ]
    return [(f"{name}{mark}", words, body) for name, words, body in parts if body.strip()]


def _lead(contents: Contents) -> str:
    runs, tables = contents.runs, contents.tables
    counts = {str(state): int(n) for state, n in runs["state"].value_counts().items()}
    if contents.waiting:
        counts["pending"] = counts.get("pending", 0) + len(contents.waiting)
    rest = ", ".join(f"{n} {state}" for state, n in counts.items() if state != "done")
    done = f"{counts.get('done', 0)} of {sum(counts.values())} runs done" + (f" ({rest})" if rest else "")
    ladders = ", ".join(dict.fromkeys(f"{t.title} on {t.data_name}" for t in tables))
    return f'<p class="lead">{html.escape(ladders)}: {html.escape(done)}.</p>'


def _headline(table: Table) -> str:
    """First and last finished rung of the chain, the clearest step up and down, how many steps are clear of noise."""
    from analysis.show import page
    from analysis.show.cells import change_text, spread

    main = [row for row in table.rows if row.kind == "main" and row.top1]
    cards: list[str] = []
    if table.kind == "chain" and len(main) > 1:
        first, last = main[0], main[-1]
        assert first.top1 is not None and last.top1 is not None
        start, end = (spread(r.top1.mean, r.top1.std) for r in (first, last) if r.top1)
        cards.append(page.card(start, f"% top-1 of {first.title}, {_seeds(first)}"))
        cards.append(page.card(end, f"% top-1 of {last.title}, {_seeds(last)}"))
        cards.append(page.card(change_text(table.whole), f"points, {first.title} to {last.title}, ±95% interval"))
    elif main and main[0].top1 is not None:
        cards.append(page.card(spread(main[0].top1.mean, main[0].top1.std), f"% top-1 of {main[0].title}"))
    judged = [row for row in table.rows if row.kind == "main" and row.change and row.change.within_noise is not None]
    if judged:
        clear = sum(not row.change.within_noise for row in judged if row.change)
        cards.append(page.card(f"{clear} of {len(judged)}", "steps changed top-1 by more than seed noise"))
    moved = [(row.change.delta, row) for row in judged if row.change and not row.change.within_noise]
    for words, sign in (("up", 1), ("down", -1)):
        if mine := [(sign * delta, row) for delta, row in moved if sign * delta > 0]:
            _, row = max(mine, key=lambda one: one[0])
            cards.append(page.card(change_text(row.change), f"the largest clear step {words}: {row.title}"))
    return f'<div class="cards">{"".join(cards)}</div>' if cards else ""


def _seeds(row: Row) -> str:
    count = row.top1.n if row.top1 else 0
    return f"{count} seed{'s' if count != 1 else ''}"


def _failures(contents: Contents) -> str:
    from analysis.show import page

    runs, tables, skipped, waiting = contents.runs, contents.tables, contents.skipped, contents.waiting
    parts = []
    for state, words in (
        ("failed", "Failed"),
        ("running", "Running (or ended without a word: see ladder status)"),
        ("stopped", "Stopped, to be resumed by the same command"),
        ("pending", "Not started"),
    ):
        mine = runs[runs["state"] == state]
        if len(mine):
            head = ["run", "epochs", "tries"] + (["error"] if state == "failed" else [])
            rows = [
                [str(r.run), _text(r.epochs_done), _text(r.attempts), _text(r.error)][: len(head)]
                for r in mine.itertuples()
            ]
            table = page.plain_table(head, rows)
            parts.append(
                f'<h3>{words} ({len(mine)})</h3><div class="{"bad" if state == "failed" else ""}">{table}</div>'
            )
    missing = [
        note for table in tables for note in table.notes if note.startswith("not run:") or "not launched" in note
    ]
    if waiting:
        missing.append(f"{len(waiting)} launched and not started yet: {', '.join(waiting)}")
    if missing:
        parts.append(f"<h3>Missing</h3>{page.listing(dict.fromkeys(missing))}")
    if skipped:
        parts.append(f"<h3>Folders left out ({len(skipped)})</h3>{page.listing(skipped)}")
    return "".join(parts) or "<p>Every run is done, none is missing, no folder was left out.</p>"


def _configuration(runs: pd.DataFrame, tables: Sequence[Table]) -> str:
    from analysis.read.configs import differences, read_config, show
    from analysis.show import page
    from ladder.common.nested import flatten

    done = runs[runs["state"] == "done"]
    configs = [c for c in (read_config(str(p)) for p in done["path"]) if c is not None]
    parts = []
    differing = differences(configs, ("rung", "steps", "without", "reference", "spec", "seed", "ladder"))
    if differing:
        rows = [(key, "; ".join(show(v) for v in values[:8])) for key, values in differing.items()]
        parts.append("<h3>What differs between the runs, beside rung and seed</h3>")
        parts.append(page.plain_table(("key", "values"), rows))
    else:
        parts.append("<p>The runs differ in rung and seed alone.</p>")
    for table in tables:
        changes = list(_spec_changes(table))
        if changes:
            parts.append(f"<h3>What each step of {html.escape(table.ladder)} sets</h3>")
            parts.append(page.plain_table(("rung", "spec"), changes))
    if configs:
        same = {k: v for k, v in flatten(configs[0]).items() if k not in differing}
        rows = [(k, show(v)) for k, v in same.items() if k.split(".")[0] in ("recipe", "data", "engine")]
        parts.append("<details><summary>All settings that the runs share</summary>")
        parts.append(page.plain_table(("key", "value"), rows) + "</details>")
    return "\n".join(parts)


def _spec_changes(table: Table) -> Iterable[tuple[str, str]]:
    from analysis.compare.overrides import ladder_of
    from analysis.read.configs import show

    ladder = ladder_of(table.ladder, table.paths)
    if ladder is None:
        return
    steps = {step.name: step for step in (*ladder.steps, *ladder.side)}
    for row in table.rows:
        if step := steps.get(row.rung):
            values = {**step.change, **{f"recipe.{k}": v for k, v in step.recipe.items()}}
            yield row.title, ", ".join(f"{k}: {show(v)}" for k, v in values.items())


def _reproduce(contents: Contents, launched: Sequence[str]) -> str:
    from analysis.compare.reproduce import code_of, commands, versions_of
    from analysis.show import page

    runs, tables = contents.runs, contents.tables
    parts = []
    code = code_of(runs)
    if len(code) == 1 and len(code[0][0]) == 40:
        parts.append(f"<p>Code: commit <code>{code[0][0]}</code></p><pre>git checkout {code[0][0]}</pre>")
    else:
        parts.append(
            "<p>Commits of the finished runs, with their number:</p>" + page.listing(f"{name}: {n}" for name, n in code)
        )
    lines = [line for table in tables for line in commands(runs[runs["path"].isin(list(table.paths))])]
    if launched:
        parts.append("<p>As launched:</p><pre>" + html.escape("\n".join(launched)) + "</pre>")
    if lines:
        parts.append("<p>As the runs' configs read, every choice spelled out (a run that is done is skipped):</p>")
        parts.append(f"<pre>{html.escape(chr(10).join(lines))}</pre>")
    names = " ".join([*dict.fromkeys(_named(Path(path).parent) for path in runs["path"]), *contents.options])
    parts.append(f"<p>This page: <code>ladder report {html.escape(names)}</code></p>")
    rows = [(name, ", ".join(values)) for name, values in versions_of(runs).items() if values]
    parts.append(page.plain_table(("what", "version"), rows))
    return "\n".join(parts)


def _named(folder: Path) -> str:
    """A study's folder as one would type it in a checkout."""
    from analysis.read.packed import find

    return f"runs/{'published/' if find(folder) else ''}{folder.name}"


def _text(value: Any) -> str:
    import pandas as pd

    return "" if pd.isna(value) else str(value)


if __name__ == "__main__":
    run_cli(main)
