"""Owns W&B as a source of studies: `wandb://ENTITY/PROJECT[/GROUP]` as run folders, for those who have no others.

Each W&B run becomes the files of its run folder (config, status, metrics, result) below the user's cache, from where
all of `analysis` reads them as ever. What ladder/runs/tracking.py logs is what makes this possible.
"""

from __future__ import annotations

import csv
import inspect
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ladder.errors import UserError, one_line
from ladder.paths import strict_json, write_atomic
from ladder.runs.folder import FORMAT, METRICS
from ladder.runs.tracking import result_of

SCHEME = "wandb://"
TIMEOUT = 20  # seconds for an answer of the server
LAYOUT = 1  # of what is kept; another one is fetched again
MARK = ".wandb.json"  # in a run's folder: which W&B run it is of, and as of when
OURS = ("summary",)  # job types of what analysis.publish adds
STATES = {  # W&B's as ours
    **{"finished": "done", "failed": "failed", "crashed": "failed", "running": "running"},
    **{"killed": "stopped", "preempted": "stopped", "preempting": "stopped"},
}
CRASHED = "ended without a word (W&B: crashed)"


class NotARun(Exception):
    """Why a W&B run can't be read as a run of ours."""


@dataclass(frozen=True)
class Record:
    """What W&B knows of one of its runs, in plain values. `history` is asked for only where it is needed."""

    id: str
    name: str
    group: str | None
    job_type: str | None
    state: str  # W&B's word: running, finished, failed, crashed, killed, ...
    heartbeat: float | None  # unix seconds
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    history: Callable[[], Iterable[Mapping[str, Any]]]


def is_source(study: object) -> bool:
    """True for text that names W&B runs instead of a folder."""
    return isinstance(study, str) and study.startswith(SCHEME)


def parse(source: str) -> tuple[str, str, str | None]:
    """Entity, project and group of `wandb://ENTITY/PROJECT[/GROUP]`. Raises UserError on anything else."""
    parts = [part for part in source.removeprefix(SCHEME).split("/") if part]
    if len(parts) not in (2, 3):
        raise UserError(f"{source}: must be {SCHEME}ENTITY/PROJECT or {SCHEME}ENTITY/PROJECT/GROUP")
    return parts[0], parts[1], parts[2] if len(parts) == 3 else None


def study_folders(source: str, on_skip: Callable[[str], None], records: Iterable[Record] | None = None) -> list[Path]:
    """Fetch W&B's runs and lay them down as studies, one folder for each group; these folders.

    A run that is done and was fetched before is not fetched again. `records` are the runs, if not those of the server.

    Raises:
        UserError: a source that is none; no login; no answer; no such project; no run of ours in it.
    """
    entity, project, group = parse(source)
    place = cache() / _folder_name(entity) / _folder_name(project)
    kept: dict[Path, dict[str, Record]] = {}
    seen = 0
    for record in fetch(entity, project, group) if records is None else records:
        seen += 1
        if record.job_type in OURS:
            continue
        try:
            label, study = run_label(record), _folder_name(record.group or str(record.config.get("study")))
        except NotARun as reason:
            on_skip(f"{SCHEME}{entity}/{project}, run {record.id} ({record.name}): {reason}")
            continue
        mine = kept.setdefault(place / study, {})
        if label in mine:  # its folder was deleted and it was trained again
            old, record = sorted((mine[label], record), key=_worth)
            on_skip(f"{SCHEME}{entity}/{project}, run {old.id} ({old.name}): an older W&B run of {study}/{label}")
        mine[label] = record
    if not kept:
        raise UserError(_nothing(source, group, seen))
    for folder, runs in kept.items():
        _lay_down(folder, runs, on_skip, source)
    return list(kept)


def _nothing(source: str, group: str | None, seen: int) -> str:
    if seen:
        return f"{source}: none of its {seen} W&B runs is a training run of this toolkit"
    return f"{source}: no run {f'of group {group} (a study is a group)' if group else 'in this project'}"


