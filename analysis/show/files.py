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


def write(path: Path, content: str | bytes, follow: bool = False) -> None:
    """Write a file, its folder made; a failure leaves the old one. Raises UserError where it can't be written.

    `follow`: the user has named this very file, so that a link there is meant. See `ladder.paths.write_atomic`.
    """
    make_parent(path)
    try:
        write_atomic(path, content, follow=follow)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}") from None


def deliver(content: str, out: Path | None) -> None:
    """Write to a file and say its name; without one print, in a terminal that has no ± and └ too."""
    if out is not None:
        write(out, content + "\n", follow=True)
        print(out)
        return
    encoding = sys.stdout.encoding or "utf-8"
    try:
        content.encode(encoding)
    except UnicodeEncodeError:
        content = content.replace("±", "+-").replace("└", "-").encode(encoding, "replace").decode(encoding)
    print(content)
