"""Owns which runs may stand in one table: equal in all but rung and seed, unless told what to compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.compare.overrides import OWN, ladder_of, overrides, recipe_of_rung, spec_of, spec_text, value
from analysis.read.columns import UNREADABLE
from analysis.read.configs import (
    OWN_KEYS,
    differences,
    likely,
    may_change_results,
    read_config,
    show,
    unique,
    why_unreadable,
    written,
)
from ladder.common.nested import flatten
from ladder.errors import UserError, unknown
from ladder.launch.design_file import designs_in

if TYPE_CHECKING:
    import pandas as pd

    from ladder.launch.designs import Design
    from ladder.networks.rungs import Ladder

_CONTENT = "data.content"  # a digest of the images; runs of earlier versions have none


@dataclass(frozen=True)
class Group:
    """Runs that may be compared: one ladder, data set and choice of the compared keys; what to say about them."""

    name: str
    ladder: Ladder | None
    runs: pd.DataFrame
    choice: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    overridden: bool = False  # some network is not the ladder's rung of its name


def groups(
    runs: pd.DataFrame, compare: Sequence[str], where: Mapping[str, str], *, variants: bool = False
) -> list[Group]:
    """The runs parted by ladder, data set and compared values, each part checked. What a design varied is compared.

    With `variants`, runs of another choice of a compared `spec.FIELD` stand in the part of the plain rung, each choice
    a side rung of it (`gelu spec.norm=batch`), wherever every one of them has runs of the plain rung beside it.

    Raises:
        UserError: no finished run; runs that differ in more than rung and seed; a key that no config has.
    """
    compare = (*compare, *(key for key in varied(runs) if key not in (*compare, *where)))
    runs = of_known_settings(only(runs, where), compare)
    states = runs["state"].value_counts()
    if not states.get("done", 0):
        rest = ", ".join(f"{n} {s}" for s, n in states.items()) or "no run at all"
        asked = "".join(f" with {k}={v}" for k, v in where.items())
        raise UserError(f"no run{asked} is done yet ({rest}): nothing to compare")
    runs, notes = without_copies(runs)
    notes += unreadable(runs)
    out: list[Group] = []
    for ladder, mine in runs.groupby("ladder", sort=True):
        if not (mine["state"] == "done").any():
            continue
        known = ladder_of(str(ladder), map(str, mine["path"]))
        note = [] if known else [f"ladder {ladder} is not installed here: order and titles are those in the runs"]
        fields = [key for key in compare if variants and known and key.startswith("spec.") and key != "spec.code"]
        others = [key for key in compare if key not in fields]
        for whole, shared in _parts(_told_apart(mine, known), others, known):
            for part, choice, beside in _with_variants(whole, shared, fields, known):
                said = (*_check(part, known, beside), *(changed := _overridden(part, known, beside)))
                out.append(Group(str(ladder), known, part, choice, (*notes, *note, *said), bool(changed or beside)))
    return out


def designs_of(runs: pd.DataFrame) -> list[Design]:
    """The designs that the studies of these runs were launched with."""
    folders = dict.fromkeys(Path(path).parent for path in runs["path"])
    return [design for folder in folders for design in designs_in(folder)]


def varied(runs: pd.DataFrame) -> dict[str, tuple[Any, Any]]:
    """The recipe values that the studies' designs varied: config key, low and high level."""
    found: dict[str, tuple[Any, Any]] = {}
    for design in designs_of(runs):
        found |= {key: (levels[0], levels[1]) for key, levels in design.factors.items()}
    return found


def only(runs: pd.DataFrame, where: Mapping[str, str]) -> pd.DataFrame:
    """The runs that have these values of config keys, and those that can't be read, as unreadable.

    Raises:
        UserError: for a key that no config has.
    """
    if not where or not len(runs):
        return runs
    runs = of_known_settings(runs, where)

    def matches(path: str, ladder: Ladder | None) -> bool:
        return all(written(value(path, key, ladder), wanted) for key, wanted in where.items())

    of = zip(map(str, runs["path"]), runs["state"], map(str, runs["ladder"]), strict=True)
    return runs[[state == UNREADABLE or matches(path, ladder_of(ladder, [path])) for path, state, ladder in of]]


