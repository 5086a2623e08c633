"""Owns Hydra's sweeper of this project: a grid of runs, every one of them checked before the first one starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from ladder.launch.compose import Composer


class StudySweeper(BasicSweeper):
    """Hydra's basic sweeper, which composes every config in full before it launches any and makes a folder before that.

    Here a mistake in any job is told before anything is written or started, and 1,000 jobs are checked in seconds.
    """

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Make the launcher; one that composes runs too shares our composer."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        loader: Any = hydra_context.config_loader
        self.composer = Composer(loader, config)
        launcher: Any = self.launcher
        if hasattr(launcher, "composer"):
            launcher.composer = self.composer

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Launch the grid of all values given. Raises UserError, or Hydra's errors, before anything starts."""
        assert self.hydra_context is not None and self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        given = [f"{key}={value}" for key, value in (self.params or {}).items()]
        batches = self.split_arguments(parser.parse_overrides([*given, *arguments]), self.max_batch_size)
        for batch in batches:
            for overrides in batch:
                self.composer.run(overrides)
        returns: list[Sequence[JobReturn]] = []
        launched = 0
        for batch in batches:
            returns.append(self.launcher.launch(batch, initial_job_idx=launched))
            launched += len(batch)
            for job in returns[-1]:
                _ = job.return_value  # raises where another launcher's job did
        return returns
