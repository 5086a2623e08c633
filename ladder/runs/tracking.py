"""Owns Weights & Biases: one W&B run for each run folder, written from a thread, so that it never slows training."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ladder.errors import one_line
from ladder.runs.resolve import Run
from ladder.paths import write_atomic

INIT_TIMEOUT = 30.0  # seconds to reach the server before going on offline
FINISH_TIMEOUT = 60.0  # seconds to hand over what is left at the end


def new_id() -> str:
    """A W&B run id; kept in the checkpoint, so that a resumed run goes on as the same W&B run."""
    return uuid.uuid4().hex[:8]


def kept_id(folder: Path, run_id: str) -> str:
    """The W&B run id of a run folder; `run_id` where it has none yet, which is its own from now on.

    A run that ended before its first checkpoint, and is tried again, is thus one W&B run too.
    """
    path = folder / "wandb" / "run-id"
    with contextlib.suppress(OSError):
        if not path.is_symlink() and (kept := path.read_text().strip()):  # else what a link leads to went to W&B
            return kept
    with contextlib.suppress(OSError):  # a full disk ends the tracking, not the training
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, run_id, follow=False)
    return run_id


_FINAL = ("top1", "top5", "eval_loss", "train_loss", "ema_top1")
_BEST = ("top1", "epoch")
_FIGURES = ("params", "macs", "images_per_s", "wall_s")


def summary_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """The summary of a W&B run from `result.json`: each figure once and by itself, all else under `result`."""
    out = {f"final/{k}": result["final"].get(k) for k in _FINAL} | {f"best/{k}": result["best"].get(k) for k in _BEST}
    out |= {k: result.get(k) for k in _FIGURES}
    rest = {k: v for k, v in result.items() if k not in ("final", "best", *_FIGURES)}
    return {k: v for k, v in out.items() if v is not None} | {"result": rest}


def result_of(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """`result.json` from a W&B run's summary, also as earlier versions logged it; None where it holds none."""
    rest = summary.get("result")
    if not isinstance(rest, Mapping):
        return None
    if "final" in rest:
        return dict(rest)
    if summary.get("final/top1") is None:
        return None
    final, best = ({k: summary.get(f"{part}/{k}") for k in keys} for part, keys in (("final", _FINAL), ("best", _BEST)))
    figures = {k: summary[k] for k in _FIGURES if k in summary}
    return {**rest, **figures, "final": final, "best": best}


class Tracker:
    """Hands rows to W&B; does nothing where `wandb.mode` is disabled (W&B is not even imported then).

    Whatever goes wrong with W&B is said once through `warn` and ends the tracking, never the training.
    """

    def __init__(self, run: Run, run_id: str, warn: Callable[[str], None], attempts: int = 1) -> None:
        self._run, self._warn, self._attempts = run, warn, attempts
        self._queue: queue.SimpleQueue[Callable[[Any], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if run.wandb.mode != "disabled":
            self._id = kept_id(run.dir.path, run_id)
            self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
            self._thread.start()

    def log(self, row: Mapping[str, Any]) -> None:
        """One epoch's metrics; `epoch` is the x axis of every chart."""
        values = {k: v for k, v in row.items() if v is not None}
        self._queue.put(lambda handle: handle.log(values))

    def finish(self, exit_code: int, summary: Mapping[str, Any] | None = None, timeout: float = FINISH_TIMEOUT) -> None:
        """Close the W&B run, waiting `timeout` seconds at most; exit code 0 marks it finished, any other failed.

        `summary` replaces what is there; of it, `state`, `error` and `result` are what `analysis` reads.
        """
        if self._thread is None:
            return
        values = dict(summary or {})

        def close(handle: Any) -> None:
            handle.summary.update(values)
            handle.finish(exit_code=exit_code)

        self._queue.put(close)
        self._queue.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._warn(f"W&B did not finish within {timeout:.0f} s: left behind; sync it later with `wandb sync`")
        self._thread = None

    def _work(self) -> None:
        try:
            handle = self._start()
            while (job := self._queue.get()) is not None:
                job(handle)
        except Exception as error:  # W&B's own errors have no common base
            self._warn(f"W&B tracking ended: {one_line(error)}; training goes on, metrics.csv is complete")

    def _start(self) -> Any:
        import wandb

        run = self._run
        mode = run.wandb.mode
        if text := os.environ.get("WANDB_TAGS"):  # W&B refuses a comma at the end
            os.environ["WANDB_TAGS"] = ",".join(tag for part in text.split(",") if (tag := part.strip()))
        options: dict[str, Any] = {
            "project": run.wandb.project,
            "entity": run.wandb.entity,
            "group": run.wandb.group or run.study,
            "job_type": "train",
            "name": f"{run.rung.name}-s{run.seed}",
            "tags": list(dict.fromkeys([run.ladder.name, run.rung.name[:64], run.data.name[:64], *run.wandb.tags])),
            "config": {**run.config, "run": run.label, "config_hash": run.config_hash, "group_hash": run.group_hash},
            "dir": run.wandb.dir or str(run.dir.path),
            "id": self._id,
            "resume": "allow",
            "reinit": "create_new",
            "settings": quiet_settings(),
        }
        if mode == "online":
            try:
                if not has_login():
                    raise RuntimeError("not logged in; run `wandb login`")
                handle = wandb.init(mode="online", **options)
            except Exception as error:
                self._warn(f"W&B is not reached ({one_line(error)}): going on offline; sync later with `wandb sync`")
                mode = "offline"
        if mode == "offline":
            options.pop("resume")  # offline runs can't be resumed; `wandb sync` joins the segments of one id
            handle = wandb.init(mode="offline", **options)
        handle.define_metric("epoch")
        handle.define_metric("*", step_metric="epoch")
        handle.summary.update({"attempts": self._attempts, "state": "running", "error": None})
        return handle


def quiet_settings() -> Any:
    """W&B's settings of a run of ours: it prints nothing; console, code and machine are not captured.

    Metrics and config are what we promise, and nothing secret leaks.
    """
    import wandb

    return wandb.Settings(
        init_timeout=INIT_TIMEOUT,
        console="off",
        silent=True,
        disable_code=True,
        disable_git=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )


def has_login() -> bool:
    """True where W&B finds a key without asking for one at the terminal."""
    import wandb

    with contextlib.suppress(Exception):
        return bool(wandb.Api(timeout=10).api_key)
    return False