def of_known_settings(runs: pd.DataFrame, keys: Iterable[str]) -> pd.DataFrame:
    """The runs, those without a readable config as unreadable if it is asked for `keys` of it.

    Raises:
        UserError: for a key that no config has.
    """
    keys, readable = list(keys), runs[runs["state"] != UNREADABLE]
    if not keys or not len(readable):
        return runs
    configs = {index: read_config(str(path)) for index, path in readable["path"].items()}
    known: dict[str, Any] = {}
    for config in configs.values():
        known |= flatten(config or {})
    for key in keys:
        if known and key not in known:
            raise unknown("config key", key, likely(key, known))
    state, error = runs["state"].to_dict(), runs["error"].to_dict()
    for index, path in readable["path"].items():
        if configs[index] is None:
            state[index], error[index] = UNREADABLE, why_unreadable(str(path))
    return runs.assign(state=list(state.values()), error=list(error.values()))


def unreadable(runs: pd.DataFrame) -> list[str]:
    """A line that names the runs which can't be read, and why."""
    broken = runs[runs["state"] == UNREADABLE]
    most = 5
    messages = [f"{run} ({why})" for run, why in zip(broken["run"], broken["error"], strict=True)][:most]
    more = f" and {len(broken) - most} more" if len(broken) > most else ""
    return [f"unreadable: {'; '.join(messages)}{more}"] if messages else []


