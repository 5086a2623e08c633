"""Owns the command `ladder publish`: a study's tables, charts, report and numbers as one W&B run."""

from __future__ import annotations

import secrets
import shlex
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.export import export
from analysis.show import options
from ladder.common.command import command
from ladder.errors import UserError, one_line, run_cli

if TYPE_CHECKING:
    import pandas as pd

    from analysis.compare.summary import Table
    from analysis.report import Contents
    from analysis.show.collection import Chart

MODES = ("online", "offline", "disabled")
JOB = "summary"  # the job type that tells this run from those that trained
SHOWN = ("rung", "seed", "state", "top1", "top5", "best_top1", "params", "macs", "images_per_s", "wall_s", "run")

EXAMPLES = """examples:
  ladder publish runs/cifar10                   as the runs were tracked: online or offline
  ladder publish runs/cifar10 --mode offline    into runs/cifar10/wandb/, for `wandb sync`
  ladder publish runs/cifar10 --mode online --entity my-team
  ladder publish runs/cifar10 --mode online --view --report    and a view of the runs and a report, made or updated

The run is called "STUDY summary", of job type summary, in the group of the study's runs. It holds the tables as
wandb.Table, every chart, the report, and an artifact with the report, the charts as files, and the numbers as
ladder export writes them.
"""


@command("publish", examples=EXAMPLES)
@options.study()
@click.option(
    "--mode", type=click.Choice(MODES), help="default: that of the runs (offline where they were not tracked)"
)
@click.option("--project", help="default: that of the runs")
@click.option("--entity", help="user or team; default: that of the runs")
@click.option("--view", is_flag=True, help="also make, or update, a saved view of the runs in the project's workspace")
@click.option("--report", is_flag=True, help="also make, or update, a report of the study in the project")
@options.compare("a table")
@options.where()
def main(
    study: str,
    mode: str | None,
    project: str | None,
    entity: str | None,
    view: bool,
    report: bool,
    compare: tuple[str, ...],
    where: dict[str, str],
) -> None:
    """Log a study's tables, charts and report as one summary run beside its runs in W&B."""
    more: dict[str, Any] = {"view": view, "report": report, "compare": compare, "where": where}
    print(publish(study, mode=mode, project=project, entity=entity, **more))


def publish(
    study: str | Path,
    *,
    mode: str | None = None,
    project: str | None = None,
    entity: str | None = None,
    view: bool = False,
    report: bool = False,
    compare: Sequence[str] = (),
    where: Mapping[str, str] | None = None,
) -> str:
    """Log the summary run of one study; where it is, in words. What is None is as the study's own runs have it.

    With `view` a saved view of the runs as well, with `report` a report, the same ones each time (extra `wandb-views`).

    Raises:
        UserError: as `analysis.load` and `analysis.summarise`; online without a login or an answer.
    """
    from analysis.read.load import place_in
    from analysis.report import compose, gather

    folder = place_in(study, "wandb").parent
    contents = gather(study, compare=compare, where=where)
    for line in contents.skipped:
        print(f"skipped {line}", file=sys.stderr)
    asked = {"mode": mode, "project": project, "entity": entity}
    tracked = {**_tracked(contents.runs), **{k: v for k, v in asked.items() if v is not None}}
    if tracked["mode"] == "online":
        _check_login()
    summary = secrets.token_hex(4)  # the id of the run, here: the report shows the charts of this one
    wanted = [what for what, asked_for in (("view", view), ("report", report)) if asked_for]
    made = _made(contents, tracked, wanted, summary)  # now: what can't be made is told before anything is sent
    with tempfile.TemporaryDirectory(prefix="ladder-publish-") as temporary:
        files = Path(temporary)
        charts = _draw([chart for _, chart in contents.charts], files / "figures")
        (files / "report.html").write_text(compose(contents), encoding="utf-8")
        export(study, files / "study", on_skip=lambda line: None)
        lines = [_log(contents, charts, files, folder, tracked, summary)]
    for what, each in made.items():
        try:
            lines.append(_send(what, each, folder, tracked["mode"]))
        except UserError as error:
            raise UserError(f"{error}; made before: {', '.join(lines)}") from None
    return "\n".join(lines)


def _made(contents: Contents, tracked: Mapping[str, Any], wanted: Collection[str], summary: str) -> dict[str, Any]:
    """The view and the report, of those that are wanted; not yet saved. `summary` is the id of the summary run."""
    from analysis.show import wandb_report, wandb_view

    entity = tracked["entity"]
    if wanted and entity is None and tracked["mode"] == "online":
        import wandb

        entity = wandb.Api().default_entity
    project, group = tracked["project"], tracked["group"] or str(contents.runs["study"].iloc[0])
    online = entity if tracked["mode"] == "online" else None
    makers: dict[str, Callable[[], Any]] = {
        "view": lambda: wandb_view.make(contents, entity or "ENTITY", project, group),
        "report": lambda: wandb_report.make(contents, online, project, group, summary),
    }
    return {what: make() for what, make in makers.items() if what in wanted}


