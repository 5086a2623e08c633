"""Owns Hydra's sweeper of this project: a grid of runs, every one of them checked before the first one starts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf

from ladder.common.streams import say
from ladder.errors import UserError, one_line
from ladder.launch.base import StudyLauncher, command_line
from ladder.launch.compose import Composer
from ladder.launch.designed import Designed, designed_jobs
from ladder.launch.view import LEFT, summary
from ladder.runs.hydra import check_experiments
from ladder.runs.notes import by_default, notes
from ladder.runs.objective import RunFailed
from ladder.runs.outcome import OUTCOMES, Outcome
from ladder.runs.resolve import Run

Batches = list[list[list[str]]]  # of jobs, each a list of overrides


class StudySweeper(Sweeper):
    """The grid of Hydra's basic sweeper, which composes every config in full, and makes a folder before that.

    Here a mistake in any job is told before anything is written or started, and 1,000 jobs are checked in seconds.
    """

    def __init__(self, max_batch_size: int | None = None, params: Mapping[str, Any] | None = None) -> None:
        self.max_batch_size, self.params = max_batch_size, dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Make the launcher; one that composes runs too shares our composer."""
        self.config, self.hydra_context, self._task_function = config, hydra_context, task_function
        launcher: Any = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        loader: Any = hydra_context.config_loader
        self.composer = Composer(loader, config)
        if hasattr(launcher, "composer"):
            launcher.composer = self.composer
        self.launcher = launcher

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Launch the grid of all values given. Raises UserError, or Hydra's errors, before anything starts.

        Several experiments are a sweep each, one after another: each has values to sweep over of its own.
        """
        parts = [(sweeper, *sweeper.checked(given)) for sweeper, given in self._studies(arguments)]
        for line in dict.fromkeys(line for *_, messages in parts for line in messages):
            say(f"note: {line}", error=True)
        for _, _, design, _ in parts:
            if design is not None:
                say(design.message, error=True)
                design.remember()
        returns: list[Sequence[JobReturn]] = []
        for place, (sweeper, batches, _, _) in enumerate(parts, 1):
            returns += sweeper.launch(batches)
            stopped = any(outcome.state == "stopped" and outcome.error != LEFT for outcome in OUTCOMES)
            if stopped and place < len(parts):  # by somebody who does not want the next one either
                say(f"stopped: {len(parts) - place} of {len(parts)} experiments not started")
                break
        return returns

    def _studies(self, arguments: list[str]) -> list[tuple[StudySweeper, list[str]]]:
        """This sweeper with its arguments; for several experiments one for each, set up as if it were alone."""
        assert self.hydra_context is not None and self.config is not None
        out: list[tuple[StudySweeper, list[str]]] = []
        for config, given in studies(self.hydra_context.config_loader, self.config, arguments):
            sweeper: Any = self
            if config is not self.config:
                sweeper = Plugins.instance().instantiate_sweeper(
                    config=config, hydra_context=self.hydra_context, task_function=self._task_function
                )
            if not isinstance(sweeper, StudySweeper):
                raise UserError("several experiments in one sweep want hydra/sweeper=study")
            out.append((sweeper, given))
        return out

    def checked(self, arguments: Sequence[str]) -> tuple[Batches, Designed | None, list[str]]:
        """The jobs of a sweep, all of them checked, the design that they are of, and what is to be told of them."""
        assert self.hydra_context is not None
        loader: Any = self.hydra_context.config_loader
        batches, design = jobs_of(loader, self.composer, self.params, arguments, self.max_batch_size)
        jobs = [job for batch in batches for job in batch]
        runs = [self.composer.run(job) for job in jobs]
        if jobs and (chosen := by_default(runs[0], jobs[0])):
            say(f"by default: {chosen}")
        return batches, design, [*same_runs(jobs, runs), *notes(zip(runs, jobs, strict=True))]

    def launch(self, batches: Batches) -> list[Sequence[JobReturn]]:
        """Hand the batches to the launcher."""
        assert self.launcher is not None
        returns: list[Sequence[JobReturn]] = []
        launched = 0
        for batch in batches:
            returns.append(self._launch(batch, launched))
            launched += len(batch)
        return returns

    def _launch(self, batch: list[list[str]], launched: int) -> Sequence[JobReturn]:
        """Launch jobs. Of those that another's launcher ran, possibly elsewhere, take up the outcomes."""
        if isinstance(self.launcher, StudyLauncher):
            return self.launcher.launch(batch, initial_job_idx=launched)
        assert self.launcher is not None and self.config is not None
        try:
            returns = self.launcher.launch(batch, initial_job_idx=launched)
        except Exception as error:  # a process that died: each launcher has errors of its own
            raise RunFailed(Outcome("failed", "the launcher", f"{type(error).__name__}: {one_line(error)}")) from error
        found: dict[Path, Outcome] = {}
        for run, returned in zip(map(self.composer.run, batch), returns, strict=True):
            found[run.dir.path] = replace(returned.return_value, label=run.label)  # raises where the job did
        OUTCOMES.extend(found.values())
        say(summary(str(self.config.hydra.sweep.dir), found, command_line()))
        return returns


