"""Owns Hydra's launcher for Slurm: what a job asks for, and which runs go into which job array."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from ladder.errors import UserError
from ladder.launch.base import MakeLedger, StudyLauncher, check_whole, plain
from ladder.launch.slurm_queue import Queue
from ladder.launch.watch import Watch
from ladder.runs.resolve import Run

COMMANDS = ("sbatch", "srun", "squeue", "scontrol", "scancel")
TEXTS = ("partition", "account", "qos", "constraint")


class SlurmLauncher(StudyLauncher):
    """`hydra/launcher=slurm`. The parameters are described in `conf/hydra/launcher/slurm.yaml`."""

    def __init__(
        self,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        timeout_min: int = 1440,
        signal_delay_s: int = 120,
        nodes: int = 1,
        tasks_per_node: int = 1,
        gpus_per_node: int | None = None,
        cpus_per_task: int | None = None,
        mem_gb: float | None = None,
        array_parallelism: int = 256,
        array_size: int = 1000,
        setup: Sequence[str] = (),
        srun_args: Sequence[str] = (),
        additional_parameters: Mapping[str, Any] | None = None,
        max_attempts: int = 2,
        heartbeat_limit: float | None = 1800.0,
        preload: Sequence[str] = (),
        wait: bool = True,
        poll_s: float = 10.0,
    ) -> None:
        super().__init__()
        self.partition, self.account, self.qos, self.constraint = partition, account, qos, constraint
        self.timeout_min, self.signal_delay_s, self.mem_gb = timeout_min, signal_delay_s, mem_gb
        self.nodes, self.tasks_per_node = nodes, tasks_per_node
        self.gpus_per_node, self.cpus_per_task = gpus_per_node, cpus_per_task
        self.array_parallelism, self.array_size = array_parallelism, array_size
        self.setup_lines, self.srun_args, self.more = list(setup), list(srun_args), plain(additional_parameters)
        self.max_attempts, self.heartbeat_limit, self.preload = max_attempts, heartbeat_limit, tuple(preload)
        self.wait, self.poll_s = wait, poll_s

    def check(self) -> None:
        """See `StudyLauncher.check`."""
        super().check()
        for name in ("timeout_min", "nodes", "tasks_per_node", "array_parallelism", "array_size"):
            check_whole(name, getattr(self, name))
        for name in ("gpus_per_node", "signal_delay_s"):
            check_whole(name, getattr(self, name), least=0, or_null=name == "gpus_per_node")
        check_whole("cpus_per_task", self.cpus_per_task, or_null=True)
        for name in ("mem_gb", "poll_s"):
            value = getattr(self, name)
            if not (value is None and name == "mem_gb") and (type(value) not in (int, float) or value <= 0):
                raise UserError(f"hydra.launcher.{name}={value}: must be a number above 0")
        if not isinstance(self.more, dict):
            raise UserError("hydra.launcher.additional_parameters: must be a mapping, such as {exclude: node7}")
        if self.signal_delay_s >= 60 * self.timeout_min:
            raise UserError(
                f"hydra.launcher.signal_delay_s={self.signal_delay_s}: must be less than timeout_min={self.timeout_min}"
                " minutes, which it is a part of"
            )
        if importlib.util.find_spec("submitit") is None:
            raise UserError("hydra/launcher=slurm needs submitit: pip install 'modernization-ladder[slurm]'")
        if missing := [name for name in COMMANDS if shutil.which(name) is None]:
            raise UserError(
                f"hydra/launcher=slurm needs Slurm's {missing[0]}, which is not on PATH: launch where jobs of a cluster"
                " are submitted, or use hydra/launcher=local"
            )

    def prepare(self, name: str, todo: Sequence[Run]) -> MakeLedger:
        """Check that every run can be divided among its ranks. The data is on the nodes, maybe not here."""
        ranks = self.nodes * self.tasks_per_node
        for run in todo:
            if run.recipe.batch_size % (ranks * run.engine.accumulate):
                raise UserError(
                    f"recipe.batch_size={run.recipe.batch_size}: must be a multiple of"
                    f" {ranks * run.engine.accumulate} (hydra.launcher.nodes={self.nodes} x"
                    f" tasks_per_node={self.tasks_per_node} x engine.accumulate={run.engine.accumulate})"
                )
        queue = Queue(self.parameters(todo), self.timeout_min, self.array_size, self.preload, self.poll_s)
        return lambda view: Watch(queue, view, self.max_attempts, self.heartbeat_limit, self.wait)

    def parameters(self, runs: Sequence[Run]) -> dict[str, Any]:
        """What `submitit.AutoExecutor.update_parameters` is told of a job."""
        gpus = self.gpus_per_node
        if gpus is None:
            gpus = 0 if all(run.device == "cpu" for run in runs) else self.tasks_per_node
        cpus = self.cpus_per_task
        if cpus is None:  # the processes that load images, the one that trains, and W&B's
            loaders = max((run.data.workers if run.data.loader == "timm" else 0) for run in runs)
            cpus = max(loaders + 2, *(run.engine.threads or 1 for run in runs))
        # "kill": where one rank has died the others would wait for it until the time limit
        srun = ["--kill-on-bad-exit=1", f"--cpus-per-task={cpus}", *self.srun_args]
        given: dict[str, Any] = {
            "timeout_min": self.timeout_min,
            "nodes": self.nodes,
            "tasks_per_node": self.tasks_per_node,
            "cpus_per_task": cpus,
            "mem_gb": self.mem_gb,
            "gpus_per_node": gpus or None,
            "slurm_array_parallelism": self.array_parallelism,
            "slurm_signal_delay_s": self.signal_delay_s,
            "slurm_setup": self.setup_lines,
            "slurm_srun_args": srun,
            "slurm_additional_parameters": {"requeue": True, **self.more},
            **{f"slurm_{name}": getattr(self, name) for name in TEXTS},
        }
        return {key: value for key, value in given.items() if value is not None}
