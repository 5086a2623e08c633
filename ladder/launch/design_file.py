"""Owns `runs/STUDY/design.json`: the designs that a study was launched with, so that a command keeps its runs.

A choice by exchange may come out differently under another release of numpy; a launch that was begun goes on with the
rows that it began with.
"""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

from ladder.errors import UserError
from ladder.launch.designs import Design, Row
from ladder.launch.study import LOCK
from ladder.networks.rungs import Ladder
from ladder.paths import open_own, write_atomic
from ladder.runs.folder import folders_in
from ladder.runs.records import read_json_or_none, read_yaml

FILE = "design.json"
_FORMAT = 1


def stored(study: Path, identity: str) -> Design | None:
    """The design that the study was launched with under this identity; None where it was not, or can't be read."""
    try:
        return Design.from_json(_designs(study)[identity])
    except (KeyError, TypeError, ValueError):
        return None


def remember(study: Path, identity: str, design: Design) -> None:
    """Note a design in the folder `study`. Raises UserError where it can't be written."""
    try:
        study.mkdir(parents=True, exist_ok=True)
        with open(open_own(study / LOCK), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            content = {"format": _FORMAT, "designs": {**_designs(study), identity: design.to_json()}}
            write_atomic(study / FILE, json.dumps(content, indent=1), follow=False)
    except OSError as error:
        raise UserError(f"can't write {study / FILE}: {error.strerror}") from None


def runs_in(study: Path, ladder: Ladder, factors: dict[str, list[Any]]) -> list[Row]:
    """The runs of a study as rows of a design, in whatever state: those of the ladder that its steps describe."""
    order = [step.name for step in ladder.steps]
    chain = {rung.name: tuple(order[:i]) for i, rung in enumerate(ladder.rungs)}
    rows: dict[Any, Row] = {}
    for name in folders_in(study)[0] if study.is_dir() else []:
        try:
            record = read_yaml(study / name / "config.yaml")
            config = {} if record is None else record.values
            seed, steps = int(config["seed"]), _steps(config, chain, order)
            levels = {key: _value(config, key) for key in factors}
        except (KeyError, TypeError, ValueError):
            continue
        fits = all(levels[key] in pair for key, pair in factors.items())
        if config.get("ladder") == ladder.name and steps is not None and fits:
            row = Row(steps, levels, seed)
            rows[row.key] = row
    return list(rows.values())


def _steps(config: dict[str, Any], chain: dict[str, tuple[str, ...]], order: list[str]) -> tuple[str, ...] | None:
    if config.get("reference") is not None:
        return None
    if (given := config.get("steps")) is not None:
        return tuple(name for name in order if name in given) if set(given) <= set(order) else None
    if (left := config.get("without")) is not None:
        return tuple(name for name in order if name not in left)
    return chain.get(config["rung"])


def _value(config: dict[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value


def _designs(study: Path) -> dict[str, Any]:
    designs = (read_json_or_none(study / FILE) or {}).get("designs")
    return designs if isinstance(designs, dict) else {}
