"""Owns the checks of sweeps under sweepers and launchers that are not ours: Optuna, joblib, Hydra's basic ones."""

from __future__ import annotations

import importlib.util
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.plugins import Plugins
from tiny import TINY

from ladder import train
from ladder.errors import run_cli
from ladder.runs.objective import RunFailed, answer, check_direction
from ladder.runs.outcome import OUTCOMES, Outcome

Command = Callable[..., tuple[int, str, str]]
FAILS = ("recipe.lr=1e30", "recipe.warmup_epochs=0")
OPTUNA = ("hydra/sweeper=optuna", "hydra/launcher=basic", "hydra.sweeper.n_jobs=1", "recipe.epochs=1")
needs_optuna = pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_optuna_sweeper") is None, reason="needs the extra `optuna`"
)
needs_joblib = pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher") is None, reason="needs hydra-joblib-launcher"
)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs `ladder train -m ARGUMENTS` in this process, in an empty folder: exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        OUTCOMES.clear()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["ladder.train", "-m", *TINY, *arguments])
        with pytest.raises(SystemExit) as ended:
            run_cli(train.main)
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


@pytest.fixture
def basic_launcher() -> Any:
    """The class of it that Hydra instantiates."""
    return Plugins.instance().class_name_to_class["hydra._internal.core_plugins.basic_launcher.BasicLauncher"]


def results(folder: Path) -> list[float]:
    return [json.loads(path.read_text())["final"]["top1"] for path in folder.glob("runs/*/*/result.json")]


@pytest.mark.parametrize("sweeper", ["study", "basic"])
def test_what_fails_elsewhere_fails_the_sweep(
    command: Command, basic_launcher: Any, monkeypatch: pytest.MonkeyPatch, sweeper: str
) -> None:
    launch = basic_launcher.launch

    def elsewhere(self: Any, *given: Any, **named: Any) -> Any:
        """As other processes: what they return comes back, and nothing else."""
        returned = launch(self, *given, **named)
        OUTCOMES.clear()
        return returned

    monkeypatch.setattr(basic_launcher, "launch", elsewhere)
    code, out, err = command("hydra/launcher=basic", f"hydra/sweeper={sweeper}", "rung=0,1", *FAILS)
    assert code == 1 and "not finite" in err
    if sweeper == "study":
        assert "runs/default: 2 failed" in out and "log: runs/default/resnet-s0-" in out


@needs_joblib
@pytest.mark.slow
def test_joblib_with_several_workers(command: Command, tmp_path: Path) -> None:
    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "recipe.epochs=1")
    code, out, _ = command(*joblib, "rung=0,1", *FAILS)
    assert code == 1 and "runs/default: 2 failed" in out
    code, out, _ = command(*joblib, "rung=0,1")
    assert code == 0 and "runs/default: 2 done" in out
    assert len(results(tmp_path)) == 2


def test_a_launcher_that_raises_is_a_failed_sweep(
    command: Command, basic_launcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class TerminatedWorkerError(Exception):
        """As joblib's, of a worker that was killed."""

    def die(*_: object, **__: object) -> None:
        raise TerminatedWorkerError("a worker was killed\nby the system")

    monkeypatch.setattr(basic_launcher, "launch", die)
    code, _, err = command("hydra/launcher=basic", "rung=0,1")
    assert (code, err) == (1, "error: the launcher: TerminatedWorkerError: a worker was killed by the system\n")


def test_a_signal_stops_the_sweep_not_only_one_run_of_it(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def stopped(run: Any) -> Outcome:
        ran.append(run.label)
        return Outcome("stopped", run.label, "stopped by SIGTERM")

    monkeypatch.setattr(train, "execute", stopped)
    assert command("hydra/launcher=basic", "rung=0,1,2")[0] == 75
    assert len(ran) == 1


@needs_optuna
def test_optuna_gets_the_final_top1(command: Command, tmp_path: Path) -> None:
    search = (*OPTUNA, "hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=2", "recipe.lr=interval(1e-3,1e-2)")
    code, out, err = command(*search, "hydra.sweeper.sampler.seed=1")
    assert (code, out.count("done ")) == (0, 2), err
    best = yaml.safe_load((tmp_path / "runs/default/optimization_results.yaml").read_text())
    assert best["best_value"] == max(results(tmp_path)) and len(results(tmp_path)) == 2
    code, out, _ = command(*search, "hydra.sweeper.sampler.seed=1")
    assert (code, out.count("done before")) == (0, 2), "the same search finds its runs"


@needs_optuna
def test_a_trial_that_fails_fails_the_search(command: Command) -> None:
    maximize = ("hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=2")
    code, _, err = command(*OPTUNA, *maximize, "recipe.lr=interval(1e29,1e30)", "recipe.warmup_epochs=0")
    assert code == 1 and "not finite" in err and "Traceback" not in err and "bug" not in err


@needs_optuna
def test_optuna_is_not_asked_for_the_worst_network(command: Command, tmp_path: Path) -> None:
    code, _, err = command(*OPTUNA, "hydra.sweeper.n_trials=1", "recipe.lr=interval(1e-3,1e-2)")
    assert code == 2 and "give hydra.sweeper.direction=maximize" in err
    assert not results(tmp_path)


def test_what_sweepers_get() -> None:
    outcome = Outcome("failed", "gelu-s0-0123abcd", "a cause")
    assert answer({"_target_": "hydra_plugins.ladder_launchers.StudySweeper"}, outcome, None) is outcome
    with pytest.raises(RunFailed, match="gelu-s0-0123abcd: a cause") as raised:
        answer({"_target_": "some.AxSweeper"}, outcome, None)
    assert pickle.loads(pickle.dumps(raised.value)).outcome == outcome  # noqa: S301
    check_direction({"_target_": "some.Sweeper"})
    check_direction({"_target_": "some.OptunaSweeper", "direction": "maximize"})


@pytest.mark.parametrize(
    "values", ["rung=glob(*)", "rung=range(3,0)", "seed=range(0)", "recipe=glob(nothing*)", "experiment=glob(x*)"]
)
def test_a_sweep_over_nothing_is_a_mistake(command: Command, tmp_path: Path, values: str) -> None:
    code, out, err = command("seed=0,1", values)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"{values}: stands for no value" in err
    assert not (tmp_path / "runs").exists()