def jobs_of(
    loader: Any, composer: Composer, params: Mapping[str, Any], arguments: Sequence[str], batch_size: int | None = None
) -> tuple[Batches, Designed | None]:
    """The jobs of a sweep: those of a design where one is asked for, else the grid. Raises UserError."""
    given = [f"{key}={value}" for key, value in params.items()]
    overrides = OverridesParser.create(config_loader=loader).parse_overrides([*given, *arguments])
    check_values(overrides)
    designed = designed_jobs(composer, overrides)
    if designed is None:
        return grid(loader, params, arguments, batch_size), None
    size = batch_size or len(designed.jobs)
    return [designed.jobs[i : i + size] for i in range(0, len(designed.jobs), size)], designed


def check_values(overrides: Sequence[Override]) -> None:
    """Raise UserError for an override that sweeps over no value: there would be no run, and nothing to tell."""
    for override in overrides:
        if override.is_sweep_override() and next(override.sweep_string_iterator(), None) is None:
            raise UserError(
                f"{override.input_line}: stands for no value; give a list, such as {override.key_or_group}=A,B, or"
                " range(START,STOP) with STOP above START"
            )


def studies(loader: Any, master: DictConfig, arguments: Sequence[str]) -> list[tuple[DictConfig, list[str]]]:
    """A sweep's config and arguments; `experiment=A,B` is two sweeps, each with the values that its file sweeps over.

    Raises UserError for `experiment=[A,B]`, of which Hydra would make one that is neither.
    """
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(arguments))
    asked = [override for override in parsed if override.key_or_group == "experiment"]
    check_values(asked)
    check_experiments(asked)
    if not asked or not asked[-1].is_sweep_override():
        return [(master, list(arguments))]
    name, hydra = master.hydra.job.config_name, list(master.hydra.overrides.hydra)
    rest = [text for text, override in zip(arguments, parsed, strict=True) if override not in asked]
    given = [[f"experiment={one}", *rest] for one in dict.fromkeys(asked[-1].sweep_string_iterator())]
    return [(loader.load_configuration(name, [*hydra, *mine], RunMode.MULTIRUN), mine) for mine in given]


def same_runs(jobs: Sequence[Sequence[str]], runs: Sequence[Run]) -> list[str]:
    """A line where several jobs are one run, as two ways to name a rung are.

    Raises UserError for a key that is swept over but makes no other run: `device=cpu,cuda` would train on one of them.
    """
    paths = [str(run.dir.path) for run in runs]
    if len(set(paths)) == len(paths):
        return []
    texts = [dict(text.split("=", 1) for text in job if "=" in text) for job in jobs]
    for key in dict.fromkeys(key for job in texts for key in job):
        if key.lstrip("+") not in (*_NETWORKS, "reference"):
            alike: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
            for job, path in zip(texts, paths, strict=True):
                others = tuple((name, text) for name, text in job.items() if name != key)
                alike.setdefault(others, {})[job.get(key, "")] = path
            swept = [by for by in alike.values() if len(by) > 1]
            if swept and all(len(set(by.values())) == 1 for by in swept):
                raise UserError(
                    f"{key}={','.join(swept[0])}: all of these are one run, such as {runs[0].label}, as {key} changes"
                    " no result here: give one value, or launch each with a study of its own (study=...)"
                )
    twice = next(run.label for i, run in enumerate(runs) if paths[i] in paths[:i])
    return [f"{len(paths)} jobs are {len(set(paths))} runs, each trained once: more than one job is {twice}"]


