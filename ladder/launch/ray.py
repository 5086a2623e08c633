"""Owns Hydra's launcher for Ray: fractions of GPUs, and clusters without Slurm."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ladder.common.streams import say
from ladder.errors import UserError, one_line
from ladder.launch.base import MakeLedger, StudyLauncher, plain
from ladder.launch.child import LOG, redirect
from ladder.launch.task import train
from ladder.launch.watch import Watch
from ladder.runs.outcome import NOT_STARTED, Outcome, StopFlag
from ladder.runs.resolve import Run


class RayLauncher(StudyLauncher):
    """`hydra/launcher=ray`. The parameters are described in `conf/hydra/launcher/ray.yaml`."""

    def __init__(
        self,
        address: str | None = None,
        num_cpus: float = 1,
        num_gpus: float | None = None,
        max_attempts: int = 2,
        heartbeat_limit: float | None = 1800.0,
        preload: Sequence[str] = (),
        init: Mapping[str, Any] | None = None,
        remote: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.address, self.num_cpus, self.num_gpus = address, num_cpus, num_gpus
        self.max_attempts, self.heartbeat_limit, self.preload = max_attempts, heartbeat_limit, tuple(preload)
        self.init, self.remote = plain(init), plain(remote)

    def check(self) -> None:
        """See `StudyLauncher.check`."""
        super().check()
        for name in ("num_cpus", "num_gpus"):
            value = getattr(self, name)
            least = "above 0" if name == "num_cpus" else "from 0, or null"
            fine = type(value) in (int, float) and (value > 0 or (value == 0 and name == "num_gpus"))
            if not fine and not (value is None and name == "num_gpus"):
                raise UserError(f"hydra.launcher.{name}={value}: must be a number {least}")
        for name in ("init", "remote"):
            if not isinstance(getattr(self, name), dict):
                raise UserError(f"hydra.launcher.{name}: must be a mapping of what Ray takes")
        if importlib.util.find_spec("ray") is None:
            raise UserError("hydra/launcher=ray needs Ray: pip install 'modernization-ladder[ray]'")

    def prepare(self, name: str, todo: Sequence[Run]) -> MakeLedger:
        """Start Ray, or join the cluster; see that it has what a run asks for."""
        say("joining Ray" if self.address else "starting Ray")
        tasks = Tasks(self.address, self.init, self.preload)
        try:
            options = self._options(todo, tasks.resources())
        except BaseException:
            tasks.close()
            raise
        return lambda view: Watch(tasks.with_options(options), view, self.max_attempts, self.heartbeat_limit)

    def _options(self, runs: Sequence[Run], resources: Mapping[str, float]) -> dict[str, Any]:
        """What a run asks Ray for. Raises UserError where the cluster does not have it, and it would wait for ever."""
        gpus = self.num_gpus
        if gpus is None:
            gpus = 0 if all(run.device == "cpu" for run in runs) else min(1, resources.get("GPU", 0))
        for name, key, wanted in (("num_cpus", "CPU", self.num_cpus), ("num_gpus", "GPU", gpus)):
            have = resources.get(key, 0)
            if wanted > have:
                raise UserError(f"hydra.launcher.{name}={wanted:g}: Ray has {have:g} {key}s in all")
        return {"num_cpus": self.num_cpus, "num_gpus": gpus, "max_retries": 0, **self.remote}


class Tasks:
    """Ray, as `ladder.launch.watch.Cluster`: a task is a run."""

    at_a_time = 10**9

    def __init__(self, address: str | None, init: Mapping[str, Any], preload: Sequence[str]) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        address = address or os.environ.get("RAY_ADDRESS") or None
        _check_address(address)
        self._ray: Any = ray
        self._preload = tuple(preload)
        self._sent: dict[Any, Run] = {}
        self._stops = 0
        quiet = {"include_dashboard": False} if address is None else {}
        # "local": without it Ray would join any cluster that was ever started on this machine, also a dead one
        options = {"address": address or "local", "log_to_driver": False, "logging_level": "ERROR", **quiet, **init}
        with _output_to(Path(os.devnull)):  # Ray reports on its start whatever one asks for, from C++ too
            try:
                ray.init(**options)
            except (ConnectionError, OSError, RuntimeError, TypeError, ValueError) as error:
                hint = "; on a node of the cluster address=auto finds it" if address not in (None, "auto") else ""
                raise UserError(f"hydra/launcher=ray, address={address}: {one_line(error)}{hint}") from None

    def resources(self) -> Mapping[str, float]:
        """What the cluster has in all: CPU, GPU and others."""
        found: Mapping[str, float] = self._ray.cluster_resources()
        return found

    def with_options(self, options: Mapping[str, Any]) -> Tasks:
        """Say what each run asks for. Raises UserError for options that Ray doesn't know."""
        try:
            self._train = self._ray.remote(_train).options(**options)
        except (TypeError, ValueError) as error:
            self.close()
            raise UserError(f"hydra.launcher.remote: {one_line(error)}") from None
        self._threads = max(1, int(options["num_cpus"]))
        return self

    def attach(self, runs: Sequence[Run]) -> list[Run]:
        """Ray's tasks end with the process that sent them."""
        return []

    def send(self, runs: Sequence[Run]) -> str:
        """See `Cluster.send`."""
        for run in runs:
            self._sent[self._train.remote(run, Path.cwd(), self._threads, self._preload)] = run
        return ""

    def ended(self) -> list[tuple[Run, Outcome]]:
        """See `Cluster.ended`."""
        if not self._sent:
            return []
        references = list(self._sent)
        over, _ = self._ray.wait(references, num_returns=len(references), timeout=0, fetch_local=False)
        return [(run, self._outcome(reference, run)) for reference in over for run in [self._sent.pop(reference)]]

    def _outcome(self, reference: Any, run: Run) -> Outcome:
        errors = self._ray.exceptions
        try:
            outcome: Outcome = self._ray.get(reference)
        except errors.TaskCancelledError:
            status = run.dir.read_status()
            return Outcome("stopped", run.label, "stopped" if status is not None else NOT_STARTED)
        except errors.RayError as error:
            if self._stops:
                return Outcome("stopped", run.label, "killed")
            cause = one_line(getattr(error, "cause", None) or error)
            return Outcome("failed", run.label, f"{type(error).__name__}: {cause}"[:300], again=True)
        return outcome

    def news(self) -> list[str]:
        """See `Cluster.news`."""
        return []

    def waits(self, run: Run) -> bool:
        """See `Cluster.waits`: Ray takes no task off its node."""
        return False

    def kill(self, run: Run) -> None:
        """See `Cluster.kill`."""
        for reference, sent in self._sent.items():
            if sent is run:
                self._ray.cancel(reference, force=True)

    def stop(self, times: int) -> bool:
        """Interrupt the runs as a Ctrl-C would, which makes them save; the second time kill them."""
        self._stops = times
        for reference in self._sent:
            self._ray.cancel(reference, force=times > 1)
        return True

    def close(self) -> None:
        """See `Cluster.close`."""
        self._ray.shutdown()


def _train(run: Run, folder: Path, threads: int, preload: Sequence[str]) -> Outcome:
    """What Ray's processes run."""
    stop = StopFlag()
    with stop.installed():
        try:
            os.chdir(folder)  # where the launcher was started
            run.dir.create()
        except (OSError, UserError) as error:
            return Outcome("failed", run.label, one_line(error))
        with _output_to(run.dir.path / LOG):
            return train(run, threads, preload, stop)


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Within the block, append all that this process prints to `path`. The next task may use the process again."""
    before = os.dup(1), os.dup(2)
    try:
        redirect(path)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for saved, number in zip(before, (1, 2), strict=True):
            os.dup2(saved, number)
            os.close(saved)


def _check_address(address: str | None) -> None:
    """Raise UserError where nobody listens at HOST:PORT: Ray itself would try for five minutes."""
    if found := re.fullmatch(r"(?:ray://)?(?P<host>[^:/]+|\[.+\]):(?P<port>\d{1,5})", address or ""):
        try:
            with socket.create_connection((found["host"].strip("[]"), int(found["port"])), timeout=10):
                pass
        except (OSError, OverflowError) as error:
            raise UserError(f"hydra/launcher=ray, address={address}: no Ray there: {one_line(error)}") from None