def _lay_down(folder: Path, runs: Mapping[str, Record], on_skip: Callable[[str], None], source: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if old.name not in runs and (old / MARK).exists():
                shutil.rmtree(old)  # deleted in W&B
        for label, record in _shown(runs.items(), f"reading {folder.name} from W&B"):
            known = {"layout": LAYOUT, "id": record.id, "state": record.state, "heartbeat": record.heartbeat}
            mark, path = json.dumps(known), folder / label
            if record.state == "finished" and _text(path / MARK) == mark and (path / "result.json").is_file():
                continue
            try:
                files = run_files(record)
            except NotARun as reason:
                on_skip(f"{source}, run {record.id} ({record.name}): {reason}")
                shutil.rmtree(path, ignore_errors=True)
                continue
            path.mkdir(exist_ok=True)
            (path / "result.json").unlink(missing_ok=True)
            for name, text in (*files.items(), (MARK, mark)):
                write_atomic(path / name, text, durable=False)
    except OSError as error:
        raise UserError(
            f"can't keep W&B's runs in {folder}: {error.strerror}; set XDG_CACHE_HOME to a writable folder"
        ) from None


def _shown(runs: Collection[tuple[str, Record]], what: str) -> Iterable[tuple[str, Record]]:
    """The runs, with a bar at a terminal: a request or two for each takes a second."""
    if len(runs) < 10 or not sys.stderr.isatty():
        return runs
    from rich.console import Console
    from rich.progress import track

    return track(runs, what, console=Console(stderr=True), transient=True)


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def cache() -> Path:
    """Where fetched runs are kept: `modernization-ladder/wandb` below XDG_CACHE_HOME, by default ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modernization-ladder" / "wandb"


def _folder_name(name: str) -> str:
    return re.sub(r"[^\w.+-]", "_", name).lstrip("._") or "_"


def _worth(record: Record) -> tuple[bool, float]:
    return record.state == "finished", record.heartbeat or 0.0


# ------------------------------------------------------------------------------ from plain values to a run folder


def run_label(record: Record) -> str:
    """The name of the run's folder. Raises NotARun for a run that this toolkit did not log."""
    config = record.config
    label = config.get("run")
    if not isinstance(config.get("ladder"), str) or not isinstance(config.get("seed"), int):
        raise NotARun("not a run of this toolkit (no ladder and seed in its config)")
    if not isinstance(label, str) or not re.fullmatch(r"\w[\w.+-]*", label):
        raise NotARun("its config lacks the name of the run's folder (`run`)")
    return label


def run_files(record: Record) -> dict[str, str]:
    """The files of the run's folder, by name, as ladder/runs/session.py writes them: result.json only once it is done.

    Raises:
        NotARun: where what was logged is not what this version logs.
    """
    import yaml

    config = {k: v for k, v in record.config.items() if k not in ("run", "config_hash", "group_hash")}
    result = result_of(record.summary)
    done = result is not None and record.state in ("finished", "running", "crashed")
    if record.state == "finished" and not done:
        raise NotARun("finished, but its summary lacks `result`")
    history = {int(row["epoch"]): row for row in record.history() if _is_epoch(row)}
    rows = [{name: history[epoch].get(name) for name in METRICS} for epoch in sorted(history)]
    epochs = config.get("recipe", {}).get("epochs") if isinstance(config.get("recipe"), Mapping) else None
    said = record.summary.get("state")
    state = "done" if done else "stopped" if said == "stopped" else STATES.get(record.state, "running")
    error = record.summary.get("error") or (CRASHED if record.state == "crashed" and state == "failed" else None)
    status = {
        **{"format": FORMAT, "state": state, "attempts": record.summary.get("attempts")},
        **{"error": error if state == "failed" else None, "heartbeat": record.heartbeat},
        **{"epoch": max(history, default=0), "epochs": epochs, "ladder": config["ladder"]},
        **{"rung": config.get("rung"), "seed": config["seed"]},
    }
    out = {
        "config.yaml": yaml.safe_dump(_plain(config), sort_keys=False),
        "status.json": strict_json(status, 1),
        "metrics.csv": _csv(rows),
    }
    if done:
        out["result.json"] = strict_json(_plain(result), 1)
    return out


def _is_epoch(row: Mapping[str, Any]) -> bool:
    """A later row of the same epoch replaces an earlier one: a run that was cut off trains its last epochs again."""
    return all(isinstance(row.get(name), int | float) for name in ("epoch", "step"))


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, METRICS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


# ------------------------------------------------------------------------------------------------ W&B's public API


def fetch(entity: str, project: str, group: str | None) -> Iterator[Record]:
    """The runs of a project, or of one group in it, through W&B's public API, the oldest first.

    Raises:
        UserError: no login, no answer, no such project.
    """
    try:
        import wandb
    except ImportError:
        raise UserError(f"{SCHEME} needs the package wandb: pip install wandb") from None
    where = f"{SCHEME}{entity}/{project}"
    try:
        api = wandb.Api(timeout=TIMEOUT)
        filters = {"group": group} if group else {}
        whole = {"lazy": False} if "lazy" in inspect.signature(api.runs).parameters else {}  # older releases are so
        for run in api.runs(f"{entity}/{project}", filters=filters, order="+created_at", per_page=200, **whole):
            yield record_of(run, where)
    except UserError:
        raise
    except Exception as error:  # W&B's own errors have no common base
        raise UserError(_said(error, where)) from None


def record_of(run: Any, where: str) -> Record:
    """A `wandb.apis.public.Run` in plain values."""

    def history() -> list[Mapping[str, Any]]:
        try:
            return list(run.scan_history(page_size=1000))
        except Exception as error:
            raise UserError(_said(error, where)) from None

    return Record(
        id=str(run.id),
        name=str(run.name),
        group=run.group,
        job_type=run.job_type,
        state=str(run.state),
        heartbeat=_unix(getattr(run, "heartbeat_at", None)),
        config={k: v for k, v in run.config.items() if not str(k).startswith("_")},
        summary=dict(run.summary_metrics),
        history=history,
    )


def _unix(text: str | None) -> float | None:
    try:
        moment = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _said(error: Exception, where: str) -> str:
    """What is wrong, of W&B's many ways to say it."""
    text = one_line(error)
    low = text.lower()
    if any(word in low for word in ("login", "log in", "logged in", "api key", "api_key", "401", "unauthorized")):
        return (
            f"{where}: not logged in to W&B, or not with a valid key; run `wandb login` or set WANDB_API_KEY ({text})"
        )
    if any(word in low for word in ("could not find project", "404", "not found", "403", "permission")):
        return (
            f"{where}: no such project, or no right to read it; the address is {SCHEME}ENTITY/PROJECT[/GROUP] ({text})"
        )
    return f"{where}: no answer from W&B ({text}); without a network, work from run folders or an exported study"
