"""Owns how to reproduce a table: the commands that train its runs again, read off their configs."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.compare.overrides import ladder_of, overrides
from analysis.read.configs import read_config
from ladder.runs.records import Unreadable
from ladder.runs.study import launches as noted
from ladder.runs.study import planned

if TYPE_CHECKING:
    import pandas as pd

    from ladder.networks.rungs import Ladder


def commands(runs: pd.DataFrame) -> list[str]:
    """Commands for the runs of one table (a frame of `analysis.load`), one for each set of seeds and network choice.

    Empty where no config.yaml can be read. Values that are the defaults of the named recipe and data set are left out.
    """
    jobs: dict[tuple[tuple[str, ...], tuple[int, ...]], list[str]] = {}
    seeds: dict[tuple[tuple[str, ...], str], set[int]] = {}
    told: dict[tuple[str, str], tuple[tuple[str, ...], str]] = {}
    for path in map(str, runs["path"]):
        config = read_config(path)
        if config is None:
            continue
        of = (os.path.dirname(path), repr({**config, "seed": None}))  # the same words for every seed
        if of not in told:
            told[of] = _words(config, path)
        seeds.setdefault(told[of], set()).add(int(config.get("seed", 0)))
    for (common, rung), numbers in seeds.items():
        jobs.setdefault((common, tuple(sorted(numbers))), []).append(rung)
    paths = [str(path) for path in runs["path"]]
    return [_command(common, rungs, numbers, paths) for (common, numbers), rungs in jobs.items()]


def _words(config: Mapping[str, Any], path: str) -> tuple[tuple[str, ...], str]:
    """The overrides of a run, but for rung and seed; and its rung (empty for a subset of the steps)."""
    ladder = ladder_of(str(config.get("ladder")), [path])
    network, rung = _network(config, ladder, path)
    return (f"ladder={config.get('ladder')}", *_choices(config, ladder), *network, f"study={config.get('study')}"), rung


def command_for(path: str, subsets: Sequence[Sequence[str]], levels: Mapping[str, Any]) -> str:
    """The command that trains subsets of the steps as the run at `path` was trained, but for these other values."""
    config = read_config(path) or {}
    ladder = ladder_of(str(config.get("ladder")), [path])
    choices = [choice for choice in _choices(config, ladder) if choice.partition("=")[0] not in levels]
    choices += [f"{key}={hydra_value(value)}" for key, value in levels.items()]
    steps = ",".join(hydra_value(list(subset)) for subset in subsets)
    words = [f"ladder={config.get('ladder')}", f"steps={steps}", f"seed={config.get('seed')}", *choices]
    return f"ladder train -m {_where(str(config.get('ladder')))}{' '.join(map(shlex.quote, [*words, 'study=best']))}"


def launches(runs: pd.DataFrame) -> dict[str, list[str]]:
    """The commands that were given to launch the studies of a frame of `analysis.load`, each with all of its runs."""
    found: dict[str, list[str]] = {}
    for folder in map(Path, dict.fromkeys(map(os.path.dirname, runs["path"]))):
        with suppress(Unreadable):  # ladder status tells; runs started one by one leave no note
            found |= noted(folder)
    return found


def to_come(runs: pd.DataFrame) -> list[str]:
    """The runs that the studies of a whole frame of `analysis.load` were asked for and have no folder of yet."""
    there = set(zip(map(os.path.dirname, runs["path"]), runs["run"], strict=True))
    found: dict[str, None] = {}
    for folder in dict.fromkeys(map(os.path.dirname, runs["path"])):
        with suppress(Unreadable):
            found |= {name: None for name in planned(Path(folder)) if (folder, name) not in there}
    return list(found)


def _command(common: tuple[str, ...], rungs: list[str], seeds: tuple[int, ...], paths: Sequence[str]) -> str:
    head, *rest = common
    name = head.partition("=")[2]
    ladder = ladder_of(name, paths)
    names = [rung for rung in rungs if rung]
    if ladder is not None:
        order = [r.name for r in (*ladder.rungs, *ladder.side_rungs)]
        names.sort(key=lambda name: order.index(name) if name in order else len(order))
        main = [r.name for r in ladder.rungs]
        if len(main) > 1 and names[: len(main)] == main:
            names = [f"range({len(main)})"] if len(names) == len(main) else names
    given = [head, *([f"rung={','.join(names)}"] if names else []), f"seed={','.join(map(str, seeds))}", *rest]
    several = len(seeds) > 1 or len(rungs) > 1
    words = " ".join(shlex.quote(word) for word in given)
    return f"ladder train {'-m ' if several else ''}{_where(name)}{words}"


def _where(ladder: str) -> str:
    """What a command needs for a ladder that does not come with the project."""
    from ladder.networks.rungs import list_ladders

    return "" if ladder in list_ladders() else "--config-dir DIR "


def _network(config: Mapping[str, Any], ladder: Ladder | None, path: str) -> tuple[tuple[str, ...], str]:
    """Overrides that say which network, but for the rung; and the rung (empty for a subset of the steps)."""
    spec = tuple(f"spec.{key}={hydra_value(value)}" for key, value in overrides(path, ladder).items())
    for key in ("steps", "without", "reference"):
        if config.get(key) is not None:
            return (f"{key}={hydra_value(config[key])}", *spec), ""
    return spec, str(config.get("rung"))


def _choices(config: Mapping[str, Any], ladder: Ladder | None) -> list[str]:
    """recipe=, data= and every value that differs from what these names stand for."""
    out: list[str] = []
    own: set[str] = set()
    if ladder is not None and config.get("rung") is not None:
        names = {r.name: r for r in (*ladder.rungs, *ladder.side_rungs)}
        rung = names.get(str(config["rung"]))
        own = set(rung.recipe) if rung else set()  # what the step changes is not a choice of the run
    for group in ("recipe", "data"):
        values = dict(config.get(group) or {})
        name, defaults = _nearest(group, values)
        out.append(f"{group}={name}")
        skip = own | {"source"} if group == "recipe" else {"download", "content"}
        if group == "data" and values.get("name") == Path(str(values.get("root"))).name:
            skip.add("name")  # the folder's name, unless another is given
        for key, value in values.items():
            if key not in skip and defaults.get(key) != value:
                out.append(f"{group}.{key}={hydra_value(value)}")
    from ladder.runs.config import EngineConfig

    engine = asdict(EngineConfig())
    for key, value in dict(config.get("engine") or {}).items():
        if engine.get(key) != value:
            out.append(f"engine.{key}={hydra_value(value)}")
    if config.get("device") not in (None, "auto"):
        out.append(f"device={config['device']}")
    if config.get("weights") is not None:
        out.append(f"weights={hydra_value(config['weights'])}")
    return out


def _nearest(group: str, values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The file of conf/GROUP that these values came from (by name, else the most alike), and what it stands for."""
    known = _files(group)
    name = str(values.get("name"))
    if name in known:
        return name, known[name]
    alike = {n: sum(known[n].get(k) == v for k, v in values.items()) for n in known if n}
    same = [n for n in alike if known[n].get("source") == values.get("source")] if group == "data" else list(alike)
    best = max(same or list(alike) or [name], key=lambda n: alike.get(n, 0))
    return best, known.get(best, {})


