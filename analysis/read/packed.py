"""Owns the reading of a packed study: one without run folders, as three small files that a repository can hold.

`results.csv` has a row a run, with the columns of `analysis.load`; `curves.csv` a row an epoch, with those of
metrics.csv; `study.json` the configs and the commands that launched the runs. `analysis.export` writes them. The path
of a packed run is that of the study and its name below it, though no such folder is there.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from analysis.read.columns import DTYPES, KINDS, NEEDED, STATES, limits
from ladder.common.text import plain_cell, printable
from ladder.errors import UserError, one_line
from ladder.runs.records import MOST_DEPTH, Unreadable, checked, read_json, read_text

RESULTS, CURVES, STUDY = FILES = ("results.csv", "curves.csv", "study.json")
FORMAT = 1  # of study.json
KEPT = tuple(name for name in DTYPES if name not in ("study", "path"))  # the columns of results.csv
MAY_BE_EMPTY = ("group",)  # text that a finished run may have empty; any other empty cell is a missing value


@dataclass(frozen=True)
class Packed:
    """One packed study: where it lies, its configs by run."""

    folder: str
    configs: Mapping[str, dict[str, Any]] = field(repr=False)

    def rows(self) -> list[dict[str, Any]]:
        """The runs, as `analysis.load` makes them of run folders: those that can't be read in state `unreadable`."""
        reader = _cells(self.folder, RESULTS)
        header = next(reader, [])
        if missing := [name for name in KEPT if name not in header]:
            raise UserError(f"{self.folder}: results.csv lacks {', '.join(missing)}")
        return [self._row(dict(zip(header, cells, strict=False)), number) for number, cells in enumerate(reader, 2)]

    def _row(self, cells: Mapping[str, str], number: int) -> dict[str, Any]:
        run = cells.get("run", "")
        run = run if run and "/" not in run else f"line {number}"
        row: dict[str, Any] = {"run": run, "path": os.path.join(self.folder, run)}
        try:
            return row | _row(cells)
        except ValueError as error:
            return {**row, "state": "unreadable", "error": f"results.csv: {one_line(error)}"}

    @cached_property
    def curves(self) -> dict[str, str]:
        """The text of metrics.csv of every run that has one."""
        reader = _cells(self.folder, CURVES)
        header = next(reader, [])
        if header[:1] != ["run"]:
            raise UserError(f"{self.folder}: curves.csv is not what ladder export writes")
        parts: dict[str, list[str]] = {}
        for run, *cells in reader:
            parts.setdefault(run, [",".join(header[1:])]).append(",".join(cells))
        return {run: "\n".join(lines) + "\n" for run, lines in parts.items()}


def find(folder: str | os.PathLike[str]) -> Packed | None:
    """The packed study in a folder; None where the folder holds none.

    Raises:
        UserError: where its study.json is missing, broken or of another format.
    """
    text = os.fspath(folder)
    try:
        stamp = os.stat(os.path.join(text, RESULTS)).st_mtime_ns
        stamps = (stamp, *(_stamp(text, name) for name in (CURVES, STUDY)))
    except OSError:
        return None
    return _find(text, stamps)


def of_run(path: str) -> tuple[Packed, str] | None:
    """The packed study that a run's path points into, and the run's name; None for a run with a folder."""
    folder, name = os.path.split(path)
    packed = find(folder)
    return None if packed is None else (packed, name)


@lru_cache(maxsize=64)
def _find(folder: str, stamps: tuple[int, ...]) -> Packed:
    path = os.path.join(folder, STUDY)
    try:
        record = read_json(path)
        if record is None:
            raise UserError(f"{path}: No such file or directory; {RESULTS} beside it wants it")
        record.check_format(FORMAT, "packed")
        common, each = record.values.get("config"), record.values.get("configs")
        if not isinstance(common, dict) or not isinstance(each, dict):
            raise Unreadable(f"{STUDY} lacks config or configs")
        configs = {run: unflatten({**common, **own}) for run, own in each.items()}
    except UserError:
        raise
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not what ladder export writes: {one_line(error)}") from None
    return Packed(folder, configs)


def _stamp(folder: str, name: str) -> int:
    try:
        return os.stat(os.path.join(folder, name)).st_mtime_ns
    except FileNotFoundError:
        return 0


def _cells(folder: str, name: str) -> Iterator[list[str]]:
    """The lines of one of the CSV files, cell by cell, without empty ones. Raises UserError."""
    path = os.path.join(folder, name)
    try:
        text = read_text(path)
        if text is None:
            raise UserError(f"{path}: No such file or directory")
        for cells in csv.reader(io.StringIO(text, newline="")):
            if cells:
                yield [printable(plain_cell(cell)) for cell in cells]
    except (Unreadable, csv.Error) as error:
        raise UserError(f"{folder}: {name} can't be read ({one_line(error)})") from None


def _row(cells: Mapping[str, str]) -> dict[str, Any]:
    state = cells.get("state")
    if state not in STATES:
        raise ValueError(f"state is {state!r:.60}; known are {', '.join(STATES)}")
    done = state == "done"
    row: dict[str, Any] = {"state": state}
    for name in KEPT[2:]:
        if name not in cells:
            raise ValueError("the line is cut off")
        if cells[name] != "" or (done and name in MAY_BE_EMPTY):
            row[name] = _value(name, cells[name])
        elif done:
            row[name] = None
    if done and row["eval_loss"] is None and cells["eval_loss"] != "":
        raise ValueError(f"eval_loss is {cells['eval_loss']}, so that the network has no accuracy")
    for name in NEEDED if done else ("ladder",):
        if row.get(name) is None:
            raise ValueError(f"{name} is empty")
    return row


def _value(name: str, text: str) -> Any:
    kind = KINDS[DTYPES[name]]
    value: Any = text
    with suppress(KeyError, ValueError):  # told below, as text where none should be
        value = {"true": True, "false": False}[text] if kind is bool else kind(text)
    try:
        return checked(value, kind, *limits(name))
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def unflatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested mappings: what `ladder.common.nested.flatten` undoes.

    >>> unflatten({"recipe.lr": 0.1, "seed": 0})
    {'recipe': {'lr': 0.1}, 'seed': 0}
    """
    out: dict[str, Any] = {}
    for key, value in values.items():
        *parents, last = key.split(".")
        if len(parents) > MOST_DEPTH:
            raise ValueError("nested too deeply")
        inner = out
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return out


def common(configs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What all of some flat configs have alike."""
    first, *others = list(configs) or [{}]
    return {k: v for k, v in first.items() if all(k in one and _same(one[k], v) for one in others)}


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one) == json.dumps(other)  # 1, 1.0 and true are not the same
