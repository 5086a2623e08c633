"""Owns where files lie (`conf/` in a checkout or a wheel), how they are made (wholly or not), and strict JSON."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ladder.errors import UserError

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


def write_atomic(path: Path, content: bytes | str, durable: bool = True, follow: bool = True) -> None:
    """Replace `path` by `content`: write beside it, fsync if `durable`, rename. On an OSError the old file stays.

    For a path that the user named: a link stays one; what is no file (/dev/stdout, a pipe) is written to. Without
    `follow`, for files of a study, which may be a stranger's: whatever is called so is replaced, links as well, and
    what they lead to stays as it is.
    """
    data = content.encode() if isinstance(content, str) else content
    if follow:
        path = path.resolve()
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with open(temporary, "xb") as file:
            file.write(data)
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


def refuse_links(study: Path, *names: str) -> None:
    """Raise UserError where something in a study's folder that is about to be written to, or into, is a link.

    Whoever made the study chose where its links lead. The folder itself may be one: the user named it.
    """
    for name in names:
        if (study / name).is_symlink():
            raise UserError(f"{study / name} is a link: nothing is written through links in a study; remove it")


def open_own(path: Path) -> int:
    """A descriptor of the file `path`, made if it is missing, to be locked or written. Raises OSError for a link."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, f"{path.name} is a link, which is not followed", str(path)) from None
        raise


def sync_dir(folder: Path) -> None:
    """Make a rename in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
