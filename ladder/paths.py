"""Owns where files lie and how they are replaced: `conf/` in a checkout or in a wheel; writing the whole or nothing."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def conf_dir() -> Path:
    """The folder with `train.yaml`, `ladder/`, `recipe/`, `data/`, ..."""
    packaged = _PACKAGE / "conf"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "conf"


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


def sync_dir(folder: Path) -> None:
    """Make a rename in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
