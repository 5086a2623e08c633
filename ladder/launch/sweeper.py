"""Owns Hydra's sweeper of this project: a grid of runs, every one of them checked before the first one starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from ladder.errors import UserError
from ladder.launch.compose import Composer


class StudySweeper(Sweeper):
    """The grid of Hydra's basic sweeper, which composes every config in full, and makes a folder before that.

    Here a mistake in any job is told before anything is written or started, and 1,000 jobs are checked in seconds.
    """

    def __init__(self, max_batch_size: int | None = None, params: Mapping[str, Any] | None = None) -> None:
        self.max_batch_size, self.params = max_batch_size, dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Make the launcher; one that composes runs too shares our composer."""
        self.config, self.hydra_context = config, hydra_context
        launcher: Any = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        loader: Any = hydra_context.config_loader
        self.composer = Composer(loader, config)
        if hasattr(launcher, "composer"):
            launcher.composer = self.composer
        self.launcher = launcher

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Launch the grid of all values given. Raises UserError, or Hydra's errors, before anything starts."""
        # here, not at the top: Hydra's search for plugins runs that module again, which would part it from its class
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

        assert self.hydra_context is not None and self.launcher is not None
        size = self.max_batch_size
        if size is not None and (type(size) is not int or size < 1):
            raise UserError(f"hydra.sweeper.max_batch_size={size}: must be a whole number from 1, or null")
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        given = [f"{key}={value}" for key, value in self.params.items()]
        overrides = parser.parse_overrides([*given, *arguments])
        batches = BasicSweeper.split_arguments(overrides, size)
        for batch in batches:
            for job in batch:
                self.composer.run(job)
        returns: list[Sequence[JobReturn]] = []
        launched = 0
        for batch in batches:
            returns.append(self.launcher.launch(batch, initial_job_idx=launched))
            launched += len(batch)
            for returned in returns[-1]:
                _ = returned.return_value  # raises where another launcher's job did
        return returns
