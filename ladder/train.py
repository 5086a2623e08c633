"""Owns the entry point `python -m ladder.train`: one run, or a sweep of runs, from a Hydra config.

One run:    python -m ladder.train ladder=convnext_32 rung=gelu data=digits seed=0
A sweep:    python -m ladder.train -m ladder=convnext_32 'rung=range(13)' seed=0,1,2
A study:    python -m ladder.train experiment=demo

A run that is done is skipped, one that was cut off goes on where it was. Exit codes: 0 done, 1 a run failed,
2 a mistake in what was asked, 75 stopped by a signal and resumable by the same command.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from ladder._timm_hook import without_wandb
from ladder.errors import UserError, one_line, run_cli, unknown

STOPPED = 75  # exit code; EX_TEMPFAIL: try again later


@dataclass(frozen=True)
class Outcome:
    """How a run ended: done, skipped (was done before), stopped (resumable), failed, or refused (a mistake in it)."""

    state: str
    label: str
    error: str | None = None
    again: bool = False  # a failure that another attempt may survive (a NaN or a mistake would only come again)

    @property
    def exit_code(self) -> int:
        """The process's exit code for this outcome."""
        return {"failed": 1, "refused": 2, "stopped": STOPPED}.get(self.state, 0)


OUTCOMES: list[Outcome] = []  # of the runs that this process answers for; launchers add those of their children


