"""Owns `runs/STUDY/design.json`: the designs that a study was launched with, so that a command keeps its runs.

A choice by exchange may come out differently under another release of numpy; a launch that was begun goes on with the
rows that it began with.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ladder.errors import UserError
from ladder.launch.designs import Design, Row
from ladder.networks.rungs import Ladder
from ladder.paths import open_own, strict_json, write_atomic
from ladder.runs.folder import folders_in
from ladder.runs.records import read_json_or_none, read_yaml
from ladder.runs.study import LOCK

FILE = "design.json"
_FORMAT = 1


def stored(study: Path, identity: str) -> Design | None:
    """The design that the study was launched with under this identity; None where it was not, or can't be read."""
    try:
        return Design.from_json(_designs(study)[identity])
    except (KeyError, TypeError, ValueError):
        return None


def designs_in(study: Path) -> list[Design]:
    """All designs that a study was launched with; those that can't be read are left out."""
    found = (stored(study, identity) for identity in _designs(study))
    return [design for design in found if design is not None]


def packed(study: Path) -> str | None:
    """What design.json holds, for a copy of the study; None where it holds no design that can be read."""
    found = {identity: design.to_json() for identity in _designs(study) if (design := stored(study, identity))}
    return strict_json({"format": _FORMAT, "designs": found}) + "\n" if found else None


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
    order = {step.name for step in ladder.steps}
    rows: dict[Any, Row] = {}
    for name in folders_in(study)[0] if study.is_dir() else []:
        try:
            record = read_yaml(study / name / "config.yaml")
            config = {} if record is None else record.values
            seed, steps = int(config["seed"]), steps_applied(config, ladder)
            levels = {key: _value(config, key) for key in factors}
        except (KeyError, TypeError, ValueError):
            continue
        fits = all(levels[key] in pair for key, pair in factors.items())
        if config.get("ladder") == ladder.name and steps is not None and order.issuperset(steps) and fits:
            row = Row(steps, levels, seed)
            rows[row.key] = row
    return list(rows.values())


def steps_applied(config: Mapping[str, Any], ladder: Ladder) -> tuple[str, ...] | None:
    """The steps that a run's network has, in the ladder's order, side steps last; by the run's config.

    None for a reference, and for steps that the ladder does not have.
    """
    main, side = [step.name for step in ladder.steps], {step.name: step.after for step in ladder.side}
    if config.get("reference") is not None:
        return None
    if (given := config.get("steps")) is not None:
        chosen = set(given)
    elif (left := config.get("without")) is not None:
        chosen = set(main) - set(left)
    else:
        rung = str(config.get("rung"))
        below = side.get(rung, rung)  # a side rung is built on the rung that it hangs off
        if below != ladder.base.name and below not in main:
            return None
        place = 0 if below == ladder.base.name else main.index(below) + 1
        chosen = {*(main[:place] if ladder.kind == "chain" else main[max(place - 1, 0) : place])}
        chosen |= {rung} & set(side)
    order = [*main, *side]
    return tuple(name for name in order if name in chosen) if chosen <= set(order) else None


def _value(config: dict[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value


def _designs(study: Path) -> dict[str, Any]:
    designs = (read_json_or_none(study / FILE) or {}).get("designs")
    return designs if isinstance(designs, dict) else {}