def _send(what: str, made: Any, folder: Path, mode: str) -> str:
    """Save a view or a report, or keep what would be sent; where it is, in words."""
    from analysis.show import wandb_report, wandb_view

    module: Any = {"view": wandb_view, "report": wandb_report}[what]
    if mode == "online":
        return f"{what}: {module.save(made, folder)}"
    return f"{what}, not sent: {module.outline(made)}; kept as {module.keep(made, folder)}"


def _tracked(runs: pd.DataFrame) -> dict[str, Any]:
    """W&B's project, entity and mode as the runs' configs have them."""
    from analysis.read.configs import read_config
    from ladder.runs.config import WandbConfig

    out = vars(WandbConfig()).copy()
    for path in runs["path"]:
        if isinstance(found := (read_config(str(path)) or {}).get("wandb"), Mapping):
            out |= {k: v for k, v in found.items() if k in out and isinstance(v, str)}
            break
    return out | ({"mode": "offline"} if out["mode"] == "disabled" else {})


def _check_login() -> None:
    from ladder.runs.tracking import has_login

    if not has_login():
        raise UserError("not logged in to W&B, or no answer from it: run `wandb login`, or use --mode offline")


def _draw(charts: Sequence[Chart], folder: Path) -> list[tuple[Chart, Path]]:
    """The charts as PNG, to be looked at in W&B; beside each an SVG, to be taken from the artifact."""
    from analysis.show.charts.style import save

    out = []
    for chart in charts:
        figure = chart.draw(2)
        if figure is not None:
            png, _ = save(figure, folder / chart.stem, ("png", "svg"), 2)
            out.append((chart, png))
    return out


def _log(
    contents: Contents,
    charts: Sequence[tuple[Chart, Path]],
    files: Path,
    folder: Path,
    tracked: Mapping[str, Any],
    summary: str,
) -> str:
    import pandas as pd
    import wandb

    from analysis.show.collection import stems
    from analysis.show.effect_grid import records as effect_records
    from ladder.runs.tracking import quiet_settings

    runs, tables = contents.runs, contents.tables

    study = str(runs["study"].iloc[0])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with wandb.init(
            id=summary,
            mode=tracked["mode"],
            project=tracked["project"],
            entity=tracked["entity"],
            group=tracked["group"] or study,
            job_type=JOB,
            name=f"{study} summary",
            tags=sorted({t.ladder[:64] for t in tables} | {str(t.data)[:64] for t in tables} | {JOB}),
            config={"study": study, "ladders": sorted({t.ladder for t in tables}), "runs": len(runs)},
            dir=str(folder),
            reinit="create_new",
            settings=quiet_settings(),
        ) as run:
            for stem, table in zip(stems(tables), tables, strict=True):
                run.log({f"{stem}table": _wandb_table(_flat(table))})
            if contents.effects is not None:
                run.log({"effects": _wandb_table(pd.DataFrame(effect_records(contents.effects)))})
            run.log({"runs": _wandb_table(runs[list(SHOWN)])})
            run.log({f"charts/{chart.stem}": wandb.Image(str(png), caption=chart.title) for chart, png in charts})
            run.log({"report": wandb.Html(str(files / "report.html"), inject=False)})
            artifact = wandb.Artifact(f"study-{study}", type="study", metadata={"runs": len(runs)})
            artifact.add_dir(str(files))
            run.log_artifact(artifact)
            run.summary.update(_headline(tables))
            if contents.effects is not None:
                run.summary.update(
                    {f"effect/{k}": c.delta for k, c in contents.effects.changes.items() if c.delta == c.delta}
                )
            where = run.url if tracked["mode"] == "online" else run.dir
    except Exception as error:  # W&B's own errors have no common base
        raise UserError(f"W&B did not take the summary of {study}: {one_line(error)}") from None
    return _told(tracked["mode"], where, study)


def _told(mode: str, where: str | None, study: str) -> str:
    if mode == "disabled":
        return f"{study}: all was made, nothing was logged (--mode disabled)"
    if mode == "offline":
        return f"{study}: logged offline; send it with: wandb sync {shlex.quote(str(Path(str(where)).parent))}"
    return f"{study}: {where}"


def _flat(table: Table) -> pd.DataFrame:
    """The table with a row a rung and plain columns."""
    import pandas as pd

    from analysis.show.formats import CSV_COLUMNS, records

    return pd.DataFrame(records([table]), columns=list(CSV_COLUMNS))


def _wandb_table(frame: pd.DataFrame) -> Any:
    """A frame as wandb.Table, missing values as None: pandas' own would make a column of text of them."""
    import pandas as pd
    import wandb

    rows: Any = [[None if pd.isna(v) else v for v in row] for row in frame.astype(object).itertuples(index=False)]
    return wandb.Table(columns=list(frame.columns), data=rows, allow_mixed_types=True)


def _headline(tables: Sequence[Table]) -> dict[str, float]:
    """Top-1 of every rung, so that studies can be compared in the runs table."""
    several = len(tables) > 1
    return {
        f"{f'{table.ladder}/{table.data}/' if several else ''}top1/{row.rung}": row.top1.mean
        for table in tables
        for row in table.rows
        if row.top1 is not None
    }


if __name__ == "__main__":
    run_cli(main)
