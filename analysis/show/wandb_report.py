"""Owns the report of a study in W&B: its table, charts, effects and commands, with live panels of the runs beside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.show import wandb_saved
from analysis.show.wandb_view import effects_markdown, live_panels

if TYPE_CHECKING:
    from analysis.compare.layout import Row
    from analysis.report import Contents

FILE = "wandb-report.json"  # in the study's folder: what was saved last, and W&B's id of it
MOST = 128  # characters of a title, as W&B has it


def make(contents: Contents, entity: str | None, project: str, group: str, summary: str) -> Any:
    """The report (`wandb_workspaces.reports.v2.Report`) of the runs in `group`; nothing is sent.

    The charts are those that the run with the id `summary` logged: a report takes no files. Without an entity it is
    one to be kept, not saved: its run sets then name no project, of which W&B would be asked the internal id.

    Raises:
        UserError: wandb-workspaces is not installed.
    """
    from analysis.compare.reproduce import commands
    from analysis.show.formats import markdown

    expr, wr = wandb_saved.modules("--report", "expr", "reports.v2")
    where = {"entity": entity, "project": project} if entity else {}

    def runs(name: str, filters: list[Any], **more: Any) -> Any:
        return wr.Runset(name=name, filters=filters, **where, **more)

    blocks = [wr.H2(text="Table"), wr.MarkdownBlock(text=markdown(contents.tables))]
    if words := _changes(contents):
        blocks += [wr.H2(text="What each step changed"), wr.MarkdownBlock(text=words)]
    if worth := effects_markdown(contents):
        blocks += [wr.H2(text="What each step is worth on average"), wr.MarkdownBlock(text=worth)]
    charts = [
        wr.MediaBrowser(title=chart.title, media_keys=[f"charts/{chart.stem}"], num_columns=1)
        for _, chart in contents.charts
    ]
    if charts:
        drawn = runs("summary", [expr.Metric("ID") == summary])
        blocks += [wr.H2(text="Charts"), wr.PanelGrid(runsets=[drawn], panels=charts)]
    trained = [expr.Metric("Group") == group, expr.Metric("JobType") == "train"]
    for heading, panels in live_panels(wr).items():
        live = wr.PanelGrid(runsets=[runs("runs", trained, groupby=["config.rung"])], panels=panels)
        blocks += [wr.H2(text=heading), live]
    lines = [line for t in contents.tables for line in commands(contents.runs[contents.runs["path"].isin(t.paths)])]
    if lines:
        blocks += [wr.H2(text="Train it again"), wr.MarkdownBlock(text="```bash\n" + "\n".join(lines) + "\n```")]
    title = f"{group}: report"[:MOST]
    return wr.Report(entity=entity or "", project=project, title=title, blocks=blocks, width="fluid")


def _changes(contents: Contents) -> str:
    """A sentence for each step that was judged, as a Markdown list."""
    from analysis.show.cells import change_text
    from analysis.show.escape import markdown

    def sentence(row: Row) -> str:
        noise = " That is within seed noise." if row.change and row.change.within_noise else ""
        return f"- {markdown(row.title)}: {markdown(change_text(row.change))} points of top-1.{noise}"

    return "\n".join(sentence(row) for table in contents.tables for row in table.rows if row.change)


def outline(report: Any) -> str:
    """The report's title and its headings, in a line."""
    (wr,) = wandb_saved.modules("--report", "reports.v2")
    return f"{report.title} ({', '.join(block.text for block in report.blocks if isinstance(block, wr.H2))})"


def save(report: Any, folder: Path) -> str:
    """Create the report in W&B, or update the one that `folder` keeps the id of; where it is.

    Raises UserError where W&B does not take it; then nothing is noted.
    """
    if before := wandb_saved.known(folder / FILE, report):
        report.id = before["id"]
    wandb_saved.send(report, "report")
    wandb_saved.write(folder / FILE, report, report.title, {"name": report.title, "id": report.id})
    return str(report.url)


def keep(report: Any, folder: Path) -> Path:
    """Write what `save` would send into the folder, and send nothing; the file."""
    return wandb_saved.write(folder / FILE, report, report.title)
