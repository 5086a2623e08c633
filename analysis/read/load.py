"""Owns the reading of run folders: every run of a study as one row of a frame, every epoch as one row of a second."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.read.columns import CURVE_KEYS, DTYPES, KINDS, NEEDED, RESULT, STATES, UNREADABLE, limits
from analysis.read.packed import RESULTS, find
from analysis.read.threads import map_threads
from ladder.common.text import printable
from ladder.errors import UserError
from ladder.paths import refuse_links
from ladder.runs.folder import FORMAT, METRICS, Status, folders_in, is_run, not_finite, status_in
from ladder.runs.records import Record, Unreadable, read_json

if TYPE_CHECKING:
    import pandas as pd

_NO_RUN = "not a run folder (no status.json, result.json or config.yaml)"

Study = str | os.PathLike[str]
OnSkip = Callable[[str], None]


def _tell(line: str) -> None:
    print(f"skipped {line}", file=sys.stderr)


def load(study: Study | Iterable[Study], *, on_skip: OnSkip = _tell) -> pd.DataFrame:
    """Every run of one study, or of several, as one row each; a half-finished study is fine.

    A study is a folder of runs, a packed one (`analysis.export`), or W&B runs named `wandb://ENTITY/PROJECT[/GROUP]`.
    Those of W&B are laid down as run folders in the user's cache, where `path` then points. The rows are those of the
    run folders, but: W&B does not know of runs that failed before their first step or never started; it calls a run
    whose process died crashed, which is told as failed; and heartbeats are as its server has them.

    A folder that is no run is left out; a broken one is a row of state `unreadable` with nothing but its name and, in
    `error`, why. `on_skip` gets one line for each of both (by default it goes to stderr). The metrics of a run that is
    not done are missing values.

    | column | meaning |
    | --- | --- |
    | study, run, path | name of the study folder; of the run folder; path of the latter |
    | state | done, running, stopped (resumable), failed, pending, unreadable; done means that result.json is there |
    | ladder, kind | name of the ladder; chain or star |
    | rung, rung_index, title, group, parent | name; place (missing: side rung); words; heading; rung before |
    | seed | of the run |
    | data, eval_split | data set; split that the metrics are from: test, val or holdout |
    | train_size, eval_size | images |
    | num_classes, image_size, in_chans | classes; side of a square image, pixels; channels |
    | recipe, epochs, steps, batch_size, lr | name; epochs; optimiser steps; images per step; applied rate |
    | top1, top5 | percent, of the LAST epoch, weights as trained (no EMA): the headline |
    | ema_top1 | percent, last epoch, averaged weights; missing without EMA |
    | eval_loss, train_loss | nats per image, last epoch |
    | best_top1, best_epoch | percent; its epoch. Never a headline: picked on the evaluated split |
    | params, macs | parameters; multiply-accumulates of convolution and linear layers for one image |
    | images_per_s | training throughput, median over epochs |
    | peak_memory_bytes | most memory in use: of the GPU, or on CPU of the process |
    | wall_s | seconds over all attempts |
    | device, precision | name of the device; float32, bf16, fp16 |
    | config_hash, group_hash | 8 hex digits; runs with equal group_hash differ in rung and seed alone |
    | git_commit, git_dirty | code that trained; whether it had uncommitted changes |
    | ladder_version, python_version, torch_version, timm_version | versions |
    | finished | ISO 8601, UTC |
    | epochs_done, attempts, error, heartbeat | whole epochs; starts; why it failed; last sign of life, unix seconds |

    Raises:
        UserError: where a study folder is missing, is a file, or is itself a run or a folder of studies; where W&B
            can't be reached, wants a login, or has no such project or group.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for root in local_folders(study, on_skip):
        found, messages = read_rows(root)
        rows += [{"study": printable(root.name or str(root)), **row} for row in found]
        for line in messages:
            on_skip(printable(line))
    frame = pd.DataFrame(rows, columns=list(DTYPES))
    return frame.astype({k: v for k, v in DTYPES.items() if v != "str"})


def load_curves(study: Study | Iterable[Study] | pd.DataFrame, *, on_skip: OnSkip = _tell) -> pd.DataFrame:
    """Every finished epoch of every run, running ones too, as one row each; of studies, or of a frame of `load`.

    Columns: study, run, path, ladder, rung, rung_index, seed (as `load`), then those of metrics.csv: epoch (from 1),
    step (optimiser steps so far), train_loss, eval_loss (nats per image), top1, top5, ema_top1 (percent), lr,
    images_per_s, seconds (wall time of the epoch). An unreadable metrics.csv is left out and told by `on_skip`.

    Raises:
        UserError: as `load`.
    """
    import pandas as pd

    from analysis.read.curves import read_curves

    runs = study if isinstance(study, pd.DataFrame) else load(study, on_skip=on_skip)
    return read_curves(runs, CURVE_KEYS, METRICS, on_skip)


def _studies(study: Study | Iterable[Study]) -> list[Path]:
    given = [study] if isinstance(study, str | os.PathLike) else list(study)
    if not given:
        raise UserError("no study given: name at least one folder, such as runs/demo")
    paths = [Path(s) for s in given]
    for path in paths:
        if path.is_file():
            raise UserError(f"{path} is a file: a study is a folder of runs, such as runs/demo")
        if not path.is_dir():
            raise UserError(f"no study folder {path}{_nearby(path)}")
        if is_run(path):
            raise UserError(f"{path} is one run, not a study: give its parent folder {path.parent}")
    return list(dict.fromkeys(paths))


