"""Owns `runs/STUDY/study.json`: which runs a study was asked for, so that a status can tell what is still to come."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from ladder.errors import UserError
from ladder.paths import write_atomic
from ladder.runs.folder import FORMAT, read_json

FILE = "study.json"


def remember(study: Path, command: str, labels: Iterable[str]) -> None:
    """Note that `command` asks for the runs `labels` of the folder `study`; the same command replaces its last note.

    Raises UserError where the folder can't be written.
    """
    try:
        study.mkdir(parents=True, exist_ok=True)
        with open(study / ".study.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two launchers at once: neither loses the other's note
            launches = _launches(study)
            note = {"launched": time.time(), "runs": list(labels)}
            content = {"format": FORMAT, "launches": {**launches, command: note}}
            write_atomic(study / FILE, json.dumps(content, indent=1))
    except OSError as error:
        raise _unwritable(study, error.strerror or "") from None


def check_writable(study: Path) -> None:
    """Raise UserError where the folder `study` can't be written or made. Writes nothing."""
    place = study.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise _unwritable(study, f"{place} is not a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise _unwritable(study, f"no right to write {place}")


def _unwritable(study: Path, why: str) -> UserError:
    return UserError(f"can't write the study folder {study}: {why}; set runs_dir to a writable folder")


def planned(study: Path) -> list[str]:
    """The runs that a study was asked for, in the order of asking; none where no launcher noted any."""
    labels: dict[str, None] = {}
    for note in _launches(study).values():
        runs = note.get("runs") if isinstance(note, dict) else None
        labels.update(dict.fromkeys(str(label) for label in runs or []))
    return list(labels)


def _launches(study: Path) -> dict[str, object]:
    launches = (read_json(study / FILE) or {}).get("launches")
    return launches if isinstance(launches, dict) else {}
