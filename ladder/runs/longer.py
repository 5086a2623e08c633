"""Owns longer runs: which finished run, equal but for its epochs, a new one goes on from, and what is said of it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladder.errors import UserError
from ladder.runs.folder import stable_hash
from ladder.runs.records import read_json_or_none
from ladder.runs.resolve import Run
from ladder.training.progress import in_words

if TYPE_CHECKING:
    import torch

MOST_LOOKS = 1000  # into folders of other runs of a rung and seed: a study may hold many
SAME_SO_FAR = ("constant", "step")  # schedules whose learning rate does not depend on how long the run will be


@dataclass(frozen=True)
class Shorter:
    """A finished run that differs in its epochs alone."""

    path: Path
    config_hash: str
    epochs: int
    wall_s: float | None


def start_of(run: Run, device: torch.device, log: logging.Logger) -> dict[str, Any] | None:
    """The state in which the longest such run ended, as `run` itself would be there, bit by bit; None without one."""
    from ladder.training import checkpoint

    if run.recipe.schedule not in SAME_SO_FAR:
        return None
    study, alike = run.dir.path.parent, run.label.rpartition("-")[0]
    found = [one for one in _others(run, study, _names(study).get(alike, ())) if _leads_to(one, run)]
    for one in sorted(found, key=lambda one: -one.epochs):
        try:
            state = checkpoint.load(one.path / "checkpoints", device, log.warning)
        except UserError as error:
            log.warning("not from %s: %s", one.path.name, error)
            continue
        if state is not None and (state["config_hash"], state["epoch"]) == (one.config_hash, one.epochs):
            log.info("goes on from %s, done in %d epochs", one.path.name, one.epochs)
            return _not_the_last(state, run.engine.eval_every)
    return None


def _not_the_last(state: dict[str, Any], eval_every: int) -> dict[str, Any]:
    """The state without the evaluation that its last epoch has as the last alone."""
    last = state["history"][-1]
    if last["epoch"] % eval_every:
        last |= dict.fromkeys(("eval_loss", "top1", "top5", "ema_top1"))
        known = [row for row in state["history"] if row["top1"] is not None]
        best = max(known, key=lambda row: row["top1"], default=None)
        state["best"] = {} if best is None else {"top1": best["top1"], "epoch": best["epoch"]}
    return state


def notes(runs: Iterable[Run]) -> list[str]:
    """Which new runs are done in another number of epochs: what they go on from, or why they don't; what that costs."""
    names: dict[Path, dict[str, list[str]]] = {}  # of a study: folders by rung and seed
    told: dict[tuple[int, int], str] = {}
    looks = MOST_LOOKS
    for run in runs:
        study, alike = run.dir.path.parent, run.label.rpartition("-")[0]
        if study not in names:
            names[study] = _names(study)
        others = names[study].get(alike, [])
        if run.label in others:
            continue
        if (looks := looks - len(others)) < 0:
            break
        found = list(_others(run, study, others))
        usable = [one for one in found if _leads_to(one, run)]
        for one in [max(usable, key=lambda one: one.epochs)] if usable else found:
            told.setdefault((one.epochs, run.recipe.epochs), _told(run, one))
    return list(told.values())


def _told(run: Run, one: Shorter) -> str:
    now = run.recipe.epochs
    done = f"{one.path.name} is done in {one.epochs} epoch{'s' * (one.epochs != 1)}; of {now} it"
    goes_on = _leads_to(one, run)
    left = now - one.epochs if goes_on else now
    cost = "" if one.wall_s is None else f"; about {in_words(one.wall_s / one.epochs * left)} a run"
    if goes_on:
        return f"{done} goes on from there: recipe.schedule={run.recipe.schedule} is the same so far{cost}"
    why = ": the rate of a cosine depends on the length of the run from the first step on"
    return f"{done} is trained from its start{why if run.recipe.schedule == 'cosine' else ''}{cost}"


def _leads_to(one: Shorter, run: Run) -> bool:
    """Whether the end of one run is a moment of the other, and was kept."""
    same = run.recipe.schedule in SAME_SO_FAR and one.epochs < run.recipe.epochs
    return same and (one.path / "checkpoints" / "last.pt").exists()


def _names(study: Path) -> dict[str, list[str]]:
    """The folders of a study by rung and seed."""
    found: dict[str, list[str]] = {}
    with suppress(OSError):
        for name in os.listdir(study):
            found.setdefault(name.rpartition("-")[0], []).append(name)
    return found


def _others(run: Run, study: Path, names: Iterable[str]) -> Iterator[Shorter]:
    """Of these folders those of the same run in another number of epochs."""
    for name in names:
        result = read_json_or_none(study / name / "result.json") or {}
        epochs, wall = result.get("epochs"), result.get("wall_s")
        if not isinstance(epochs, int) or epochs < 1 or epochs == run.recipe.epochs:
            continue
        config_hash = stable_hash({**run.identity, "recipe": {**run.identity["recipe"], "epochs": epochs}})
        if name.rpartition("-")[2] == config_hash:
            yield Shorter(study / name, config_hash, epochs, float(wall) if isinstance(wall, int | float) else None)
