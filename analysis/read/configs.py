"""Owns what runs were told to do: reading config.yaml, and naming the keys in which runs differ."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from ladder.errors import UserError, unknown

# These say which network, which repetition, or where it ran: they never make two runs incomparable.
OWN_KEYS = ("rung", "steps", "without", "reference", "spec", "seed", "study", "runs_dir", "wandb", "device")


@lru_cache(maxsize=20_000)
def read_config(path: str) -> dict[str, Any] | None:
    """The content of `path`/config.yaml, or of a packed run's config; None where it is missing or no mapping."""
    import yaml

    from analysis.read.packed import of_run

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        with open(os.path.join(path, "config.yaml"), encoding="utf-8") as file:
            values = yaml.load(file, Loader=loader)  # noqa: S506  (a safe loader, the C one where it is built)
    except (FileNotFoundError, NotADirectoryError):
        packed = of_run(path)
        return None if packed is None else packed[0].configs.get(packed[1])
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return values if isinstance(values, dict) else None


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted keys, as a Hydra override spells them.

    >>> flatten({"recipe": {"lr": 0.1}, "seed": 0})
    {'recipe.lr': 0.1, 'seed': 0}
    """
    out: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            out |= flatten(value, f"{name}.")
        else:
            out[name] = value
    return out


def differences(configs: Iterable[Mapping[str, Any]], ignore: Iterable[str] = OWN_KEYS) -> dict[str, list[Any]]:
    """Dotted keys whose values are not the same in all configs, with the values met, in order."""
    skip = tuple(ignore)
    flat = [{k: v for k, v in flatten(c).items() if k.split(".")[0] not in skip} for c in configs]
    out: dict[str, list[Any]] = {}
    for key in dict.fromkeys(k for f in flat for k in f):
        values: list[Any] = []
        for one in flat:
            value = one.get(key)
            if value not in values:
                values.append(value)
        if len(values) > 1:
            out[key] = values
    return out


def lookup(path: str, key: str) -> Any:
    """The value of a dotted key in a run's config. Raises UserError where there is no such key."""
    config = read_config(path)
    if config is None:
        raise UserError(f"{path}: config.yaml is missing or broken, so {key} is not known")
    flat = flatten(config)
    if key not in flat:
        raise unknown("config key", key, _few(key, flat))
    return flat[key]


def _few(key: str, flat: Mapping[str, Any]) -> list[str]:
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
