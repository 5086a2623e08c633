"""Owns Hydra's launcher for one machine: which part of the machine each run gets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict

from ladder.common.streams import say
from ladder.errors import UserError
from ladder.launch import pool
from ladder.launch.base import MakeLedger, StudyLauncher, check_whole
from ladder.launch.child import Slot
from ladder.runs.resolve import Run


class LocalLauncher(StudyLauncher):
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
        super().__init__()
        self.n_jobs, self.jobs_per_gpu, self.gpus_per_job = n_jobs, jobs_per_gpu, gpus_per_job
        self.max_attempts, self.heartbeat_limit, self.preload = max_attempts, heartbeat_limit, list(preload)

    def check(self) -> None:
        """See `StudyLauncher.check`."""
        super().check()
        check_whole("n_jobs", self.n_jobs, or_null=True)
        check_whole("jobs_per_gpu", self.jobs_per_gpu)
        if self.gpus_per_job != 1:
            raise UserError(
                f"hydra.launcher.gpus_per_job={self.gpus_per_job}: allowed is 1; for a run on several GPUs use"
                " torchrun --nproc-per-node N -m ladder.train ..., or hydra/launcher=slurm"
            )

    def prepare(self, name: str, todo: Sequence[Run]) -> MakeLedger:
        """Import, once, what runs need; open their data; divide the machine."""
        say("importing torch and opening the data")
        tracked = any(run.wandb.mode != "disabled" for run in todo)
        late = ["wandb", "wandb.sdk.launch"] if tracked else []  # the latter by wandb.init, in a second or two
        pool.start_server([*self.preload, *late])
        data = {tuple(map(str, asdict(run.data).values())): run.data for run in todo}
        gpus = pool.survey(self.preload, list(data.values()))
        slots = self._slots(todo, visible_gpus(gpus))
        places = sorted({gpu for slot in slots for gpu in slot.gpus or ()})
        where = f"GPU {', '.join(places)}" if places else "the CPU"
        say(f"{len(slots)} at a time on {where}, threads for each: {slots[0].threads}")
        return lambda view: pool.Pool(slots, view, self.max_attempts, self.heartbeat_limit)

    def _slots(self, runs: Sequence[Run], gpus: Sequence[str]) -> list[Slot]:
        """The machine, divided among as many runs as go at a time."""
        cores = usable_cores()
        if all(run.device == "cpu" for run in runs):
            gpus = []
        if not gpus:
            threads = max((run.engine.threads or 1) for run in runs)
            count = self.n_jobs or max(1, min(cores // threads, len(runs)))
            return [Slot(threads_each(cores, count))] * count
        places = len(gpus) * self.jobs_per_gpu
        if self.n_jobs is not None and self.n_jobs > places:
            raise UserError(
                f"hydra.launcher.n_jobs={self.n_jobs}: {len(gpus)} GPUs x jobs_per_gpu={self.jobs_per_gpu} hold"
                f" {places}; raise hydra.launcher.jobs_per_gpu to share GPUs"
            )
        count = min(self.n_jobs or places, len(runs))
        pinned = any(run.device.startswith("cuda:") for run in runs)  # by the user: then all see all
        threads = threads_each(cores, count)
        return [Slot(threads, None if pinned else (gpus[i % len(gpus)],)) for i in range(count)]


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
