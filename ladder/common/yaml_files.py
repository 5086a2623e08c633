"""Owns the reading of YAML that a person wrote: bounded, and a mistake told in one line with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ladder.errors import UserError, one_line

LARGEST = 256 * 1024  # bytes; the largest file of conf/ has a fiftieth of it
MOST_NODES = 100_000  # values, each alias counted as all that it stands for
DEEPEST = 50  # levels of nesting
LONGEST_NUMBER = 40  # signs
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def read_yaml(path: Path, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """What the file at `path` holds, as plain values. Raises UserError."""
    return parse_yaml(_text(path), str(path), loader)


def parse_yaml(text: str, name: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """What the YAML of a file called `name` holds, as plain values. Raises UserError."""
    try:
        document = loader(text)
        node = document.get_single_node()
        if node is None:
            return None
        _size(node, 1, {}, name)
        return document.construct_document(node)
    except UserError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = ", ".join(filter(None, (error.context, error.problem)))
        raise UserError(f"{name}{place}: not YAML: {what or one_line(error)}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{name}: not YAML: {one_line(error)}") from None
    except RecursionError:
        raise _too_deep(name) from None
    except Exception as error:  # of the functions behind numbers, dates, binary data, each with errors of its own
        raise UserError(f"{name}: holds a value that can't be: {one_line(error)}") from None


def _text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: not a file")
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if len(content) > LARGEST:
        raise UserError(f"{path}: larger than {LARGEST // 1024} KiB, which no config is")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not YAML: byte 0x{content[error.start]:02x} is no UTF-8") from None


def _size(node: yaml.Node, depth: int, known: dict[int, int | None], name: str) -> int:
    """How many values a node holds, aliases spelt out. Raises UserError above what is allowed."""
    place = f"{name}, line {node.start_mark.line + 1}"
    if isinstance(node, yaml.ScalarNode):
        if node.tag in _NUMBERS and len(node.value) > LONGEST_NUMBER:
            raise UserError(f"{place}: a number of {len(node.value):,} digits; allowed: {LONGEST_NUMBER}")
        return 1
    if depth > DEEPEST:
        raise _too_deep(name)
    key = id(node)
    if key in known:
        size = known[key]
        if size is None:
            raise UserError(f"{place}: an alias refers to what it is a part of")
        return size
    known[key] = None
    total = 1
    for item in node.value:
        for part in item if isinstance(item, tuple) else (item,):
            total += _size(part, depth + 1, known, name)
    if total > MOST_NODES:
        raise UserError(f"{place}: its aliases stand for more than {MOST_NODES:,} values")
    known[key] = total
    return total


def _too_deep(name: str) -> UserError:
    return UserError(f"{name}: nested more than {DEEPEST} levels deep")