def without_copies(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Of the same run in several of the studies (one config hash), the first finished one."""
    hashed = runs[runs["config_hash"].notna()]
    again = hashed[hashed.duplicated(["ladder", "rung", "seed", "config_hash"])]
    if not len(again):
        return runs, []
    return runs.drop(index=again.index), [f"in more than one of the studies, counted once: {len(again)}"]


def _told_apart(runs: pd.DataFrame, ladder: Ladder | None) -> pd.DataFrame:
    """The runs, those of one step by itself (`steps=[gelu]`) not under the name of the rung, where both are there."""
    if ladder is None:
        return runs
    rungs = {rung.name: rung.spec for rung in (*ladder.rungs, *ladder.side_rungs)}
    alone: dict[Any, str] = {}
    others: set[str] = set()
    mine = runs[runs["rung"].isin(list(rungs))]
    told = mine["rung_index"].notna() | mine["parent"].notna()  # by a result
    for index, path, name, own in zip(mine.index, map(str, mine["path"]), map(str, mine["rung"]), told, strict=True):
        if own or (read_config(path) or {}).get("steps") != [name]:
            others.add(name)
        elif ladder.subset([name]).spec != rungs[name]:
            alone[index] = name
    changed = {index: name for index, name in alone.items() if name in others}
    if not changed:
        return runs
    runs = runs.copy()
    for index, name in changed.items():
        runs.loc[index, "rung"] = f"only_{name}"
        runs.loc[index, "title"] = f"only {name.replace('_', ' ')}"
    return runs


def _parts(
    runs: pd.DataFrame, compare: Sequence[str], ladder: Ladder | None
) -> list[tuple[pd.DataFrame, dict[str, Any]]]:
    """The runs of one ladder parted by data set and compared values; unfinished runs by their config.yaml."""
    done = runs[runs["state"] == "done"]
    single = done["data"].nunique() == 1 and done["eval_split"].nunique() == 1
    keys: dict[tuple[str, ...], list[Any]] = {}
    choices: dict[tuple[str, ...], dict[str, Any]] = {}
    for index, path, state, *of in zip(
        runs.index, map(str, runs["path"]), runs["state"], runs["data"], runs["eval_split"], strict=True
    ):
        data = (str(of[0]), str(of[1])) if state == "done" else ("", "")
        if single:
            data = ("", "")
        elif state != "done":
            name = ((read_config(path) or {}).get("data") or {}).get("name")
            data = next(((d, s) for d, s in zip(done["data"], done["eval_split"], strict=True) if d == name), ("", ""))
        if compare and state == UNREADABLE:
            continue
        choice = {key: value(path, key, ladder) for key in compare}
        key = (*data, *(show(v) for v in choice.values()))
        keys.setdefault(key, []).append(index)
        choices.setdefault(key, choice)
    finished = set(done.index)
    ordered = sorted(
        (k for k in keys if finished.intersection(keys[k])), key=lambda k: (k[:2], natural(choices[k].values()))
    )
    return [(runs.loc[keys[k]], choices[k]) for k in ordered]


def _with_variants(
    runs: pd.DataFrame, shared: dict[str, Any], fields: Sequence[str], ladder: Ladder | None
) -> list[tuple[pd.DataFrame, dict[str, Any], Sequence[str]]]:
    """The runs with other choices of `fields` as side rungs, and the fields; parted if a plain rung lacks runs."""
    if not fields:
        return [(runs, shared, ())]
    readable = runs[runs["state"] != UNREADABLE]
    given: dict[Any, dict[str, Any]] = {
        index: {key: found for key in fields if (found := value(str(path), key, ladder)) != OWN}
        for index, path in readable["path"].items()
    }
    plain = {run.rung for run in readable.itertuples() if run.state == "done" and not given[run.Index]}
    others = {index: choice for index, choice in given.items() if choice}
    if not others or not {runs.at[index, "rung"] for index in others} <= plain:
        return [(part, shared | choice, ()) for part, choice in _parts(runs, fields, ladder)]
    ordered = sorted(others, key=lambda index: natural(others[index].values()))
    runs = runs.loc[[index for index in runs.index if index not in others] + ordered].copy()
    titles = {} if ladder is None else {one.name: one.title for one in (*ladder.rungs, *ladder.side_rungs)}
    for index in ordered:
        words = " ".join(f"{key}={show(one)}" for key, one in others[index].items())
        rung = str(runs.at[index, "rung"])
        title = f"{titles.get(rung) or rung.replace('_', ' ')}, {words.replace('spec.', '')}"
        for column, new in {"rung": f"{rung} {words}", "rung_index": None, "parent": rung, "title": title}.items():
            runs.at[index, column] = new
    return [(runs, shared, fields)]


def natural(values: Iterable[Any]) -> list[tuple[int, float, str]]:
    """A key to sort settings by: numbers by size, then all else by how a person types it."""
    return [
        (0, float(v), "") if isinstance(v, int | float) and not isinstance(v, bool) else (1, 0.0, show(v))
        for v in values
    ]


def _check(runs: pd.DataFrame, ladder: Ladder | None, beside: Sequence[str] = ()) -> list[str]:
    """Refuse runs that differ in more than rung, seed and the keys `beside`, naming what differs; what else to say.

    Equal group hashes are equal in all else. Others may be, too: one choice for all rungs (`spec.kernel_size=7`) is
    none on the rung that has it anyway; and of earlier versions' runs something else was hashed. There configs decide.
    """
    done = runs[runs["state"] == "done"]
    notes = []
    if done["group_hash"].nunique() > 1:
        first = done.sort_values("rung", kind="stable").drop_duplicates(
            ["group_hash", "rung"] if ladder else "group_hash"
        )
        paths = [str(path) for path in first["path"]]
        configs = [read_config(path) or {} for path in paths]
        found = _settings_that_differ(configs, ladder) | _specs_that_differ(paths, ladder)
        found = {key: values for key, values in found.items() if key not in beside}
        if found or ladder is None or not all(configs) or any(config.get("weights") for config in configs):
            raise UserError(_refusal(runs, found or differences(configs, (*OWN_KEYS, "ladder"))))
        if len({_CONTENT in flatten(config) for config in configs}) > 1:
            notes.append("of some runs, by an earlier version, only the name of the data set tells that it is the same")
    if ladder is not None and ladder.network == "call":
        notes += _codes(done)
    for rung, mine in done.groupby("rung"):
        texts = mine.assign(text=[spec_text(str(p)) for p in mine["path"]]).drop_duplicates("text")
        if len(texts) > 1:
            specs = [{"spec": (read_config(str(path)) or {}).get("spec") or {}} for path in texts["path"]]
            if kept := differences(specs, ()):
                raise UserError(_refusal(runs, kept, f" of rung {rung}"))
        if mine["seed"].duplicated().any():
            seed = mine.loc[mine["seed"].duplicated(), "seed"].iloc[0]
            both = " and ".join(mine.loc[mine["seed"] == seed, "run"])
            raise UserError(f"rung {rung} has several runs of seed {seed} that no config key tells apart: {both}")
    return notes


def _settings_that_differ(configs: Sequence[Mapping[str, Any]], ladder: Ladder | None) -> dict[str, list[Any]]:
    """Keys of recipe, data and engine with several values, those left out that a run's own rung sets."""
    flat = [
        {
            k: v
            for k, v in flatten(c).items()
            if may_change_results(k) and k not in ("ladder", "weights", "recipe.source")
        }
        for c in configs
    ]
    own = [{f"recipe.{key}" for key in recipe_of_rung(config, ladder)} for config in configs]
    out: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for values in flat for key in values):
        messages = [f for f, mine in zip(flat, own, strict=True) if key not in mine and (key != _CONTENT or key in f)]
        if len(values := unique([f.get(key) for f in messages])) > 1:
            out[key] = values
    return out


