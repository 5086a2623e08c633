"""Owns the reading of a packed study: one without run folders, as three small files that a repository can hold.

`results.csv` has a row a run, with the columns of `analysis.load`; `curves.csv` a row an epoch, with those of
metrics.csv; `study.json` the configs and the commands that launched the runs. `analysis.export` writes them. The path
of a packed run is that of the study and its name below it, though no such folder is there.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from analysis.read.columns import DTYPES, NEEDED
from ladder.errors import UserError, one_line

RESULTS, CURVES, STUDY = FILES = ("results.csv", "curves.csv", "study.json")
FORMAT = 1  # of study.json
KEPT = tuple(name for name in DTYPES if name not in ("study", "path"))  # the columns of results.csv
MAY_BE_EMPTY = ("group",)  # text that a finished run may have empty; any other empty cell is a missing value
_WORDS = {"str": "text", "Int64": "a whole number", "float64": "a number", "boolean": "true or false"}


@dataclass(frozen=True)
class Packed:
    """One packed study: where it lies, its configs by run."""

    folder: str
    configs: Mapping[str, dict[str, Any]] = field(repr=False)

    def rows(self) -> tuple[list[dict[str, Any]], list[str]]:
        """The runs, as `analysis.load` makes them of run folders; and a line for each that can't be read."""
        rows, broken = [], []
        with _opened(self.folder, RESULTS) as file:
            reader = csv.DictReader(file)
            if missing := [name for name in KEPT if name not in (reader.fieldnames or ())]:
                raise UserError(f"{self.folder}: results.csv lacks {', '.join(missing)}")
            for number, cells in enumerate(reader, 2):
                path = os.path.join(self.folder, cells["run"] or f"line {number}")
                try:
                    rows.append({"run": cells["run"], "path": path, **_row(cells)})
                except ValueError as error:
                    broken.append(f"{path}: results.csv: {one_line(error)}")
        return rows, broken

    @cached_property
    def curves(self) -> dict[str, str]:
        """The text of metrics.csv of every run that has one."""
        parts: dict[str, list[str]] = {}
        with _opened(self.folder, CURVES) as file:
            header, *lines = [line.rstrip("\r\n") for line in file] or [""]
        first, _, rest = header.partition(",")
        if first != "run":
            raise UserError(f"{self.folder}: curves.csv is not what ladder export writes")
        for line in lines:
            run, _, cells = line.partition(",")
            parts.setdefault(run, [rest]).append(cells)
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
    path = Path(folder) / STUDY
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["packed"] != FORMAT:
            raise UserError(f"{path} is of format {content['packed']!r}; this version reads format {FORMAT}")
        common = content["config"]
        configs = {run: unflatten({**common, **own}) for run, own in content["configs"].items()}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {RESULTS} beside it wants it") from None
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not what ladder export writes: {one_line(error)}") from None
    return Packed(folder, configs)


def _stamp(folder: str, name: str) -> int:
    try:
        return os.stat(os.path.join(folder, name)).st_mtime_ns
    except FileNotFoundError:
        return 0


def _opened(folder: str, name: str) -> Any:
    path = os.path.join(folder, name)
    try:
        return open(path, newline="" if name == RESULTS else None, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def _row(cells: Mapping[str, str | None]) -> dict[str, Any]:
    done = cells["state"] == "done"
    row: dict[str, Any] = {"state": cells["state"]}
    for name in KEPT[2:]:
        text = cells[name]
        if text is None:
            raise ValueError("the line is cut off")
        if text != "" or (done and name in MAY_BE_EMPTY):
            row[name] = _value(name, text)
        elif done:
            row[name] = None
    for name in NEEDED if done else ("ladder",):
        if row.get(name) is None:
            raise ValueError(f"{name} is empty")
    return row


def _value(name: str, text: str) -> Any:
    kind = DTYPES[name]
    try:
        if kind == "boolean":
            return {"true": True, "false": False}[text]
        value: Any = {"Int64": int, "float64": float}.get(kind, str)(text)
        if name == "top1" and not math.isfinite(value):
            raise ValueError
    except (KeyError, ValueError):
        raise ValueError(f"{name} is {text!r}, not {_WORDS[kind]}") from None
    return value


def unflatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested mappings: what `analysis.read.configs.flatten` undoes.

    >>> unflatten({"recipe.lr": 0.1, "seed": 0})
    {'recipe': {'lr': 0.1}, 'seed': 0}
    """
    out: dict[str, Any] = {}
    for key, value in values.items():
        *parents, last = key.split(".")
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
