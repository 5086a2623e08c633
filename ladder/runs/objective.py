"""Owns what sweepers of Hydra's that search (Optuna, Ax, Nevergrad) are told of a run: its final top-1, in percent."""

from __future__ import annotations

from typing import Any

from ladder.errors import UserError
from ladder.runs.folder import RunDir
from ladder.runs.outcome import Outcome
from ladder.runs.records import read_json_or_none

_OURS = "StudySweeper"  # it takes outcomes


class RunFailed(UserError):
    """A run without a figure, as Hydra's tasks tell of it: by raising. Holds the outcome."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome

    def __str__(self) -> str:
        outcome = self.outcome
        return ": ".join(filter(None, (outcome.label, outcome.error or outcome.state)))


def _is_ours(sweeper: Any) -> bool:
    """Of a sweeper, by Hydra's config of it."""
    return str(sweeper.get("_target_")).endswith(_OURS)


def check_direction(sweeper: Any) -> None:
    """Raise UserError where Optuna is asked for anything but the highest top-1; its own default is the lowest value."""
    direction = sweeper.get("direction")
    name = getattr(direction, "name", direction)
    if name not in (None, "maximize"):
        raise UserError(
            f"hydra.sweeper.direction={name}: it gets the final top-1 of each run; give hydra.sweeper.direction=maximize"
        )


def answer(sweeper: Any, outcome: Outcome, folder: RunDir | None) -> Outcome | float:
    """What `sweeper` gets of a run: ours its outcome, any other its top-1, as Hydra's sweepers expect.

    Raises:
        RunFailed: of a run that has no top-1.
    """
    if _is_ours(sweeper):
        return outcome
    result = read_json_or_none(folder.path / "result.json") if folder is not None and folder.is_done else None
    if result is None:
        raise RunFailed(outcome)
    return float(result["final"]["top1"])