def _specs_that_differ(paths: Sequence[str], ladder: Ladder | None) -> dict[str, list[Any]]:
    """Spec fields that some runs were given another value of than the rest has, in the rest by their rungs or not."""
    given = [overrides(path, ladder) for path in paths]
    specs = [spec_of(read_config(path) or {}, ladder) for path in paths]
    keys = dict.fromkeys(key for one in given for key in one)
    return {
        f"spec.{key}": sorted(unique([one.get(key, OWN) for one in given]), key=lambda value: value == OWN)
        for key in keys
        if len(unique([spec[key] for spec in specs if key in spec])) > 1
    }


def _refusal(runs: pd.DataFrame, found: Mapping[str, Sequence[Any]], of: str = "") -> str:
    study = ", ".join(dict.fromkeys(str(s) for s in runs["study"]))
    if not found:
        return (
            f"{study}: the runs{of} were made with different configurations (their group_hash differs), but their"
            " config.yaml do not say in what: keep them in separate studies"
        )
    most = 5
    messages = [f"{k} ({', '.join(show(v) for v in values[:4])})" for k, values in list(found.items())[:most]]
    more = f" and {len(found) - most} more" if len(found) > most else ""
    key, values = next(iter(found.items()))
    return (
        f"{study}: the runs{of} differ in {', '.join(messages)}{more}; compare them with --compare {key}, or keep some"
        f" with --where {key}={show(values[0])}"
    )


def _codes(done: pd.DataFrame) -> list[str]:
    """A line where networks of one function were made by several versions of its file."""
    found: dict[str, list[str]] = {}
    for run in done.itertuples():
        spec = (read_config(str(run.path)) or {}).get("spec") or {}
        if code := spec.get("code"):
            found.setdefault(str(code), []).append(str(run.run))
    if len(found) < 2:
        return []
    told = "; ".join(f"{code}: {len(runs)} runs, such as {runs[0]}" for code, runs in found.items())
    return [f"of {len(found)} versions of the code that makes the networks ({told}); --where spec.code=... keeps one"]


def _overridden(runs: pd.DataFrame, ladder: Ladder | None, beside: Sequence[str] = ()) -> list[str]:
    """A line where a row's network is not the ladder's rung of that name (spec.FIELD=... on the command line), which
    the rows do not say themselves (those of the fields `beside`)."""
    found: dict[str, list[str]] = {}
    for run in runs[runs["state"] == "done"].drop_duplicates("rung").itertuples():
        for key, new in overrides(str(run.path), ladder).items():
            if f"spec.{key}" in beside:
                continue
            found.setdefault(f"spec.{key}={show(new)}", []).append(str(run.rung))
    return [
        f"{change} instead of the ladder's value in {', '.join(names[:6])}{' and more' if len(names) > 6 else ''}"
        for change, names in found.items()
    ]
