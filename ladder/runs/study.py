"""Owns `runs/STUDY/study.json`: which runs a study was asked for, so that a status can tell what is still to come."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ladder.errors import UserError
from ladder.paths import make_folders, open_own, refuse_links, remove_empty, strict_json, write_atomic
from ladder.runs.folder import FORMAT, folders_in
from ladder.runs.records import Record, Unreadable, read_json, read_json_or_none

FILE, LOCK = "study.json", ".study.lock"
LONGEST_NAME = 255  # bytes that file systems take


def remember(
    study: Path, command: str | None, labels: Iterable[str], ladders: Iterable[Mapping[str, Any]] = ()
) -> None:
    """Note that `command` asks for the runs `labels` of the folder `study`; the same command replaces its last note.

    `ladders`: what the ladders of the runs hold, for tables and charts on any machine; of one name the last counts.
    Without a command only these are noted.
    Raises UserError where the folder can't be written.
    """
    made: list[Path] = []
    try:
        made = make_folders(study)
        with open(open_own(study / LOCK), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two launchers at once: neither loses the other's note
            noted = _noted(study)
            commands, known = noted.get("launches", {}), noted.get("ladders", {})
            if command is not None:
                commands = {**commands, command: {"launched": time.time(), "runs": list(labels)}}
            known = {**known, **{str(values["name"]): dict(values) for values in ladders}}
            content = {"format": FORMAT, "launches": commands, "ladders": known}
            if content != noted:
                write_atomic(study / FILE, strict_json(content, 1), follow=False)
    except OSError as error:
        if made:
            (study / LOCK).unlink(missing_ok=True)
            remove_empty(made)
        raise _unwritable(study, error.strerror or "") from None


def _noted(study: Path) -> dict[str, Any]:
    """What earlier launches noted. A note that is broken is kept under another name."""
    try:
        launches(study)
        noted: dict[str, Any] = read_json_or_none(study / FILE) or {}
        return noted if isinstance(noted.get("ladders", {}), dict) else {**noted, "ladders": {}}
    except Unreadable:
        os.replace(study / FILE, study / f"{FILE}.unreadable")
        return {}


def noted_ladders(study: Path) -> dict[str, Any]:
    """What a study's folder holds of its ladders, by name; nothing where that can't be read."""
    try:
        record = read_json(study / FILE)
    except Unreadable:
        return {}
    found = None if record is None else record.values.get("ladders")
    return found if isinstance(found, dict) else {}


def check_writable(study: Path) -> None:
    """Raise UserError where the folder `study` can't be written or made. Writes nothing."""
    place = study.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise _unwritable(study, f"{place} is not a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise _unwritable(study, f"no right to write {place}")
    with contextlib.suppress(FileNotFoundError):
        refuse_links(study, *(name for name in os.listdir(study) if name.startswith(".") or name.endswith(".json")))


def _unwritable(study: Path, why: str) -> UserError:
    return UserError(f"can't write the study folder {study}: {why}; set runs_dir to a writable folder")


_END = re.compile(r"-s\d+-[0-9a-f]{8}$")  # of a run's folder: seed and hash, which tell which run it is


def launches(study: Path) -> dict[str, list[str]]:
    """The commands that asked for runs of a study, each with the names of these; none where no launcher noted any.

    A run whose folder has another name than an earlier version asked for goes by its folder's.

    Raises:
        Unreadable: where the note is broken.
    """
    record = read_json(study / FILE)
    if record is None:
        return {}
    there = {end[0]: name for name in folders_in(study)[0] if (end := _END.search(name))}
    return {
        command: list(dict.fromkeys(there.get(end[0], name) if (end := _END.search(name)) else name for name in names))
        for command, names in launches_in(record).items()
    }


def launches_in(record: Record) -> dict[str, list[str]]:
    """`launches` of a note that is read; names that no folder of a study can have are left out. Raises Unreadable."""
    noted = record.values.get("launches", {})
    if not isinstance(noted, dict):
        raise Unreadable(f"{record.name}: launches is no mapping")
    found: dict[str, list[str]] = {}
    for command, note in noted.items():
        runs = note.get("runs") if isinstance(note, dict) else None
        if not isinstance(runs, list):
            raise Unreadable(f"{record.name}: the runs of {command!r:.60} are no list")
        found[command] = [name for name in runs if isinstance(name, str) and _is_folder_name(name)]
    return found


def _is_folder_name(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and len(name.encode()) <= LONGEST_NAME


def planned(study: Path) -> list[str]:
    """The runs that a study was asked for, in the order of asking. Raises Unreadable as `launches`."""
    return list(dict.fromkeys(name for names in launches(study).values() for name in names))
