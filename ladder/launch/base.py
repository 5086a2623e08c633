"""Owns what all our launchers share: which runs there are to do, the study's list of them, the summary at the end."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from ladder.common.streams import say
from ladder.errors import UserError
from ladder.launch.compose import Composer
from ladder.launch.jobs import Job, Ledger
from ladder.launch.view import LEFT, View, outline, summary
from ladder.runs import study
from ladder.runs.objective import RunFailed, answer, check_direction
from ladder.runs.outcome import NOT_STARTED, OUTCOMES, Outcome
from ladder.runs.resolve import Run

MakeLedger = Callable[[View], Ledger]


class StudyLauncher(Launcher):
    """A launcher of Hydra's for the runs of a study: skips what is done, and says of each of the others how it ended.

    Subclasses say with what (`prepare`), and have the parameters that `conf/hydra/launcher/NAME.yaml` describes.
    """

    max_attempts: int
    heartbeat_limit: float | None

    def __init__(self) -> None:
        self.composer: Composer | None = None  # the sweeper's, which has composed all jobs already
        self.sweeper: Any = {}  # Hydra's config of it

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember what composes configs. The task function is always ours."""
        loader: Any = hydra_context.config_loader
        self.composer, self.sweeper = Composer(loader, config), config.hydra.sweeper

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """See every job's run done, or say why not. Raises UserError for a mistake, before anything starts."""
        assert self.composer is not None
        self.check()
        check_direction(self.sweeper)
        runs = [self.composer.run(overrides) for overrides in job_overrides]
        unique = {run.dir.path: run for run in runs}  # two ways to name one rung are one run
        for run in unique.values():
            run.adopt()
            run.dir.check()
        if any(outcome.state == "stopped" and outcome.error != LEFT for outcome in OUTCOMES):  # in an earlier batch
            outcomes = {path: Outcome("stopped", run.label, NOT_STARTED) for path, run in unique.items()}
        else:
            outcomes = self._launch(list(unique.values()))
        OUTCOMES.extend(outcomes.values())
        pairs = zip(job_overrides, runs, strict=True)
        return [_returned(overrides, self.sweeper, outcomes[run.dir.path], run) for overrides, run in pairs]

    def check(self) -> None:
        """Raise UserError for a parameter that can't be."""
        check_whole("max_attempts", self.max_attempts)
        limit = self.heartbeat_limit
        if limit is not None and (type(limit) not in (int, float) or limit <= 0):
            raise UserError(f"hydra.launcher.heartbeat_limit={limit}: must be seconds above 0, or null")

    def prepare(self, name: str, todo: Sequence[Run]) -> MakeLedger:
        """What sees the runs `todo` of the study called `name` done. Raises UserError; writes nothing yet."""
        raise NotImplementedError

    def _launch(self, runs: list[Run]) -> dict[Path, Outcome]:
        folders: dict[Path, list[str]] = {}
        ladders: dict[Path, dict[str, Mapping[str, Any]]] = {}
        for run in runs:
            folders.setdefault(run.dir.path.parent, []).append(run.label)
            ladders.setdefault(run.dir.path.parent, {})[run.ladder.name] = run.ladder.values
        name = ", ".join(str(folder) for folder in folders)
        command = command_line()
        outcomes = {run.dir.path: Outcome("skipped", run.label) for run in runs if run.dir.is_done}
        todo = [run for run in runs if run.dir.path not in outcomes]
        if todo:
            for folder in folders:
                study.check_writable(folder)
            say(f"{name}: {len(todo)} run{'s' * (len(todo) != 1)} to do: {outline(todo)}")
            make_ledger = self.prepare(name, todo)

            def begun() -> None:
                for folder, labels in folders.items():
                    study.remember(folder, command, labels, ladders[folder].values())

            ledger = make_ledger(View(name, len(runs), len(outcomes)))
            outcomes |= ledger.run([Job(run) for run in todo], begun)
        outcomes = {run.dir.path: outcomes[run.dir.path] for run in runs}  # in the order of the sweep
        say(summary(name, outcomes, command))
        return outcomes


def command_line() -> str:
    """What was typed to launch the sweep."""
    return shlex.join(["ladder", "train", *sys.argv[1:]])


def check_whole(name: str, value: object, least: int = 1, or_null: bool = False) -> None:
    """Raise UserError where a launcher's parameter is not a whole number from `least`."""
    if or_null and value is None:
        return
    if type(value) is not int or value < least:
        null = ", or null" if or_null else ""
        raise UserError(f"hydra.launcher.{name}={value}: must be a whole number from {least}{null}")


def plain(value: Any) -> Any:
    """A launcher's parameter that is a mapping, as plain values; {} for null."""
    if value is None:
        return {}
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _returned(overrides: Sequence[str], sweeper: Any, outcome: Outcome, run: Run) -> JobReturn:
    returned = JobReturn(overrides=overrides)
    try:
        returned.return_value, returned.status = answer(sweeper, outcome, run.dir), JobStatus.COMPLETED
    except RunFailed as failed:
        returned.return_value, returned.status = failed, JobStatus.FAILED
    return returned
