"""Owns the writing of the files that analysis makes: folders made, a failure told in one line."""

from __future__ import annotations

import sys
from pathlib import Path

from ladder.errors import UserError
from ladder.paths import write_atomic


def make_parent(path: Path) -> None:
    """Make the folder that `path` will lie in. Raises UserError where that can't be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"can't write {path}: {path.parent} is not a folder") from None
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}") from None


def write_text(path: Path, content: str) -> None:
    """Write a text file, its folder made; a failure leaves the old one. Raises UserError where it can't be written."""
    make_parent(path)
    try:
        write_atomic(path, content)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}") from None


def deliver(content: str, out: Path | None) -> None:
    """Write to a file and say its name; without one print, in a terminal that has no ± and └ too."""
    if out is not None:
        write_text(out, content + "\n")
        print(out)
        return
    encoding = sys.stdout.encoding or "utf-8"
    try:
        content.encode(encoding)
    except UnicodeEncodeError:
        content = content.replace("±", "+-").replace("└", "-").encode(encoding, "replace").decode(encoding)
    print(content)
