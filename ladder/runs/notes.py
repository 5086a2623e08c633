"""Owns what a user is told of runs before they start: keys that change nothing, names that changed, other images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from ladder.runs import longer
from ladder.runs.config import WANDB_DEFAULTS, WANDB_VARIABLES, wandb_default
from ladder.runs.folder import stable_hash
from ladder.runs.identity import place, trained_root
from ladder.runs.resolve import Run

_CHANGED = {  # part of a run's identity: what of it earlier versions hashed otherwise
    "data": "the images themselves, by a digest of their folder, not the folder's name, are part of a run's hash now",
    "weights": "start weights count by their tensors now, not by their file",
    "spec": "a number is hashed by its field's type now: 0 is 0.0",
    "recipe": "a number is hashed by its field's type now: 0 is 0.0",
}


def notes(jobs: Iterable[tuple[Run, Sequence[str]]]) -> list[str]:
    """Lines for the runs of a sweep (or for one run), each with the overrides that it was asked for by."""
    messages: dict[str, None] = {}
    runs: dict[str, Run] = {}
    for run, overrides in jobs:
        messages |= dict.fromkeys((*_ignored_overrides(run, overrides), *_environment(run)))
        runs.setdefault(str(run.dir.path), run)
    return [*messages, *_renamed(runs.values()), *_elsewhere(runs.values()), *longer.notes(runs.values())]


def by_default(run: Run, overrides: Iterable[str]) -> str:
    """What of ladder, rung, recipe and data nobody named and was chosen therefore, as one types it; often nothing."""
    given = {text.partition("=")[0].lstrip("+~") for text in overrides}
    if "experiment" in given:
        return ""
    chosen = {"ladder": run.ladder.name, "rung": run.rung.name, "recipe": run.recipe.name, "data": run.data.name}
    if given & {"steps", "without", "reference"}:
        del chosen["rung"]
    return " ".join(f"{key}={name}" for key, name in chosen.items() if key not in given)


def _environment(run: Run) -> list[str]:
    """Which of W&B's environment variables made the run's settings, and which did not."""
    heeded, other = [], []
    for key, variable in WANDB_VARIABLES.items():
        if not os.environ.get(variable):
            continue
        said, used = wandb_default(key), getattr(run.wandb, key)
        if said != used:
            other.append(f"wandb.{key}={used} was given, not {variable}={os.environ[variable]}")
        elif said != WANDB_DEFAULTS.get(key):
            heeded.append(f"{key} {os.environ[variable]} ({variable})")
    return [*([f"W&B: {', '.join(heeded)}"] if heeded else []), *(other if run.wandb.mode != "disabled" else [])]


def _ignored_overrides(run: Run, overrides: Iterable[str]) -> list[str]:
    """A line for each recipe key among the overrides that the run's rung sets itself, or that its recipe does not read."""
    given = {text.partition("=")[0].lstrip("+") for text in overrides}
    own = [
        f"recipe.{key}: rung {run.rung.name} of {run.ladder.name} sets it to {'null' if value is None else value}"
        " itself, and that is what it gets"
        for key, value in run.rung.recipe.items()
        if f"recipe.{key}" in given
    ]
    unread = {key: why for key, why in run.recipe.unread().items() if key not in run.rung.recipe}
    return [*own, *(f"recipe.{key} changes nothing: {why}" for key, why in unread.items() if f"recipe.{key}" in given)]


def _renamed(runs: Iterable[Run]) -> list[str]:
    """What became of runs that an earlier version gave another name."""
    kept: dict[str, list[Run]] = {}
    other: list[Run] = []
    for run in runs:
        if run.is_older:
            why = "; ".join(dict.fromkeys(_CHANGED[key] for key in _CHANGED if _differs(run, key)))
            kept.setdefault(why, []).append(run)
        elif (older := run.older) is not None and older.dir.path.exists() and not run.dir.path.exists():
            other.append(run)
    lines = [
        f"{len(mine)} of these runs, such as {mine[0].label}, keep the names that an earlier version gave them: {why}"
        for why, mine in kept.items()
    ]
    return lines + [
        f"{run.older.dir.path}, by an earlier version, is of other images (data.root={trained_root(run.older.dir)}):"
        f" {run.label} is trained beside it"
        for run in other
        if run.older is not None
    ]


def _differs(run: Run, key: str) -> bool:
    return run.former is not None and run.former.get(key) != run.identity.get(key)


def _elsewhere(runs: Iterable[Run]) -> list[str]:
    """Which done runs were trained from another folder than the one that is named now."""
    roots: dict[str, list[Run]] = {}
    for run in runs:
        if run.data.root is not None and run.dir.is_done:
            root = trained_root(run.dir)
            if root is not None and place(root) != place(run.data.root):
                roots.setdefault(root, []).append(run)
    return [
        f"{len(mine)} of these runs, such as {mine[0].label}, were trained from data.root={root}: the same data by"
        f" {'a digest of its files' if mine[0].content else 'its name'}, so not again from {mine[0].data.root}"
        for root, mine in roots.items()
    ]
