"""Owns the reading of the small files of a study: JSON and YAML whose fields have types, whoever wrote them.

A study may come from another disk, person or version. What is no regular file, too large, too deep, of another format
or of another type is told as `Unreadable`, in words that say which file and why; nothing else is raised. Text is made
printable here, once, for all that show it.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from ladder.errors import UserError, one_line
from ladder.common.text import printable

MOST_BYTES = 64 << 20
MOST_VALUES = 200_000
MOST_SECTIONED = 16 << 10  # letters; a config has two thousand, and what is read by sections is remembered
MOST_DEPTH = 40
MOST = 2**63 - 1  # of any number; far above all that is counted or measured
_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}

Kind = TypeVar("Kind", str, int, float, bool)


class Unreadable(ValueError):
    """Why a file can't be read as what it should be, such as "status.json is not JSON (...)"."""


@dataclass(frozen=True)
class Record:
    """The content of a file: plain values, all text printable."""

    name: str
    values: dict[str, Any]

    def check_format(self, expected: int, key: str = "format") -> None:
        """Raise Unreadable where the file says that it is of another format."""
        if self.values.get(key) != expected:
            raise Unreadable(f"{self.name} is of format {_short(self.values.get(key))}; this version reads format {expected}")

    def value(self, where: str) -> Any:
        """The value of a field as it stands there; None where it is missing. A dot in `where` goes one level down."""
        if "." not in where:
            return self.values.get(where)
        head, _, tail = where.partition(".")
        value = self.values.get(head)
        return value.get(tail) if isinstance(value, dict) else None

    def field(self, where: str, kind: type[Kind], least: float = -MOST, most: float = MOST) -> Kind | None:
        """The value of a field as `kind`.

        None where it is missing, null or (of a float) not finite. Raises Unreadable where it is of another type or
        beyond the limits.
        """
        try:
            return checked(self.value(where), kind, least, most)
        except ValueError as error:
            raise Unreadable(f"{self.name}: {where} {error}") from None


def checked(value: Any, kind: type[Kind], least: float = -MOST, most: float = MOST) -> Kind | None:
    """The value as `kind`; None for None and for a float that is not finite. Raises ValueError in words."""
    if value is None:
        return None
    wanted: Any = kind
    types = (int, float) if wanted is float else wanted
    if not isinstance(value, types) or isinstance(value, bool) != (wanted is bool):
        raise ValueError(f"is {_short(value)}, not {_WORDS[kind]}")
    if wanted in (int, float):
        if value != value or abs(value) == math.inf:
            return None
        if not least <= value <= most:
            raise ValueError(f"is {_short(value)}, not {_WORDS[kind]} from {least:.4g} to {most:.4g}")
    made: Kind = wanted(value)
    return made


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, dict | list) else "a mapping" if isinstance(value, dict) else "a list"
    return text if len(text) <= 60 else f"{text[:57]}..."


def read_text(path: str | os.PathLike[str]) -> str | None:
    """The text of a regular file, UTF-8; None where there is none. Raises Unreadable."""
    name = printable(os.path.basename(path))
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would wait
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Unreadable(f"{name} can't be opened ({error.strerror})") from None
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise Unreadable(f"{name} is no file")
        if about.st_size > MOST_BYTES:
            raise Unreadable(f"{name} is too large ({about.st_size:,} bytes)")
        return _read(handle).decode("utf-8-sig")
    except OSError as error:
        raise Unreadable(f"{name} can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise Unreadable(f"{name} is not UTF-8") from None
    finally:
        os.close(handle)


def _read(handle: int) -> bytes:
    """At most MOST_BYTES, a piece at a time: asked for all at once, Python would reserve as much for each small file."""
    pieces: list[bytes] = []
    left = MOST_BYTES
    while piece := os.read(handle, min(left, 1 << 16)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def read_json(path: str | os.PathLike[str]) -> Record | None:
    """The object in a JSON file; None where there is no such file. Raises Unreadable."""
    text, name = read_text(path), printable(os.path.basename(path))
    if text is None:
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{name} is not JSON ({_why(error)})") from None
    if not isinstance(values, dict):
        raise Unreadable(f"{name} holds no object")
    return Record(name, _plain_all(values, name))


def read_yaml(path: str | os.PathLike[str]) -> Record | None:
    """The mapping in a YAML file; None where there is no such file. Raises Unreadable.

    What is nested in it may be shared with other files': it is not to be changed.
    """
    import yaml

    from ladder.common.yaml_files import parse_yaml

    text, name = read_text(path), printable(os.path.basename(path))
    if text is None:
        return None
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one where it is built
    if (known := _by_section(text, loader)) is not None:
        return Record(name, known)
    try:
        values = parse_yaml(text, name, loader)
    except UserError as error:
        raise Unreadable(str(error)) from None
    if not isinstance(values, dict):
        raise Unreadable(f"{name} holds no mapping")
    return Record(name, _plain_all(values, name))


def _by_section(text: str, loader: Any) -> dict[str, Any] | None:
    """The mapping, its top-level keys read one by one; None where they don't stand for themselves.

    Of a study's thousands of configs most sections are equal: each is read once.
    """
    if len(text) > MOST_SECTIONED or "&" in text:  # an anchor is the whole file's
        return None
    out: dict[str, Any] = {}
    for section in re.split(r"(?<=\n)(?=\w)", text):  # before a key of no indentation
        if (found := _section(section, loader)) is None:
            return None
        out |= found
    return out


@lru_cache(maxsize=4096)
def _section(text: str, loader: Any) -> dict[str, Any] | None:
    from ladder.common.yaml_files import parse_yaml

    try:
        values = parse_yaml(text, "", loader)
        if isinstance(values, dict) and list(values) == [text.partition(":")[0]]:
            return _plain_all(values, "")
    except (UserError, Unreadable):
        pass  # the whole is read, and its fault told with the name and the line
    return None


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return one_line(error)


def _plain_all(values: dict[Any, Any], name: str) -> dict[str, Any]:
    left = MOST_VALUES

    def plain(value: Any, depth: int) -> Any:
        nonlocal left
        if isinstance(value, str):
            return printable(value)
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            if abs(value) > 2**64:
                raise Unreadable(f"{name} holds a number that can't be ({_short(value)})")
            return value
        if not isinstance(value, dict | list):
            raise Unreadable(f"{name} holds what no run writes ({type(value).__name__})")
        left -= len(value)
        if depth > MOST_DEPTH or left < 0:
            raise Unreadable(f"{name} is nested too deeply" if left >= 0 else f"{name} holds too many values")
        if isinstance(value, dict):
            return {printable(str(k)): plain(v, depth + 1) for k, v in value.items()}
        return [plain(v, depth + 1) for v in value]

    found: dict[str, Any] = plain(values, 0)
    return found


def read_json_or_none(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is none that can be read."""
    try:
        record = read_json(path)
    except Unreadable:
        return None
    return None if record is None else record.values
