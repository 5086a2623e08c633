"""Small real runs for the tests: a network of some thousand parameters on 16 px digits, in this process or a child."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from ladder.paths import conf_dir
from ladder.runs.execute import execute, prepare
from ladder.runs.hydra import register_schema
from ladder.runs.outcome import Outcome
from ladder.runs.resolve import Run
from ladder.training import checkpoint

TINY = (
    "ladder=convnext_32",
    "data=digits",
    "data.image_size=16",
    "spec.depths=[1,1,1,1]",
    "spec.widths=[4,4,8,8]",
    "recipe.epochs=2",
    "wandb.mode=disabled",
    "device=cpu",
    "engine.threads=1",
)


def config(*overrides: str) -> DictConfig:
    """The composed config of `ladder train OVERRIDES`, the tiny settings below them."""
    register_schema()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", overrides=[*TINY, *overrides])


def run_of(runs_dir: Path, *overrides: str) -> Run:
    """A resolved tiny run."""
    return prepare(config(f"runs_dir={runs_dir}", *overrides))


def train(run: Run) -> Outcome:
    """Train in this process."""
    return execute(run)


def _child(run: Run, environment: dict[str, str], output: Path) -> None:
    os.setsid()
    sys.stdout = sys.stderr = output.open("a", buffering=1)
    os.environ.update(environment)
    torch.set_num_threads(1)
    os._exit(execute(run).exit_code)


def _free_port() -> int:
    """A port that nothing listens on, below those that Linux gives to any connection."""
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port := random.SystemRandom().randrange(12_000, 32_000)))
            return port


def start(run: Run, tmp_path: Path, ranks: int = 1) -> list[BaseProcess]:
    """Start a run in children (as torchrun would with several ranks), forked so that nothing is imported again."""
    context = multiprocessing.get_context("fork")
    port = _free_port()
    children = []
    for rank in range(ranks):
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
        environment = {**group, "RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {}
        child = context.Process(target=_child, args=(run, environment, tmp_path / "output.txt"))
        child.start()
        children.append(child)
    return children


def wait(children: Sequence[BaseProcess], seconds: float = 120) -> list[int | None]:
    """The exit codes, negative for a signal."""
    end = time.monotonic() + seconds
    for child in children:
        child.join(max(0.1, end - time.monotonic()))
    alive = [child for child in children if child.is_alive()]
    for child in alive:
        child.kill()
    assert not alive, "a run did not end in time"
    return [child.exitcode for child in children]


def kill(children: Sequence[BaseProcess], number: int = signal.SIGKILL) -> None:
    """Send a signal to those still alive."""
    for child in children:
        if child.is_alive() and child.pid is not None:
            os.kill(child.pid, number)


def wait_for(condition: Any, seconds: float = 60) -> None:
    """Poll until `condition()` is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def final_state(run: Run) -> dict[str, Any]:
    """The last checkpoint without what measures time or names the W&B run."""
    state = checkpoint.load(run.dir.checkpoints)
    assert state is not None
    for key in ("elapsed", "train_seconds", "wandb_id"):
        state.pop(key)
    for row in state["history"]:
        row.pop("images_per_s")
        row.pop("seconds")
    return state


def assert_equal(one: Any, other: Any, where: str = "state") -> None:
    """Deep equality at tolerance 0, NaN unequal to everything."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_equal(a, b, f"{where}[{index}]")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where
