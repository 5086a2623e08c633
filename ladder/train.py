"""Owns the entry point `ladder train` (`python -m ladder.train`): one run, or a sweep of runs, from a Hydra config.

One run:    ladder train ladder=convnext_mini rung=gelu data=digits seed=0
A sweep:    ladder train -m ladder=convnext_mini 'rung=range(13)' seed=0,1,2
A study:    ladder train experiment=demo

A run that is done is skipped, one that was cut off goes on where it was. Exit codes: 0 done, 1 a run failed,
2 a mistake in what was asked, 75 stopped by a signal and resumable by the same command.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from ladder.common.streams import say
from ladder.errors import UserError, one_line, run_cli, tell
from ladder.paths import conf_dir
from ladder.runs.config import TrainConfig
from ladder.runs.execute import execute, prepare
from ladder.runs.hydra import check_experiments, explained, keys_of, register_schema
from ladder.runs.objective import RunFailed, answer, check_direction
from ladder.runs.outcome import NOT_STARTED, OUTCOMES, Outcome

_full_error = False  # whether the user wants tracebacks


def task(cfg: Any) -> Outcome | float:
    """Hydra's task function: prepare and execute one config. All trouble is an outcome: Hydra would add its lines.

    A sweeper that is not ours gets the final top-1 instead of the outcome; of a run that failed an exception.
    """
    from hydra.types import RunMode

    hydra, folder = _hydra(), None
    sweeps = hydra is not None and hydra.mode == RunMode.MULTIRUN
    if sweeps and any(outcome.state == "stopped" for outcome in OUTCOMES):  # a signal is for the whole sweep
        outcome = Outcome("stopped", "", NOT_STARTED)
    else:
        try:
            with explained(sys.argv[1:]):
                if sweeps:
                    check_direction(hydra.sweeper)
                _check_command()
                run = prepare(cfg)
                _tell(run)
            folder = run.dir
            outcome = execute(run)
        except Exception as error:
            refused = tell(error, _full_error) == 2
            outcome = Outcome("refused" if refused else "failed", "", one_line(error))
    OUTCOMES.append(outcome)
    return answer(hydra.sweeper, outcome, folder) if sweeps else outcome


def _hydra() -> Any:
    """Hydra's own config; None where it did not start this."""
    from hydra.core.hydra_config import HydraConfig

    return HydraConfig.get() if HydraConfig.initialized() else None


def _hydra_of_one_run() -> Any:
    """Hydra's own config, where it starts one run, here; None in a sweep."""
    from hydra.types import RunMode

    hydra = _hydra()
    return hydra if hydra and hydra.mode == RunMode.RUN else None


def _overrides(hydra: Any) -> list[str]:
    """What was typed, ${...} in it as it stands."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(hydra.overrides.task, resolve=False)  # type: ignore[return-value]


def _check_command() -> None:
    """Raise UserError where a launcher was asked for, and this is one run, which Hydra starts itself, here; or where
    two experiments were.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    hydra = _hydra_of_one_run()
    if hydra:
        check_experiments(OverridesParser.create().parse_overrides(_overrides(hydra)))
    launcher = hydra and hydra.runtime.choices.get("hydra/launcher")
    if launcher in ("slurm", "ray"):
        raise UserError(f"hydra/launcher={launcher} is for sweeps, also of one run: add -m, or this run trains here")


def _tell(run: Any) -> None:
    """Say what is to be known of this one run (the sweeper says it of a sweep)."""
    from ladder.runs.notes import by_default, notes

    hydra = _hydra_of_one_run()
    if hydra and os.environ.get("RANK", "0") == "0":
        for line in notes([(run, _overrides(hydra))]):
            say(f"note: {line}", error=True)
        if chosen := by_default(run, _overrides(hydra)):
            say(f"by default: {chosen}")


def main() -> int:
    """Run the command line; returns the exit code."""
    if "--help" in sys.argv or "-h" in sys.argv:
        print(help_text())
        return 0
    import hydra

    register_schema()
    if sys.version_info >= (3, 14):  # its argparse refuses the lazy help text of Hydra 1.3
        argparse.ArgumentParser._check_help = lambda self, action: None  # type: ignore[attr-defined]
    # Hydra would print its own errors, on many lines; told that the user wants tracebacks, it hands them over
    global _full_error
    before = os.environ.get("HYDRA_FULL_ERROR")
    _full_error = before == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        with explained(sys.argv[1:]):
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(task)()
    except RunFailed as failed:  # under a sweeper or launcher that is not ours
        if failed.outcome not in OUTCOMES:  # in another process
            tell(failed, _full_error)
        OUTCOMES.append(failed.outcome)
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before
    return max((o.exit_code for o in OUTCOMES), key=lambda code: (code == 1, code == 2, code), default=0)


def help_text() -> str:
    """What `ladder train --help` prints."""

    def names(group: str) -> str:
        return ", ".join(sorted(p.stem for p in (conf_dir() / group).glob("*.yaml"))) or "none"

    keys = "\n".join(
        f"  {group}.KEY  {', '.join(keys_of(TrainConfig, group))}"
        for group in ("recipe", "data", "engine", "wandb", "spec")
    )
    return f"""{__doc__}
Choices
  ladder=      {names("ladder")}
  rung=        a name or number of the ladder; without it the top, of a star the base; or 'steps=[...]', 'without=[...]'
  reference=   instead of a rung a model of timm; with -m a list, 'reference=[A,B]', beside the rungs
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
