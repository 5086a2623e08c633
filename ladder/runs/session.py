"""Owns the frame around a training: lock, log, status, result; every way in which a run can end is written down."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import ladder
from ladder.networks.cost import measure_cost
from ladder.data.augment import channels
from ladder.errors import UserError, one_line
from ladder.common.streams import say
from ladder.runs.heartbeat import Heartbeat
from ladder.training import checkpoint
from ladder.training.distributed import Ranks, device_name, join
from ladder.training.engine import Engine, Stopped
from ladder.networks.weights import FILE, save_model
from ladder.training.progress import close_log, open_log
from ladder.runs.resolve import Run
from ladder.runs.folder import RunDir, Status
from ladder.runs.study import noted_ladders, remember
from ladder.paths import write_atomic
from ladder.runs.outcome import Outcome

FREE, DONE, REFUSED = range(3)  # how rank 0 finds the folder


def train_run(run: Run, stop: Callable[[], bool]) -> Outcome:
    """Train `run` in its folder, from its checkpoint if there is one. See `ladder.runs.execute.execute`."""
    run.adopt()
    folder = run.dir
    folder.check()
    if folder.is_done:
        _say(f"skipped {folder.path}: done before")
        return Outcome("skipped", run.label)
    ranks = join(run.device)
    try:
        # a mistake in a run that has no folder yet is told before anything is written
        engine = None if folder.path.exists() else _try_build(run, ranks, stop)
        with contextlib.ExitStack() as held:
            found, status = _claim(run, folder, held) if ranks.is_main else (FREE, Status())
            found = ranks.max(found)  # all ranks go on, or none
            if isinstance(status, UserError):
                raise status
            if found != FREE:  # done by another process, while this one began; or rank 0 tells what is wrong
                return Outcome("refused" if found == REFUSED else "skipped", run.label)
            beat = Heartbeat(folder, status, active=ranks.is_main)
            try:
                return _train(run, folder, ranks, stop, engine, beat)
            finally:
                beat.end()
    finally:
        ranks.close()


def _claim(run: Run, folder: RunDir, held: contextlib.ExitStack) -> tuple[int, Status | UserError]:
    """Make the folder, hold it for as long as `held` lasts, and begin; how it is found, and what stands against it.

    Where it can't be written, a new one leaves nothing behind.
    """
    before = None
    try:
        folder.create()
        held.enter_context(folder.lock())
        if folder.is_done:
            return DONE, Status()
        before = folder.read_status()
        status = before or Status(ladder=run.ladder.name, rung=run.rung.name, seed=run.seed, begun=time.time())
        status.state, status.error, status.eta_s, status.images_per_s = "running", None, None, None
        status.tracking = status.evaluated = None
        status.attempts, status.started, status.progress, status.slowest = status.attempts + 1, time.time(), 0.0, 0.0
        status.begun = status.begun or status.started  # of before this was kept
        folder.remove_leftovers()
        write_atomic(folder.path / "config.yaml", _yaml(run.config))
        folder.write_status(status)  # now: where locks do not reach from host to host, this is what keeps others out
    except UserError as error:
        return REFUSED, error
    except OSError as error:
        if before is None:
            folder.discard()
        return REFUSED, folder.unwritable(error)
    return FREE, status


def _note_ladder(run: Run) -> None:
    """Keep the ladder in the study's folder, where no launcher has; without it tables know what the runs say of it."""
    study = run.dir.path.parent
    if noted_ladders(study).get(run.ladder.name) != run.ladder.values:
        with contextlib.suppress(UserError):
            remember(study, None, (), [run.ladder.values])


def _yaml(config: Mapping[str, Any]) -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(dict(config)))


def _try_build(run: Run, ranks: Ranks, stop: Callable[[], bool]) -> Engine | None:
    try:
        return Engine(run, ranks, stop)
    except UserError:
        raise
    except Exception:  # comes again where it is written down
        return None


def _train(
    run: Run, folder: RunDir, ranks: Ranks, stop: Callable[[], bool], engine: Engine | None, beat: Heartbeat
) -> Outcome:
    log = open_log(folder.path / "train.log" if ranks.is_main else Path(os.devnull), run.label)
    try:
        code = git_state()  # now: the code that is loaded, not what the checkout holds when training ends
        engine = engine or Engine(run, ranks, stop)
        _say(opening(run, engine))
        explain = functools.partial(_cause, run=run)
        result = engine.fit(beat, log, functools.partial(describe, run, engine, code, beat.status), explain)
        if ranks.is_main:
            about = {k: result[k] for k in ("ladder", "rung", "seed", "num_classes", "in_chans", "image_size")}
            about |= {"class_names": list(engine.data.info.class_names), "mean": run.data.mean, "std": run.data.std}
            about["evaluation"] = evaluation(run, engine)
            save_model(folder.path / FILE, engine.model, run.spec, about | {"top1": result["final"]["top1"]})
            _note_ladder(run)
            folder.write_result(result)
            log.info("done: top-1 %.2f after %d epochs", result["final"]["top1"], run.recipe.epochs)
            _end(folder, beat, "done", None)
            _say(f"done {folder.path}: top-1 {result['final']['top1']:.2f}")
            if beat.status.tracking:
                _say(f"note: {folder.path}: {beat.status.tracking}", error=True)
            for doubt in result["doubts"]:
                log.warning("doubtful: %s", doubt)
                _say(f"doubtful {folder.path}: {doubt}")
        return Outcome("done", run.label)
    except Stopped:
        by = getattr(stop, "signal", None) or "request"
        log.info("stopped by %s; saved", by)
        _end(folder, beat, "stopped", None)
        _say(f"stopped {folder.path} by {by}: saved; the same command goes on from there")
        return Outcome("stopped", run.label, f"stopped by {by}")
    except KeyboardInterrupt:
        _end(folder, beat, "stopped", None)
        raise
    except Exception as error:
        message = _cause(error, run)
        log.error("failed: %s\n%s", message, traceback.format_exc())
        recorded = _end(folder, beat, "failed", message)
        if ranks.is_main and not recorded and beat.status.attempts == 1 and not checkpoint.exists(folder.checkpoints):
            folder.discard()  # a full disk: else it would say for ever that it is running
        _say(f"failed {folder.path}: {message}", error=True)
        return Outcome("failed", run.label, message, again=not isinstance(error, UserError))
    finally:
        close_log(log)


