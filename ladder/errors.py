"""Owns how a command ends in trouble: a user's mistake in one line, a bug of ours in two and a file to report."""

from __future__ import annotations

import argparse
import difflib
import os
import platform
import re
import shlex
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from ladder.common.streams import go_quiet, open_streams, say
from ladder.common.text import printable

LONGEST = 600  # characters of an error that a person reads
_ROOT = Path(__file__).resolve().parents[1]


class UserError(ValueError):
    """A mistake of the user or of the machine (no such file, full disk), told in one line."""


def one_line(error: BaseException | str) -> str:
    """The error's text folded into one line that a terminal can show; its type where it has no text."""
    text = printable(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 + 5 :]}"


def unknown(what: str, given: object, allowed: Iterable[str]) -> UserError:
    """An error for a name that is not among `allowed`, nearest names first.

    >>> str(unknown("rung", "gleu", ["relu", "gelu"]))
    "unknown rung 'gleu'; did you mean gelu? allowed: relu, gelu"
    """
    names = list(allowed)
    near = difflib.get_close_matches(str(given), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    shown = repr(str(given))
    shown = shown if len(shown) <= 100 else f"{shown[:90]}...'"
    return UserError(f"unknown {what} {shown}; {hint}allowed: {', '.join(names) or 'none'}")


def run_cli(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and end the process with its exit code; nothing that it raises becomes a traceback."""
    open_streams()
    try:
        with _our_way():
            code = main() or 0
            sys.stdout.flush()
    except BrokenPipeError:  # `... | head`
        go_quiet(sys.stdout)
        code = 141
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        code = tell(error)
    sys.exit(code)


@contextmanager
def _our_way() -> Iterator[None]:
    """Within the block argparse and warnings say all in one line, and any name of a file can be printed."""

    def refuse(parser: argparse.ArgumentParser, message: str) -> NoReturn:
        late = re.match(r"unrecognized arguments: [^-\s]+=", message)
        raise UserError(f"{message}; {'flags go before or after all KEY=VALUE' if late else 'see --help'}")

    def warn(message: Warning | str, *where: Any, **more: Any) -> str:
        return f"warning: {one_line(str(message))}\n"

    before = argparse.ArgumentParser.error, warnings.formatwarning
    argparse.ArgumentParser.error, warnings.formatwarning = refuse, warn  # type: ignore[method-assign,assignment]
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        argparse.ArgumentParser.error, warnings.formatwarning = before  # type: ignore[method-assign]


def tell(error: Exception, full: bool | None = None) -> int:
    """Say on stderr what went wrong; the exit code: 2 for what the user or the machine can mend, 1 for a bug of ours.

    `full`: with the traceback before it; null: where HYDRA_FULL_ERROR=1 asks for it, Hydra's name of this wish.
    """
    if os.environ.get("HYDRA_FULL_ERROR") == "1" if full is None else full:
        traceback.print_exception(error)
    mistake = as_mistake(error)
    say(f"error: {mistake}" if mistake is not None else bug_report(error), error=True)
    return 1 if mistake is None else 2


def as_mistake(error: BaseException) -> str | None:
    """The line that tells of a mistake of the user or a lack of the machine; None for what must be a bug."""
    if isinstance(error, UserError):
        return one_line(error)
    if isinstance(error, OSError) and error.strerror:
        name = error.filename if isinstance(error.filename, str) else None
        return one_line(f"{name}: {error.strerror}" if name else error.strerror)
    if isinstance(error, MemoryError):
        return "out of memory"
    if asked := re.search(
        r"DefaultCPUAllocator: .*allocate (?:memory: you tried to allocate )?(\d+) bytes", str(error)
    ):
        return f"out of memory: {int(asked[1]) / 1e9:,.1f} GB more were asked for"
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] not in OURS:
        return f"the Python package {error.name.partition('.')[0]} is not installed, and this needs it"
    return None


OURS = ("ladder", "analysis", "hydra_plugins")


def bug_report(error: Exception) -> str:
    """What to say of a bug; the traceback goes to a file."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).is_relative_to(_ROOT) and "site-packages" not in f.filename]
    last = (own or frames)[-1] if frames else None
    name = Path(last.filename) if last else Path("?")
    where = f"{name.relative_to(_ROOT) if name.is_relative_to(_ROOT) else name}:{last.lineno if last else '?'}"
    lines = [
        f"error: a bug in the Modernization Ladder, no mistake of yours: {type(error).__name__} at {where}:"
        f" {one_line(error)}"
    ]
    try:
        with tempfile.NamedTemporaryFile("w", prefix="ladder-bug-", suffix=".txt", delete=False) as file:
            file.write(f"command: {shlex.join(sys.argv)}\npython: {sys.version}\nsystem: {platform.platform()}\n")
            for package in ("torch", "timm", "hydra", "omegaconf"):
                with suppress(KeyError, AttributeError):
                    file.write(f"{package}: {sys.modules[package].__version__}\n")
            traceback.print_exception(error, file=file)
        lines.append(f"please report it with {file.name}, which holds the command, the versions and the traceback")
    except OSError:
        lines.append("please report it with the traceback, which HYDRA_FULL_ERROR=1 before the command shows")
    return "\n".join(lines)
