"""Owns what makes a run's network other than its rung: `spec.FIELD=...` given beside the ladder's own choices."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.read.configs import lookup, read_config
from ladder.common.nested import flatten
from ladder.errors import UserError
from ladder.networks.arguments import PREFIX
from ladder.runs.study import FILE, noted_ladders

if TYPE_CHECKING:
    from ladder.networks.rungs import Ladder, Rung

OWN = "the rung's own"  # the value of a spec key that a run did not override


def ladder_of(name: str, paths: Iterable[str]) -> Ladder | None:
    """The ladder called `name` of the runs in `paths`: as their studies' folders hold it, else this installation's.

    None where there is none. Functions that a study's ladder names are never called.
    """
    for folder in sorted({os.path.dirname(path) for path in paths}):
        try:
            stamp = os.stat(os.path.join(folder, FILE)).st_mtime_ns
        except OSError:
            continue
        if (found := _ladders_in(folder, stamp).get(name)) is not None:
            return found
    return _installed(name)


@lru_cache(maxsize=64)
def _installed(name: str) -> Ladder | None:
    from ladder.networks.rungs import list_ladders, load_ladder

    return load_ladder(name) if name in list_ladders() else None


@lru_cache(maxsize=64)
def _ladders_in(folder: str, stamp: int) -> dict[str, Ladder]:
    """The ladders that a study's folder holds, without those that are none."""
    from ladder.networks.rungs import Ladder

    found = {}
    for name, values in noted_ladders(Path(folder)).items():
        with suppress(UserError, RecursionError):
            if isinstance(values, dict) and values.get("name") == name:
                found[name] = Ladder.from_mapping(values, foreign=True)
    return found


def overrides(path: str, ladder: Ladder | None) -> dict[str, Any]:
    """Spec fields of the run in `path` that were given: their value is not that of the ladder's network.

    A `drop_path` is given where it is not the recipe's, which sets it for all rungs; an `image_size` where it is not
    the data's.
    """
    config = read_config(path) or {}
    rung, spec = _rung(config, ladder), spec_of(config, ladder)
    if rung is None or not spec:
        return {}
    own = rung.spec.to_dict()
    if "drop_path" in own:
        own["drop_path"] = (config.get("recipe") or {}).get("drop_path", own["drop_path"])
    if "image_size" in own:
        own["image_size"] = (config.get("data") or {}).get("image_size", own["image_size"])
    own.pop("code", None)  # of the same function: told of by itself
    own, given = flatten(own), flatten(spec)
    return {key: given[key] for key, value in own.items() if key in given and given[key] != value} | {
        key: value for key, value in given.items() if key.startswith(f"{PREFIX}.") and key not in own
    }


def spec_of(config: Mapping[str, Any], ladder: Ladder | None) -> dict[str, Any]:
    """The spec of a config, with the fields that a record may leave out; empty where it has none."""
    rung, spec = _rung(config, ladder), config.get("spec")
    if not isinstance(spec, dict):
        return {}
    return spec if rung is None else {**rung.spec.unrecorded(), **spec}


def recipe_of_rung(config: Mapping[str, Any], ladder: Ladder | None) -> Mapping[str, Any]:
    """The recipe's fields that the rung of a config sets itself."""
    rung = _rung(config, ladder)
    return {} if rung is None else rung.recipe


def _rung(config: Mapping[str, Any], ladder: Ladder | None) -> Rung | None:
    if ladder is None:
        return None
    try:
        if config.get("steps") is not None or config.get("without") is not None:
            return ladder.subset(config.get("steps"), config.get("without"))
        return ladder.rung(config.get("rung"))
    except ValueError:  # a UserError, or a number of thousands of digits
        return None


def value(path: str, key: str, ladder: Ladder | None) -> Any:
    """A run's value of a dotted config key; None where it has none. A spec key that it did not override is OWN."""
    given = lookup(path, key)
    if key.startswith("spec.") and key != "spec.code" and ladder is not None:
        return overrides(path, ladder).get(key.removeprefix("spec."), OWN)
    return given


def spec_text(path: str) -> str:
    """What a run's config says of the network: equal text means an equal one. Empty where it can't be read."""
    config = read_config(path)
    return "" if config is None else repr([config.get(key) for key in ("spec", "steps", "without")])
