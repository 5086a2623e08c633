"""Owns where files lie (`conf/` in a checkout or a wheel), how they are made (wholly or not), and strict JSON."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parent


def conf_dir() -> Path:
    """The folder with `train.yaml`, `ladder/`, `recipe/`, `data/`, ..."""
    packaged = _PACKAGE / "conf"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "conf"


def strict_json(value: Any, indent: int | None = None) -> str:
    """JSON as other programs read it: NaN and infinity, which JSON does not have, are null."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_atomic(path: Path, content: bytes | str, durable: bool = True) -> None:
    """Replace `path` by `content`: write beside it, fsync if `durable`, rename. On an OSError the old file stays.

    A link stays one; what is no file (/dev/stdout, a pipe) is written to.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            sync_dir(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def make_folders(path: Path) -> list[Path]:
    """Make the folder `path` and those above it; those that were missing, innermost first. On an OSError none stay."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
        path.mkdir(exist_ok=True)  # raises where it is a file
    except OSError:
        remove_empty(missing)
        raise
    return missing


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those of `folders` that are there and empty, in this order."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def sync_dir(folder: Path) -> None:
    """Make a rename in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