class StopFlag:
    """Set by SIGTERM, SIGUSR1, Ctrl-C or `more` signals: save and stop. A second Ctrl-C stops at once."""

    def __init__(self, *more: signal.Signals) -> None:
        self.signal: str | None = None
        self._numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, *more)

    def __call__(self) -> bool:
        return self.signal is not None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number).name

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Listen to the signals within the block (in the main thread; elsewhere do nothing)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {n: signal.signal(n, self._handle) for n in self._numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def prepare(cfg: Any) -> Any:
    """The run that a composed config describes. Raises UserError."""
    with without_wandb():
        from ladder.resolve import resolve

        return resolve(cfg)


def execute(run: Any) -> Outcome:
    """Train a run, resuming it where it was cut off; its folder tells the story. A failed run is an outcome.

    Raises UserError only where the folder can't be used at all (unwritable, another process in it, another format).
    """
    with without_wandb():
        from ladder.session import train_run

    stop = StopFlag()
    with stop.installed():
        return train_run(run, stop)


def task(cfg: Any) -> Outcome:
    """Hydra's task function: prepare and execute one config. A mistake is an outcome: Hydra would add its lines."""
    try:
        _check_launcher()
        run = prepare(cfg)
        _tell_unheeded(run)
        outcome = execute(run)
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        outcome = Outcome("refused", "", one_line(error))
    OUTCOMES.append(outcome)
    return outcome


def _hydra_of_one_run() -> Any:
    """Hydra's own config, where it starts one run, here; None in a sweep."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    return hydra if hydra and hydra.mode == RunMode.RUN else None


def _check_launcher() -> None:
    """Raise UserError where a launcher was asked for, and this is one run, which Hydra starts itself, here."""
    hydra = _hydra_of_one_run()
    launcher = hydra and hydra.runtime.choices.get("hydra/launcher")
    if launcher in ("slurm", "ray"):
        raise UserError(f"hydra/launcher={launcher} is for sweeps, also of one run: add -m, or this run trains here")


def _tell_unheeded(run: Any) -> None:
    """Say which recipe keys of the command line have no effect on this one run (the sweeper says so of a sweep)."""
    from ladder.resolve import unheeded

    hydra = _hydra_of_one_run()
    if hydra and os.environ.get("RANK", "0") == "0":
        for line in unheeded(run, hydra.overrides.task):
            print(f"note: {line}", file=sys.stderr)


def register_schema() -> None:
    """Tell Hydra the types of our keys."""
    from hydra.core.config_store import ConfigStore

    from ladder.config import TrainConfig

    ConfigStore.instance().store(name="schema", node=TrainConfig)


def explain(error: Exception) -> UserError:
    """Hydra's and OmegaConf's many-line errors as one line of ours, the allowed names in it."""
    from ladder.config import TrainConfig

    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None:
        if isinstance(cause, UserError):
            return cause
        chain.append(cause)
    text = "\n".join(str(e) for e in chain)
    if missing := re.search(
        r"(?:Could not find|Cannot find primary config|In '[^']*': Could not find) '([^']+)'", text
    ):
        group, _, name = missing[1].rpartition("/")
        options = re.findall(r"^\t(?!provider=)(\S+)", text, re.M)  # the search path is listed alike
        return unknown(group or "config", name, options)
    if key := re.search(r"Key '([^']+)' (?:is )?not in", text):
        full = re.search(r"full_key: (\S+)", text)
        parent = full[1].rpartition(".")[0] if full else ""
        allowed = _launcher_keys() if parent == "hydra.launcher" else _keys_of(TrainConfig, parent)
        return unknown(f"config key{f' of {parent}' if parent else ''}", key[1], allowed)
    if group_error := re.search(r"Could not override '([^']+)'", text):
        return unknown("config group", group_error[1], ["ladder", "recipe", "data", "experiment"])
    if value := re.search(r"Value '([^']*)'.*?(?:could not be converted to|is not a valid) (\w+)", text, re.S):
        full = re.search(r"full_key: (\S+)", text)
        return UserError(f"{full[1] if full else 'config'}={value[1]}: must be of type {value[2]}")
    return UserError(one_line(error))


def _launcher_keys() -> list[str]:
    import yaml

    from ladder.paths import conf_dir

    asked = [text.partition("=")[2] for text in sys.argv if text.startswith("hydra/launcher=")]
    path = conf_dir() / "hydra" / "launcher" / f"{(asked or ['local'])[-1]}.yaml"
    return [key for key in yaml.safe_load(path.read_text()) if key != "_target_"] if path.is_file() else []


def _keys_of(schema: type, dotted: str) -> list[str]:
    import typing

    kind: Any = schema
    for part in filter(None, dotted.split(".")):
        kind = typing.get_type_hints(kind).get(part)
        if not hasattr(kind, "__dataclass_fields__"):
            return []
    return list(kind.__dataclass_fields__)


def main() -> int:
    """Run the command line; returns the exit code."""
    if "--help" in sys.argv or "-h" in sys.argv:
        print(_help())
        return 0
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from ladder.paths import conf_dir

    register_schema()
    if sys.version_info >= (3, 14):  # its argparse refuses the lazy help text of Hydra 1.3
        argparse.ArgumentParser._check_help = lambda self, action: None  # type: ignore[attr-defined]
    # Hydra would print its own errors, on many lines; told that the user wants tracebacks, it hands them over
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(task)()
    except (HydraException, OmegaConfBaseException) as error:
        if wants_traceback:
            raise
        raise explain(error) from error
    return max((o.exit_code for o in OUTCOMES), key=lambda code: (code == 1, code == 2, code), default=0)


def _help() -> str:
    from ladder.config import TrainConfig
    from ladder.paths import conf_dir

    def names(group: str) -> str:
        return ", ".join(sorted(p.stem for p in (conf_dir() / group).glob("*.yaml"))) or "none"

    keys = "\n".join(
        f"  {group}.KEY  {', '.join(_keys_of(TrainConfig, group))}"
        for group in ("recipe", "data", "engine", "wandb", "spec")
    )
    return f"""{__doc__}
Choices
  ladder=      {names("ladder")}
  rung=        a name or number of the ladder; without it the top, of a star the base (or steps=[...] / without=[...])
  reference=   instead of a rung a model of timm; with -m a list, [swin_tiny_patch4_window7_224,...], beside the rungs
  recipe=      {names("recipe")}
  data=        {names("data")}
  experiment=  {names("experiment")}
Keys
  seed, study, runs_dir, device (auto, cpu, cuda, cuda:N), weights (a run folder or model.safetensors to start from)
{keys}
Hydra's own flags (-m, --cfg job, --config-dir DIR, ...): see `--hydra-help`."""


if __name__ == "__main__":
    # under its real name: what children and pickles refer to is not __main__
    from ladder.train import main as real_main

    run_cli(real_main)
