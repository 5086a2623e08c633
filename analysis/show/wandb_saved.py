"""Owns what a study's folder keeps of a view or a report in W&B: its spec, and what W&B knows it by."""

from __future__ import annotations

import contextlib
import io
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from ladder.errors import UserError, one_line
from ladder.paths import strict_json, write_atomic
from ladder.runs.records import Unreadable, read_json

_KNOWN_BY = ("entity", "project", "name", "id")


def modules(asked: str, *names: str) -> list[Any]:
    """Modules of wandb-workspaces. Raises UserError where it is not installed; `asked` is the option that needs it."""
    try:
        return [cast(Any, import_module(f"wandb_workspaces.{name}")) for name in names]
    except ImportError:
        raise UserError(f"{asked} needs wandb-workspaces: pip install 'modernization-ladder[wandb-views]'") from None


def known(path: Path, made: Any) -> dict[str, str] | None:
    """W&B's name and id of what was saved last, if that was in the same project; else None."""
    kept = _read(path)
    return kept if kept and (kept["entity"], kept["project"]) == (made.entity, made.project) else None


def send(made: Any, what: str) -> None:
    """Have W&B save a view or a report. Raises UserError where it does not take it."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # W&B's own line about it
            made.save()
    except Exception as error:  # W&B's own errors have no common base
        raise UserError(f"W&B did not take the {what}: {one_line(error)}") from None


def write(path: Path, made: Any, title: str, identity: dict[str, Any] | None = None) -> Path:
    """Write the spec, and the name and id that W&B gave it; the file. Raises UserError where that can't be.

    Without an identity nothing was sent: what was saved before stays known.
    """
    saved = _read(path) if identity is None else identity
    spec = made._to_model().spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    content = {"entity": made.entity, "project": made.project, **saved, "title": title, "spec": spec}
    try:
        write_atomic(path, strict_json(content, 1), follow=False)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}") from None
    return path


def _read(path: Path) -> dict[str, str]:
    """What W&B knows it by, as the file has it; empty where that can't be read."""
    try:
        record = read_json(path)
    except Unreadable:
        return {}
    values = {} if record is None else record.values
    return {key: values[key] for key in _KNOWN_BY} if all(isinstance(values.get(k), str) for k in _KNOWN_BY) else {}
