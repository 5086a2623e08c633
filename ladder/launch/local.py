"""Owns Hydra's launcher for one machine: which runs there are to do, and which share of the machine each one gets."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from ladder import train
from ladder.errors import UserError
from ladder.launch import pool, study
from ladder.launch.child import Share
from ladder.launch.compose import Composer
from ladder.launch.view import View, summary
from ladder.resolve import Run
from ladder.train import Outcome

SOURCES = {"digits": "sklearn.datasets"}  # what a data source imports that takes seconds


class LocalLauncher(Launcher):
    """`hydra/launcher=local`. The parameters are described in `conf/hydra/launcher/local.yaml`."""

    def __init__(
        self,
        n_jobs: int | None = None,
        jobs_per_gpu: int = 1,
        gpus_per_job: int = 1,
        max_attempts: int = 2,
        heartbeat_limit: float | None = 1800.0,
        preload: Sequence[str] = (),
    ) -> None:
        self.n_jobs, self.jobs_per_gpu, self.gpus_per_job = n_jobs, jobs_per_gpu, gpus_per_job
        self.max_attempts, self.heartbeat_limit, self.preload = max_attempts, heartbeat_limit, list(preload)
        self.composer: Composer | None = None  # the sweeper's, which has composed all jobs already

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember what composes configs. The task function is always ours."""
        loader: Any = hydra_context.config_loader
        self.composer = Composer(loader, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """See every job's run done, or say why not. Raises UserError for a mistake, before anything starts."""
        assert self.composer is not None
        self._check()
        runs = [self.composer.run(overrides) for overrides in job_overrides]
        unique = {run.dir.path: run for run in runs}  # two ways to name one rung are one run
        for run in unique.values():
            run.dir.check_format()
        outcomes = self._launch(list(unique.values()))
        train.OUTCOMES.extend(outcomes.values())
        pairs = zip(job_overrides, runs, strict=True)
        return [_returned(overrides, outcomes[run.dir.path]) for overrides, run in pairs]

    def _launch(self, runs: list[Run]) -> dict[Path, Outcome]:
        folders: dict[Path, list[str]] = {}
        for run in runs:
            folders.setdefault(run.dir.path.parent, []).append(run.label)
        name = ", ".join(str(folder) for folder in folders)
        command = shlex.join(["python", "-m", "ladder.train", *sys.argv[1:]])
        outcomes = {run.dir.path: Outcome("skipped", run.label) for run in runs if run.dir.is_done}
        todo = [run for run in runs if run.dir.path not in outcomes]
        if todo:
            for folder in folders:
                study.check_writable(folder)
            shares = self._prepare(name, todo)
            for folder, labels in folders.items():
                study.remember(folder, command, labels)
            view = View(name, len(runs), len(outcomes))
            workers = pool.Pool(shares, view, self.max_attempts, self.heartbeat_limit)
            outcomes |= workers.run([pool.Job(run) for run in todo])
        outcomes = {run.dir.path: outcomes[run.dir.path] for run in runs}  # in the order of the sweep
        print(summary(name, outcomes, command), flush=True)
        return outcomes

    def _check(self) -> None:
        for name in ("n_jobs", "jobs_per_gpu", "max_attempts"):
            value = getattr(self, name)
            if not (value is None and name == "n_jobs") and (type(value) is not int or value < 1):
                raise UserError(f"hydra.launcher.{name}={value}: must be a whole number from 1")
        if self.gpus_per_job != 1:
            raise UserError(
                f"hydra.launcher.gpus_per_job={self.gpus_per_job}: allowed is 1; for a run on several GPUs use"
                " torchrun --nproc-per-node N -m ladder.train ..."
            )
        limit = self.heartbeat_limit
        if limit is not None and (type(limit) not in (int, float) or limit <= 0):
            raise UserError(f"hydra.launcher.heartbeat_limit={limit}: must be seconds above 0, or null")

    def _prepare(self, name: str, todo: Sequence[Run]) -> list[Share]:
        """Import, once, what runs need; open their data; divide the machine."""
        print(f"{name}: {len(todo)} runs to do; importing torch and opening the data", flush=True)
        late = {SOURCES[run.data.source] for run in todo if run.data.source in SOURCES}
        late |= {"wandb" for run in todo if run.wandb.mode != "disabled"}
        pool.start_server([*self.preload, *sorted(late)])
        data = {tuple(map(str, asdict(run.data).values())): run.data for run in todo}
        gpus = pool.survey(self.preload, list(data.values()))
        return self._shares(todo, visible_gpus(gpus))

    def _shares(self, runs: Sequence[Run], gpus: Sequence[str]) -> list[Share]:
        """The machine, divided among as many runs as go at a time."""
        cores = usable_cores()
        if all(run.device == "cpu" for run in runs):
            gpus = []
        if not gpus:
            threads = max((run.engine.threads or 1) for run in runs)
            count = self.n_jobs or max(1, min(cores // threads, len(runs)))
            return [Share(threads_each(cores, count))] * count
        places = len(gpus) * self.jobs_per_gpu
        if self.n_jobs is not None and self.n_jobs > places:
            raise UserError(
                f"hydra.launcher.n_jobs={self.n_jobs}: {len(gpus)} GPUs x jobs_per_gpu={self.jobs_per_gpu} hold"
                f" {places}; raise hydra.launcher.jobs_per_gpu to share GPUs"
            )
        count = min(self.n_jobs or places, len(runs))
        pinned = any(run.device.startswith("cuda:") for run in runs)  # by the user: then all see all
        threads = threads_each(cores, count)
        return [Share(threads, None if pinned else (gpus[i % len(gpus)],)) for i in range(count)]


def usable_cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def threads_each(cores: int, jobs: int) -> int:
    """CPU threads of each of `jobs` jobs: a share of the cores, at most OMP_NUM_THREADS where that is set."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores // jobs, int(limit) if limit.isdigit() else cores))


def visible_gpus(count: int) -> list[str]:
    """The `count` GPUs that torch finds as CUDA_VISIBLE_DEVICES names them: by the user's names where it is set."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in named.split(",")] if named else [str(i) for i in range(count)]
    return names[:count]


def _returned(overrides: Sequence[str], outcome: Outcome) -> JobReturn:
    returned = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
    returned.return_value = outcome
    return returned
