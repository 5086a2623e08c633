"""Owns what runs were told to do: reading config.yaml, and naming the keys in which runs differ."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any

from ladder.common.nested import flatten
from ladder.runs.records import Record, Unreadable, read_yaml

# These say which network, which repetition, or where it ran: they never make two runs incomparable.
OWN_KEYS = ("rung", "steps", "without", "reference", "spec", "seed", "study", "runs_dir", "wandb", "device")


def may_change_results(key: str) -> bool:
    """Whether a dotted config key is one that a result depends on, besides which network and which repetition."""
    from ladder.runs.config import DATA_WITHOUT_EFFECT, ENGINE_WITH_EFFECT

    section, _, name = key.partition(".")
    if section == "engine":
        return name in ENGINE_WITH_EFFECT
    return section not in OWN_KEYS and not (section == "data" and name in DATA_WITHOUT_EFFECT)


_SECTIONS = ("spec", "recipe", "data", "engine", "wandb")
_NAMES = ("ladder", "study", "runs_dir", "device", "reference", "weights")


@lru_cache(maxsize=20_000)
def read_config(path: str) -> dict[str, Any] | None:
    """The content of `path`/config.yaml, or of a packed run's config; None where there is none that can be read.

    What the keys of a run's config hold is of the type that it should be.
    """
    try:
        return config_of(path)
    except Unreadable:
        return None


def config_of(path: str) -> dict[str, Any] | None:
    """As `read_config`, uncached. Raises Unreadable where there is a config that can't be read."""
    from analysis.read.packed import of_run

    record = read_yaml(os.path.join(path, "config.yaml"))
    if record is None:
        packed = of_run(path)
        values = None if packed is None else packed[0].configs.get(packed[1])
        record = None if values is None else Record("study.json", values)
    if record is None:
        return None
    for name in _SECTIONS:
        if not isinstance(record.values.get(name), dict | None):
            raise Unreadable(f"{record.name}: {name} is no mapping")
    for name in _NAMES:
        record.field(name, str)
    for name in ("steps", "without"):
        given = record.values.get(name)
        if given is not None and not (isinstance(given, list) and all(isinstance(one, str) for one in given)):
            raise Unreadable(f"{record.name}: {name} is no list of names")
    ladder, seed, rung = record.field("ladder", str), record.field("seed", int, 0), record.values.get("rung")
    if ladder is None or seed is None:
        raise Unreadable(f"{record.name} is not that of a run (ladder and seed)")
    if not isinstance(rung, str | int | None) or isinstance(rung, bool):
        raise Unreadable(f"{record.name}: rung is neither a name nor a number")
    return {**record.values, "rung": None if rung is None else str(rung)}


def why_unreadable(path: str) -> str:
    """Why `read_config` gives None, in words."""
    try:
        config_of(path)
    except Unreadable as reason:
        return str(reason)
    return "config.yaml is missing"


def differences(configs: Iterable[Mapping[str, Any]], ignore: Collection[str] = OWN_KEYS) -> dict[str, list[Any]]:
    """Dotted keys whose values are not the same in all configs, with the values met, in order."""
    configs = list(configs)
    out: dict[str, list[Any]] = {}
    for section in dict.fromkeys(key for config in configs for key in config):
        if section in ignore:
            continue
        # most configs share their sections (`read_yaml`): each is looked at once
        met = unique({id(v): v for v in (config.get(section) for config in configs)}.values())
        flat = [flatten({section: values}) for values in met] if len(met) > 1 else []
        for key in dict.fromkeys(key for one in flat for key in one):
            if len(values := unique(one.get(key) for one in flat)) > 1:
                out[key] = values
    return out


def unique(values: Iterable[Any]) -> list[Any]:
    """Each value once, in order; they need not be hashable."""
    out: list[Any] = []
    for value in values:
        if value not in out:
            out.append(value)
    return out


def lookup(path: str, key: str) -> Any:
    """The value of a dotted key in a run's config; None where it is missing."""
    return flatten(read_config(path) or {}).get(key)


def likely(key: str, flat: Mapping[str, Any]) -> list[str]:
    """The keys worth listing beside a wrong one: those of its section, else the likeliest."""
    section = [k for k in flat if k.split(".")[0] == key.split(".")[0]]
    return section or [k for k in flat if k.startswith(("recipe.", "data.", "engine."))]


def written(value: Any, text: str) -> bool:
    """Whether `text` is a way to write the value: numbers in any notation, lists with or without spaces.

    >>> written(0.004, "4e-3"), written([0.9, 0.999], "[0.9,0.999]"), written(True, "1")
    (True, True, False)
    """
    if show(value) == text:
        return True
    if isinstance(value, list):
        parts = text.strip().removeprefix("[").removesuffix("]").split(",")
        return len(parts) == len(value) and all(written(v, p.strip()) for v, p in zip(value, parts, strict=True))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return float(text) == value
    except ValueError:
        return False


def show(value: Any) -> str:
    """A config value as a person would type it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(show(v) for v in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