def _say(text: str, error: bool = False) -> None:
    if int(os.environ.get("RANK", 0)) == 0:
        say(text, error)


def _end(folder: RunDir, beat: Heartbeat, state: str, error: str | None) -> bool:
    """Write how the run ended; False where that can't be written: the old status stays, and its dead pid tells."""
    beat.end()
    status = beat.status
    status.state, status.error, status.eta_s, status.evaluated = state, error, None, None
    if state == "done":
        status.epoch, status.step = status.epochs, status.steps
    try:
        beat.write(durable=True)
    except OSError as problem:
        if state != "failed":
            _say(f"can't write {folder.path}/status.json: {one_line(problem)}", error=True)
        return False
    return True


def _cause(error: Exception, run: Run) -> str:
    """What a person needs to know of an error, in one line."""
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"out of GPU memory with recipe.batch_size={run.recipe.batch_size}"
            f" engine.accumulate={run.engine.accumulate}: raise engine.accumulate (the result stays that of the batch,"
            " but for BatchNorm), set engine.checkpoint_activations=true or engine.precision=bf16"
        )
    if isinstance(error, OSError) and not isinstance(error, UserError):
        saved = "; the last checkpoint is whole" if checkpoint.exists(run.dir.checkpoints) else ""
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror or one_line(error)}{where}{saved}"
    return one_line(error) if isinstance(error, UserError) else f"{type(error).__name__}: {one_line(error)}"


def opening(run: Run, engine: Engine) -> str:
    """What is about to be trained, how, on what and where, in a line or two."""
    info, recipe, rung = engine.data.info, run.recipe, run.rung
    number = "" if rung.index is None else f" {rung.index}"
    epochs = f"{recipe.epochs} epoch{'s' * (recipe.epochs != 1)}"
    return (
        f"training {run.ladder.name}, rung{number} {rung.name}, seed {run.seed}; recipe {recipe.name}, {epochs}, batch"
        f" {recipe.batch_size}\n"
        f"  on {info.name}: {info.train_size:,} training images, {info.eval_size:,} of the {info.eval_split} split,"
        f" {run.data.image_size} px; {device_name(engine.device)}"
    )


def describe(run: Run, engine: Engine, code: tuple[str | None, bool | None], status: Status) -> dict[str, Any]:
    """What `result.json` says of a run besides its figures."""
    info, rung = engine.data.info, run.rung
    cost = measure_cost(engine.model, run.data.image_size, run.data.in_chans)
    cuda = engine.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(engine.device) if cuda else _peak_rss()
    commit, dirty = code
    return {
        "ladder": run.ladder.name,
        "kind": run.ladder.kind,
        "rung": rung.name,
        "rung_index": rung.index,
        "title": rung.title,
        "group": rung.group,
        "parent": rung.parent,
        "seed": run.seed,
        "data": info.name,
        "data_content": info.content,
        "eval_split": info.eval_split,
        "train_size": info.train_size,
        "eval_size": info.eval_size,
        "num_classes": info.num_classes,
        "image_size": run.data.image_size,
        "in_chans": info.in_chans,
        "recipe": run.recipe.name,
        "epochs": run.recipe.epochs,
        "batch_size": run.recipe.batch_size,
        "params": cost.params,
        "macs": cost.macs,
        "peak_memory_bytes": peak,
        "device": device_name(engine.device),
        "precision": run.engine.precision,
        "config_hash": run.config_hash,
        "group_hash": run.group_hash,
        "git_commit": commit,
        "git_dirty": dirty,
        "versions": versions(),
        "started": datetime.fromtimestamp(status.begun, UTC).isoformat(timespec="seconds"),  # its first attempt
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "attempts": status.attempts,
    }


def evaluation(run: Run, engine: Engine) -> dict[str, Any]:
    """How the run evaluated, in the words of timm's `pretrained_cfg`."""
    data, count = run.data, run.data.in_chans
    return {
        "input_size": (count, data.image_size, data.image_size),
        "mean": channels(data.mean, count),
        "std": channels(data.std, count),
        "crop_pct": engine.data.crop_pct,
        "interpolation": run.recipe.interpolation,
    }


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    import timm

    return {
        "ladder": ladder.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
    }


@functools.cache
def git_state() -> tuple[str | None, bool | None]:
    """Commit of the checkout that this code runs from, and whether it has changes; None outside a checkout of it.

    Cached: a launcher asks once, when it has imported the code that its runs are forked with.
    """
    root = Path(ladder.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None, None

    def git(*args: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _peak_rss() -> int:
    scale = 1 if sys.platform == "darwin" else 1024  # macOS gives bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
