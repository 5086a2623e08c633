"""Owns checkpoints: two generations on disk, the newest whole one loaded, no code ever run from a file."""

from __future__ import annotations

import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ladder.errors import UserError, one_line
from ladder.paths import sync_dir

LAST, PREVIOUS = "last.pt", "previous.pt"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` as the newest checkpoint and keep the one before.

    At every moment at least one whole checkpoint lies under a name that `load` looks at. Raises OSError (full disk);
    then the older files are as they were.
    """
    temporary = folder / f".{LAST}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        if (folder / LAST).exists():
            os.replace(folder / LAST, folder / PREVIOUS)
        os.replace(temporary, folder / LAST)
        sync_dir(folder)
    except RuntimeError as error:  # torch's zip writer covers the OSError of a full disk with a complaint of its own
        cause = error.__context__
        if isinstance(cause, OSError):
            raise OSError(cause.errno, cause.strerror, str(folder / LAST)) from error
        raise OSError(None, one_line(error), str(folder / LAST)) from error
    finally:
        temporary.unlink(missing_ok=True)


def exists(folder: Path) -> bool:
    """True where a checkpoint lies in `folder`, whole or not."""
    return any((folder / name).exists() for name in (LAST, PREVIOUS))


def load(
    folder: Path, map_location: str | torch.device = "cpu", warn: Callable[[str], None] = warnings.warn
) -> dict[str, Any] | None:
    """The newest whole checkpoint, or None where there is none. A broken one falls back to the one before, with `warn`.

    Raises UserError for a file that asks to run code, naming what it asks for, and where files lie there but none
    can be read.
    """
    broken = False
    for path in (folder / LAST, folder / PREVIOUS):
        try:
            return read(path, map_location)
        except FileNotFoundError:  # also for a moment while another process saves: then the one before is there
            continue
        except OSError as error:
            broken = True
            warn(f"checkpoint {path} is broken ({one_line(error)}): trying the one before")
    if broken:
        raise UserError(f"no checkpoint in {folder} can be read: remove that folder to start the run again")
    return None


def read(path: Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """One checkpoint file. Raises OSError where it is truncated or altered, UserError where it would run code."""
    try:
        with zipfile.ZipFile(path) as archive:
            if (bad := archive.testzip()) is not None:
                raise OSError(f"checksum of {bad} is wrong")
        state = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        blocked = re.search(r"GLOBAL (\S+)|Unsupported (?:operand|global)[^.]*?(\w+\.\w+)", str(error))
        name = next((g for g in blocked.groups() if g), "code") if blocked else "code"
        raise UserError(f"checkpoint {path} asks to run {name}: refused, only tensors and plain values load") from None
    except (zipfile.BadZipFile, RuntimeError, EOFError, ValueError) as error:
        raise OSError(one_line(error)) from error
    if not isinstance(state, dict):
        raise OSError("holds no state")
    return state