def grid(loader: Any, params: Mapping[str, Any], arguments: Sequence[str], batch_size: int | None = None) -> Batches:
    """The jobs of a sweep over all values of `params` and `arguments`, of which the latter go first.

    A reference stands in the place of a rung: each of `reference` is trained once for each combination of the other
    values, after the rungs of that combination where those come one after another, or alone where no rung is given.
    """
    # here, not at the top: Hydra's search for plugins runs that module again, which would part it from its class
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
        raise UserError(f"hydra.sweeper.max_batch_size={batch_size}: must be a whole number from 1, or null")
    given = [f"{key}={value}" for key, value in params.items()]
    parse = OverridesParser.create(config_loader=loader).parse_overrides
    overrides = parse([*given, *arguments])
    given_names = [_each(o) for o in overrides if o.key_or_group == "reference"]
    names = given_names[-1] if given_names else []
    if not names:
        return BasicSweeper.split_arguments(overrides, batch_size)
    rungs = [o for o in overrides if o.key_or_group != "reference"]
    rest = [o for o in rungs if o.key_or_group not in _NETWORKS]
    place = min(i for i, o in enumerate(overrides) if o not in rest)
    beside = [*rest[:place], *parse([f"reference={','.join(dict.fromkeys(names))}"]), *rest[place:]]
    jobs = BasicSweeper.split_arguments(rungs, None)[0] if len(rungs) > len(rest) else []
    jobs = _merged(jobs, BasicSweeper.split_arguments(beside, None)[0])
    size = batch_size or len(jobs)
    return [jobs[i : i + size] for i in range(0, len(jobs), size)]


_NETWORKS = ("rung", "steps", "without")  # the keys that a reference stands in the place of


def _merged(rungs: list[list[str]], references: list[list[str]]) -> list[list[str]]:
    """The jobs of a study in order: whole combination by combination, where those of its rungs are together."""

    def others(job: list[str]) -> tuple[str, ...]:
        return tuple(o for o in job if o.partition("=")[0].lstrip("+") not in ("reference", *_NETWORKS))

    together = [(key, list(jobs)) for key, jobs in itertools.groupby(rungs, others)]
    if len({key for key, _ in together}) < len(together):
        return rungs + references
    after = {key: list(jobs) for key, jobs in itertools.groupby(references, others)}
    return [job for key, jobs in together for job in (*jobs, *after.pop(key))] if together else references


def _each(override: Override) -> list[str]:
    """The names in `reference=NAME`, `reference=A,B` and `reference=[A,B]`; none for null."""
    values = list(override.sweep_string_iterator()) if override.is_sweep_override() else [override.value()]
    flat = [name for value in values for name in (value if isinstance(value, list) else [value])]
    return [str(name) for name in flat if name is not None]


def runs_of(overrides: Sequence[str], config_dir: str | Path | None = None) -> list[Run]:
    """The runs that `ladder train -m [--config-dir DIR] OVERRIDES` would launch, each once. Starts and writes nothing.

    Raises UserError for overrides that can't be.
    """
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from ladder.paths import conf_dir
    from ladder.runs.hydra import explained, register_schema

    register_schema()
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise UserError(f"--config-dir {config_dir}: no such folder")
        overrides = [*overrides, f"hydra.searchpath=['file://{Path(config_dir).resolve()}']"]
    with explained(overrides), initialize_config_dir(str(conf_dir()), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        master = hydra.compose_config("train", list(overrides), run_mode=RunMode.MULTIRUN, with_log_configuration=False)
        loader: Any = hydra.config_loader
        arguments = OmegaConf.to_container(master.hydra.overrides.task)
        assert isinstance(arguments, list)
        runs: dict[Path, Run] = {}
        for config, given in studies(loader, master, arguments):
            composer = Composer(loader, config)
            params = config.hydra.sweeper.params or {}
            jobs = [job for batch in jobs_of(loader, composer, params, given)[0] for job in batch]
            mine = [composer.run(job) for job in jobs]
            same_runs(jobs, mine)
            runs |= {run.dir.path: run for run in mine}
        return list(runs.values())
