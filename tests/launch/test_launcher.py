"""Owns what a launcher says and decides before and without training: mistakes, what is done, who gets what."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from sweeps import TINY, Sweep

from ladder.errors import UserError
from ladder.launch import child, local, pool
from ladder.launch.local import LocalLauncher
from ladder.launch.sweeper import StudySweeper
from ladder.paths import write_atomic
from ladder.runs import study
from ladder.runs.records import Unreadable


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test fail where a launcher starts a process."""

    def refuse(*_: object) -> None:
        raise AssertionError("a process is started")

    monkeypatch.setattr(pool, "start_server", refuse)


@pytest.mark.usefixtures("nothing_starts")
def test_a_thousand_done_runs_are_skipped(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    compositions = []
    compose = ConfigLoaderImpl.load_sweep_config
    monkeypatch.setattr(
        ConfigLoaderImpl, "load_sweep_config", lambda *args: compositions.append(args) or compose(*args)
    )
    pretend_all_done(monkeypatch)
    done = sweep.run("rung=range(10)", "seed=range(100)", "hydra.launcher.preload=[]")
    assert done.code == 0
    assert "1000 skipped" in done.out
    assert len(compositions) == 1


def pretend_all_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a result for each run of the sweep, just before it is launched."""
    launch = LocalLauncher.launch

    def after_writing(self: LocalLauncher, job_overrides: Any, initial_job_idx: int) -> Any:
        assert self.composer is not None
        for overrides in job_overrides:
            folder = self.composer.run(overrides).dir.path
            folder.mkdir(parents=True)
            (folder / "result.json").write_text('{"format": 1}')
        return launch(self, job_overrides, initial_job_idx)

    monkeypatch.setattr(LocalLauncher, "launch", after_writing)


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["rung=0,99"], "rung 99 of convnext_32: allowed are 0 to 12"),
        (["seed=0,-1"], "seed=-1"),
        (["rung=gelu,gleu"], "did you mean gelu"),
        (["recipe=digits,nope"], "unknown recipe 'nope'"),
        (["recipe.lr=1e-3,x"], "recipe.lr"),
        (["data.loader=memory,mem"], "unknown data.loader 'mem'"),
        (["data.fraction=0.5,2"], "data.fraction=2"),
        (["hydra.launcher.n_jobs=0"], "hydra.launcher.n_jobs=0: must be a whole number from 1"),
        (["hydra.launcher.heartbeat_limit=-1"], "hydra.launcher.heartbeat_limit=-1"),
        (["hydra.launcher.gpus_per_job=2"], "torchrun"),
        (["device=cpu,cuda", "rung=0,1"], "device=cpu,cuda: all of these are one run, such as resnet-s0-"),
        (["engine.threads=1,2"], "engine.threads=1,2: all of these are one run"),
        (["spec.drop_path=0,0.0"], "spec.drop_path=0,0.0: all of these are one run"),
        (["+recipe.weight_decy=0.1,0.2"], "did you mean weight_decay"),
        (["experiment=[demo,convmixer_patches]"], "-m experiment=demo,convmixer_patches runs each in turn"),
        (["experiment=demo,dmeo"], "unknown experiment 'dmeo'; did you mean demo"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(sweep: Sweep, overrides: list[str], words: str) -> None:
    with pytest.raises(UserError) as caught:
        sweep.run(*overrides)
    assert words in str(caught.value)
    assert not sweep.study.exists()


def test_a_recipe_key_that_a_step_sets_itself_is_told(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_all_done(monkeypatch)
    monkeypatch.setattr("sweeps.TINY", tuple(text for text in TINY if not text.startswith("spec.")))
    options = ("ladder=convmixer_cifar10", "recipe.clip_grad=2", "seed=0,1", "hydra.launcher.preload=[]")
    assert sweep.run(*options, "rung=kernel_3,no_clipping").code == 0
    told = "recipe.clip_grad: rung no_clipping of convmixer_cifar10 sets it to null itself, and that is what it gets"
    assert capsys.readouterr().err == f"note: {told}\n"


@pytest.mark.usefixtures("nothing_starts")
def test_an_unwritable_place_is_told_in_one_line(sweep: Sweep) -> None:
    sweep.root.mkdir()
    (sweep.root / "runs").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="can't write the study folder"):
        sweep.run("rung=0,1")


@pytest.mark.usefixtures("nothing_starts")
def test_a_folder_of_another_format_is_told_before_anything_starts(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_all_done(monkeypatch)
    assert sweep.run("rung=0,1").code == 0
    result = next(sweep.study.glob("resnet-*/result.json"))
    write_atomic(result, json.dumps({"format": 99}))
    monkeypatch.undo()
    with pytest.raises(UserError, match="format 99"):
        sweep.run("rung=0,1")


def test_two_names_of_one_rung_are_one_run(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = pretend_to_run(monkeypatch)
    done = sweep.run("rung=12,separate_downsampling,11")
    assert done.code == 0 and len(ran) == 2
    assert study.planned(sweep.study) == ran
    assert f"3 jobs are 2 runs, each trained once: more than one job is {ran[0]}" in capsys.readouterr().err


def test_seeds_have_the_folders_that_refer_to_them(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = {}

    def run(self: pool.Pool, jobs: Any, begun: Any) -> Any:
        roots.update({job.run.seed: job.run.data.root for job in jobs})
        return {job.run.dir.path: pool.Outcome("done", job.run.label) for job in jobs}

    pretend_to_run(monkeypatch)
    monkeypatch.setattr(pool.Pool, "run", run)
    sweep.run("rung=0", "seed=0,1", "data.root=F/fold${seed}")
    assert roots == {0: "F/fold0", 1: "F/fold1"}


def test_two_experiments_are_two_sweeps(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = pretend_to_run(monkeypatch)
    monkeypatch.setattr("sweeps.TINY", ("wandb.mode=disabled", "hydra.launcher.preload=[]"))
    done = sweep.run("experiment=demo,convmixer_patches")
    assert done.code == 0 and len(ran) == 75
    counts = [len(study.planned(sweep.root / "runs" / name)) for name in ("demo", "convmixer_patches")]
    assert counts == [39, 36] and "demo: 39 done" in done.out and "convmixer_patches: 36 done" in done.out


def test_who_stops_one_experiment_stops_those_behind_it(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = pretend_to_run(monkeypatch, "stopped")
    monkeypatch.setattr("sweeps.TINY", ("wandb.mode=disabled", "hydra.launcher.preload=[]"))
    done = sweep.run("experiment=demo,convmixer_patches")
    assert done.code == 75 and len(ran) == 39 and "stopped: 1 of 2 experiments not started" in done.out


def pretend_to_run(monkeypatch: pytest.MonkeyPatch, state: str = "done") -> list[str]:
    """Let every run end in `state` without a process; the runs, as they come."""
    ran: list[str] = []

    def run(self: pool.Pool, jobs: Any, begun: Any) -> Any:
        begun()
        ran.extend(job.run.label for job in jobs)
        return {job.run.dir.path: pool.Outcome(state, job.run.label) for job in jobs}

    monkeypatch.setattr(pool, "start_server", lambda *_: None)
    monkeypatch.setattr(pool, "survey", lambda *_: 0)
    monkeypatch.setattr(pool.Pool, "run", run)
    return ran


def slots(monkeypatch: pytest.MonkeyPatch, runs: int, cores: int, gpus: list[str], **launcher: Any) -> Any:
    class Run:
        device = "auto"

        class engine:
            threads = launcher.pop("threads", None)

    monkeypatch.setattr(local, "usable_cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found: list[child.Slot] = LocalLauncher(**launcher)._slots([Run] * runs, gpus)  # type: ignore[list-item]
    return [(slot.threads, slot.gpus) for slot in found]


def test_cores_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    assert slots(monkeypatch, 39, 2, []) == [(1, None)] * 2
    assert slots(monkeypatch, 3, 8, []) == [(2, None)] * 3
    assert slots(monkeypatch, 39, 8, [], n_jobs=2) == [(4, None)] * 2
    assert slots(monkeypatch, 39, 8, [], threads=4) == [(4, None)] * 2
    assert slots(monkeypatch, 39, 1, [], n_jobs=3) == [(1, None)] * 3
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert local.threads_each(8, 2) == 1


def test_gpus_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    assert slots(monkeypatch, 39, 16, ["0", "1"]) == [(8, ("0",)), (8, ("1",))]
    assert slots(monkeypatch, 1, 16, ["0", "1"]) == [(16, ("0",))]
    assert slots(monkeypatch, 39, 16, ["3", "5"], jobs_per_gpu=2) == [(4, (g,)) for g in ("3", "5", "3", "5")]
    with pytest.raises(UserError, match="jobs_per_gpu"):
        slots(monkeypatch, 39, 16, ["0", "1"], n_jobs=3)


@pytest.mark.parametrize(
    ("named", "found", "expected"),
    [(None, 2, ["0", "1"]), ("3,5", 2, ["3", "5"]), ("", 0, []), ("1,-1,0", 1, ["1"]), ("GPU-ab12", 1, ["GPU-ab12"])],
)
def test_gpus_keep_the_names_that_the_user_gave(
    monkeypatch: pytest.MonkeyPatch, named: str | None, found: int, expected: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert local.visible_gpus(found) == expected


def test_the_classes_that_hydra_finds_are_ours() -> None:
    from hydra.core.plugins import Plugins
    from hydra.plugins.launcher import Launcher
    from hydra.plugins.sweeper import Sweeper

    found = [*Plugins.instance().discover(Launcher), *Plugins.instance().discover(Sweeper)]
    assert any(issubclass(plugin, LocalLauncher) for plugin in found)
    assert any(issubclass(plugin, StudySweeper) for plugin in found)


def test_a_study_remembers_all_that_it_was_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "s"
    assert study.planned(folder) == []
    study.remember(folder, "one", ["a", "b"])
    study.remember(folder, "two", ["b", "c"])
    assert study.planned(folder) == ["a", "b", "c"]
    study.remember(folder, "one", ["d"])
    assert study.planned(folder) == ["d", "b", "c"]
    assert not list(folder.glob("*.tmp"))


@pytest.mark.parametrize(
    ("torn", "why"),
    [
        ("{ torn", "study.json is not JSON"),
        ('{"launches": []}', "launches is no mapping"),
        ('{"launches": {"a": 1}}', "the runs of 'a' are no list"),
        ('{"launches": {"a": {"runs": "abc"}}}', "the runs of 'a' are no list"),
    ],
)
def test_a_broken_note_is_told_and_kept_aside_by_the_next_launch(tmp_path: Path, torn: str, why: str) -> None:
    (tmp_path / study.FILE).write_text(torn)
    with pytest.raises(Unreadable, match=why):
        study.planned(tmp_path)
    study.remember(tmp_path, "one", ["a"])
    assert study.planned(tmp_path) == ["a"]
    assert (tmp_path / "study.json.unreadable").read_text() == torn


@pytest.mark.parametrize("name", ["study.json", ".study.lock", "design.json", ".slurm"])
def test_a_note_is_not_written_through_a_link(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").write_text("precious")
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / name).symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match=f"{name} is a link: nothing is written through links in a study"):
        study.check_writable(folder)
    with contextlib.suppress(UserError):
        study.remember(folder, "one", ["a"])
    assert (tmp_path / "outside").read_text() == "precious"


def test_a_note_asks_for_no_folder_elsewhere(tmp_path: Path) -> None:
    names = ["../x", "/etc", "..", ".", "", "a", "b" * 300, 3, None, ["c"]]
    (tmp_path / study.FILE).write_text(json.dumps({"launches": {"one": {"runs": names}}}))
    assert study.planned(tmp_path) == ["a"]


def test_what_all_runs_would_miss_is_told_once_and_nothing_is_written(sweep: Sweep) -> None:
    with pytest.raises(UserError, match=r"data\.root"):
        sweep.run("rung=0,1", "data=cifar10", f"data.root={sweep.root}")
    with pytest.raises(UserError, match=r"hydra.launcher.preload: No module named 'nowhere'"):
        sweep.run("rung=0,1", "hydra.launcher.preload=[nowhere]")
    assert not sweep.study.exists()
