"""Owns the saved view of a study in W&B: which runs it shows, how they are grouped and coloured, in which panels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.show import wandb_saved
from analysis.show.charts import style

if TYPE_CHECKING:
    from analysis.report import Contents

FILE = "wandb-view.json"  # in the study's folder: what was saved last, and W&B's id of it
MOST_FAILED = 50  # runs that the view lists with their causes


def live_panels(wr: Any) -> dict[str, list[Any]]:
    """The panels that W&B draws of the runs themselves, by rung, under their headings; `wr` is its reports.v2."""
    by_rung: dict[str, Any] = {"groupby": wr.Config("rung"), "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}

    def line(metric: str, title: str) -> Any:
        return wr.LinePlot(title=title, x="epoch", y=[metric], **by_rung)

    def scatter(metric: str, title: str, log: bool) -> Any:
        x, y = wr.SummaryMetric(metric), wr.SummaryMetric("final/top1")
        return wr.ScatterPlot(title=f"top-1 over {title}", x=x, y=y, log_x=log or None)

    top1 = wr.BarPlot(title="top-1 %", metrics=["final/top1"], orientation="h", max_bars_to_show=100, **by_rung)
    return {
        "Top-1 of the last epoch: mean and std over seeds": [top1],
        "Training": [
            line("top1", "top-1 %"),
            line("train_loss", "training loss"),
            line("eval_loss", "evaluation loss"),
        ],
        "Cost": [
            scatter("macs", "MACs", True),
            scatter("params", "parameters", True),
            scatter("images_per_s", "images/s in training", False),
        ],
    }


def make(contents: Contents, entity: str, project: str, group: str) -> Any:
    """The view (`wandb_workspaces.workspaces.Workspace`) of the runs in `group`; nothing is sent.

    Raises UserError where wandb-workspaces is not installed.
    """
    expr, wr, ws = wandb_saved.modules("--view", "expr", "reports.v2", "workspaces")
    live = live_panels(wr).items()
    colours = style.of_rows([row for table in contents.tables for row in table.rows], references=style.INK)
    sections = [ws.Section(name=name, panels=panels, is_open=True) for name, panels in live]
    for name, text in (
        ("What each step is worth", effects_markdown(contents)),
        ("Runs that failed", _failed(contents)),
    ):
        if text:
            sections.append(ws.Section(name=name, panels=[wr.MarkdownPanel(markdown=text)], is_open=True))
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"{group}: rungs",
        sections=sections,
        runset_settings=ws.RunsetSettings(
            filters=expr.And(expr.Metric("Group") == group, expr.Metric("JobType") == "train"),
            groupby=[expr.Config("rung")],
            group_colors={
                rung: style.INK if c == style.PAPER else c for rung, c in colours.items()
            },  # white: references,
        ),
    )


def effects_markdown(contents: Contents) -> str:
    """The effects of the steps as Markdown tables; nothing where the study tells none."""
    from analysis.show.effect_grid import grids
    from analysis.show.formats import markdown_grid

    return "" if contents.effects is None else "\n\n".join(map(markdown_grid, grids(contents.effects, titles=True)))


def _failed(contents: Contents) -> str:
    from analysis.show.escape import markdown

    failed = contents.runs[contents.runs["state"] == "failed"]
    lines = [f"- {markdown(str(run.run))}: {markdown(str(run.error))}" for run in failed.head(MOST_FAILED).itertuples()]
    return "\n".join([*lines, *([f"- and {len(failed) - MOST_FAILED} more"] if len(failed) > MOST_FAILED else [])])


def outline(view: Any) -> str:
    """The view's name and its sections', in a line."""
    return f"{view.name} ({', '.join(section.name for section in view.sections)})"


def save(view: Any, folder: Path) -> str:
    """Create the view in W&B, or update the one that `folder` keeps the id of; where it is.

    Raises UserError where W&B does not take it; then nothing is noted.
    """
    if before := wandb_saved.known(folder / FILE, view):
        view._internal_name, view._internal_id = before["name"], before["id"]
    wandb_saved.send(view, "view")
    wandb_saved.write(folder / FILE, view, view.name, {"name": view._internal_name, "id": view._internal_id})
    return str(view.url)


def keep(view: Any, folder: Path) -> Path:
    """Write what `save` would send into the folder, and send nothing; the file."""
    return wandb_saved.write(folder / FILE, view, view.name)