def _nearby(path: Path) -> str:
    import difflib

    parent = path.parent
    if not parent.is_dir():
        return f": there is no folder {parent} either"
    names = sorted(p.name for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    if near:
        return f"; did you mean {' or '.join(str(parent / n) for n in near)}?"
    return f"; there are: {', '.join(names[:10])}" if names else f": {parent} has no folders"


def read_rows(root: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The runs of one study as rows, and a line for each folder or run that can't be read. Raises UserError."""
    packed = find(root)
    if packed is not None:
        rows = packed.rows()
        return rows, sorted(_line(row) for row in rows if row["state"] == UNREADABLE)
    runs, others = _folders(root)
    rows = map_threads(_read_run, [os.path.join(root, name) for name in runs])
    messages = [_line(row) for row in rows if row["state"] == UNREADABLE]
    messages += [f"{os.path.join(root, name)}: {_NO_RUN}" for name in others]
    return rows, sorted(messages)


def _line(row: dict[str, Any]) -> str:
    return f"{row['path']}: {row['error']}"


def local_folders(study: Study | Iterable[Study], on_skip: OnSkip = _tell) -> list[Path]:
    """The folders that studies lie in; those named wandb://... are fetched. Raises UserError as `load`."""
    from analysis.read import wandb_source

    given = [study] if isinstance(study, str | os.PathLike) else list(study)
    folders: list[Path] = []
    for one in given:
        if isinstance(one, str) and wandb_source.is_source(one):
            folders += wandb_source.study_folders(one, on_skip)
        else:
            folders += _studies(one)
    return list(dict.fromkeys(folders)) or _studies([])


def home(study: Study) -> Path:
    """The folder that files about a study go to: its own; for one that is fetched, `runs/` and its last name."""
    from analysis.read import wandb_source

    if isinstance(study, str) and wandb_source.is_source(study):
        _, project, group = wandb_source.parse(study)
        return Path("runs") / (group or project)
    return Path(study)


def place_in(study: Study, name: str) -> Path:
    """Where a file or folder about a study goes, unless the user says where. Raises UserError for a link there."""
    refuse_links(home(study), name)
    return home(study) / name


def _folders(root: Path) -> tuple[list[str], list[str]]:
    """The names of the run folders and of the others. Raises UserError for a folder of studies."""
    try:
        runs, others = folders_in(root)
    except OSError as error:
        raise UserError(f"study folder {root}: {error.strerror}") from None
    if not runs:
        inner = [name for name in others if holds_runs(os.path.join(root, name))]
        if inner:
            raise UserError(f"{root} is a folder of studies, not a study: give one, such as {root / inner[0]}")
    return runs, others


def holds_runs(path: str) -> bool:
    """True for a study: a folder of run folders, or a packed one."""
    try:
        return os.path.exists(os.path.join(path, RESULTS)) or bool(folders_in(path)[0])
    except OSError:
        return False


def _read_run(path: str) -> dict[str, Any]:
    """One run; of one that can't be read its name, why, and which network and seed it is of if that much is there."""
    row: dict[str, Any] = {"run": printable(os.path.basename(path)), "path": path}
    try:
        return row | _of_run(path)
    except Unreadable as reason:
        known: dict[str, Any] = {}
        with suppress(Unreadable):
            status = status_in(path)
            known = _from_config(path) if status is None else _from_status(status)
        return {**row, **known, "state": UNREADABLE, "error": str(reason)}


def _of_run(path: str) -> dict[str, Any]:
    result, status = read_json(os.path.join(path, "result.json")), status_in(path)
    row: dict[str, Any] = {}
    if status is not None:
        row = {"epochs_done": status.epoch, "attempts": status.attempts}
        row |= {"error": status.error, "heartbeat": status.heartbeat}
    if result is not None:
        result.check_format(FORMAT)
        return row | {"state": "done", **_from_result(result)}
    if status is None:
        return {"state": "pending", **_from_config(path)}
    if status.state == "done":
        raise Unreadable("status.json says done, but there is no result.json")
    if status.state not in STATES:
        raise Unreadable(f"status.json: state {status.state!r:.60}; known are {', '.join(STATES)}")
    return row | {"state": status.state, "epochs": status.epochs or None, **_from_status(status)}


def _from_result(result: Record) -> dict[str, Any]:
    row = {c: result.field(where, KINDS[dtype], *limits(c)) for c, (dtype, where) in RESULT.items()}
    for name in NEEDED:
        if row[name] is None:
            where = RESULT[name][1]
            given = result.value(where)
            raise Unreadable(f"result.json: {where} is {given}" if given is not None else f"result.json lacks {where}")
    if (odd := not_finite(result.value("final"))) is not None:
        raise Unreadable(f"result.json: {odd}")
    return row


def _from_status(status: Status) -> dict[str, Any]:
    return {"ladder": status.ladder or None, "rung": status.rung or None, "seed": status.seed}


def _from_config(path: str) -> dict[str, Any]:
    """What a run that never started is, from its config.yaml. Rare, so YAML's slowness does not count."""
    from analysis.read.configs import config_of

    config = config_of(path)
    if config is None:
        raise Unreadable("holds neither status.json nor result.json nor config.yaml")
    return {"ladder": config["ladder"], "rung": config["rung"], "seed": config["seed"]}
