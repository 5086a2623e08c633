"""Owns the arguments of a network's factory as a spec holds them: dotted keys (`block_args.attn_layer`), in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ladder.common.nested import flatten
from ladder.errors import UserError

Arguments = tuple[tuple[str, Any], ...]  # dotted name and value, sorted, with tuples for lists: equal if the calls are

PREFIX = "args"  # the key of a spec that holds them


def nested(values: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The inverse of `flatten`, with lists for tuples."""
    out: dict[str, Any] = {}
    for name, value in values:
        *path, last = name.split(".")
        place = out
        for part in path:
            place = place.setdefault(part, {})
        place[last] = _list(value)
    return out


def written_over(before: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Values, flat, after a change to them: a key replaces what it held before, whether one value or a whole branch."""
    out = flatten(before)
    for key, value in flatten(change).items():
        parts = key.split(".")
        above = {".".join(parts[:i]) for i in range(1, len(parts))}
        out = {k: v for k, v in out.items() if k not in above and not k.startswith(f"{key}.")}
        out[key] = value
    return out


def arguments(values: Mapping[str, Any]) -> Arguments:
    """The flat `args.` values of a spec as its field holds them. Raises UserError for what no argument can be."""
    found: dict[str, Any] = {}
    for key, value in flatten(values).items():
        if key == PREFIX and not value:  # an empty mapping
            continue
        name = key.removeprefix(f"{PREFIX}.")
        if not all(part.isidentifier() for part in name.split(".")) or key == PREFIX:
            raise UserError(f"spec.{key}={value!r}: must be a mapping of arguments by name")
        found[name] = _tuple(f"spec.{key}", value)
    return tuple(sorted(found.items()))


def _tuple(key: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_tuple(key, one) for one in value)
    if value is not None and not isinstance(value, bool | int | float | str) and value != {}:
        raise UserError(f"{key}={value!r}: must be a number, text, true, false, null, or a list or mapping of these")
    return value if value != {} else ()


def _list(value: Any) -> Any:
    return [_list(one) for one in value] if isinstance(value, tuple) else value