@lru_cache(maxsize=8)
def _files(group: str) -> dict[str, dict[str, Any]]:
    import dataclasses

    import yaml

    from ladder.paths import conf_dir
    from ladder.runs.config import DataConfig
    from ladder.training.recipe import Recipe

    kind: Any = Recipe if group == "recipe" else DataConfig
    defaults: dict[str, Any] = {}
    for f in dataclasses.fields(kind):
        if f.default is not dataclasses.MISSING:
            defaults[f.name] = f.default
        elif f.default_factory is not dataclasses.MISSING:
            defaults[f.name] = f.default_factory()
    out: dict[str, dict[str, Any]] = {}
    for path in sorted(Path(conf_dir() / group).glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text) or {}
        parents = values.pop("defaults", []) or []
        base = dict(defaults)
        for parent in parents:
            if isinstance(parent, str) and parent != "_self_" and parent in out:
                base = dict(out[parent])
        out[path.stem] = {**base, **values}
    return out


def hydra_value(value: Any) -> str:
    """A value in the grammar of Hydra's overrides.

    >>> hydra_value([0.5, None, "a b"])
    "[0.5,null,'a b']"
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ",".join(hydra_value(v) for v in value) + "]"
    text = str(value)
    if isinstance(value, str) and not re.fullmatch(r"[\w./+-]+", text):
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return text


def code_of(runs: pd.DataFrame) -> list[tuple[str, int]]:
    """(commit, with a word on uncommitted changes; number of runs) of the finished runs, the most used first."""
    done = runs[runs["state"] == "done"]
    words: dict[str, int] = {}
    for commit, dirty in zip(done["git_commit"], done["git_dirty"], strict=True):
        name = commit if isinstance(commit, str) else "not in a git repository"
        name += ", with uncommitted changes" if _true(dirty) else ""
        words[name] = words.get(name, 0) + 1
    return sorted(words.items(), key=lambda item: -item[1])


def _true(value: Any) -> bool:
    return value is True or str(value) == "True"


def versions_of(runs: pd.DataFrame) -> dict[str, list[str]]:
    """Versions, device and precision met among the finished runs."""
    done = runs[runs["state"] == "done"]
    names = {
        **{"modernization-ladder": "ladder_version", "Python": "python_version", "PyTorch": "torch_version"},
        **{"timm": "timm_version", "device": "device", "precision": "precision"},
    }
    return {name: distinct(done[column].dropna()) for name, column in names.items()}


def distinct(values: Iterable[Any]) -> list[str]:
    """The values as text, sorted, each once."""
    return sorted({str(v) for v in values})
