"""Owns what a user's mistake looks like: one line that names what is wrong and what is allowed."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterable


class UserError(ValueError):
    """A mistake of the user or of the machine (no such file, full disk), told in one line."""


def one_line(error: BaseException) -> str:
    """The error's text folded into one line; its type where it has no text."""
    return " ".join(str(error).split()) or type(error).__name__


def unknown(what: str, given: object, allowed: Iterable[str]) -> UserError:
    """An error for a name that is not among `allowed`, nearest names first.

    >>> str(unknown("rung", "gleu", ["relu", "gelu"]))
    "unknown rung 'gleu'; did you mean gelu? allowed: relu, gelu"
    """
    names = list(allowed)
    near = difflib.get_close_matches(str(given), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return UserError(f"unknown {what} {str(given)!r}; {hint}allowed: {', '.join(names) or 'none'}")


def run_cli(main: Callable[[], int | None]) -> None:
    """Run a command's `main`; end the process with its exit code, a user's mistake as one line on stderr (code 2)."""
    try:
        code = main() or 0
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        code = 2
    except BrokenPipeError:  # `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
