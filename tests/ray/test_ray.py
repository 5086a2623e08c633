"""Owns the proof, on a real Ray, that a sweep survives its runs' deaths, a Ctrl-C and a cluster that isn't there."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from sweeps import RUNGS, Sweep, finish, started

from ladder.errors import UserError

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
ALL = f"rung={','.join(RUNGS)}"


def test_what_fails_leaves_the_others_alone_and_is_done_when_launched_again(
    sweep: Sweep, undisturbed: dict[str, Any]
) -> None:
    sweep.faults = {"resnet": "raise", "patchify_stem": "exit", "kernel_7": "hang"}
    options = (ALL, "hydra.launcher.max_attempts=1", "hydra.launcher.heartbeat_limit=20")
    first = finish(sweep.start(*options))
    assert first.code == 1, first.out + first.err
    assert first.err == ""
    _, _, summary = first.out.partition("1 done, 3 failed")
    causes = ("RuntimeError: a fault of the test", "WorkerCrashedError", "no heartbeat for 20 s")
    for rung, cause in zip(sweep.faults, causes, strict=True):
        line = next(line for line in summary.splitlines() if f" {rung}-s0-" in line)
        assert cause in line
        status = sweep.statuses()[rung]
        assert status["state"] == "failed" and cause in status["error"]

    sweep.faults = {}
    second = finish(sweep.start(*options))
    assert second.code == 0, second.out + second.err
    assert started(second.out) == ["kernel_7", "patchify_stem", "resnet"]
    assert sweep.figures() == undisturbed


def test_a_run_that_dies_is_tried_again_and_ctrl_c_saves(sweep: Sweep, undisturbed: dict[str, Any]) -> None:
    sweep.faults = dict.fromkeys(RUNGS, "slow 0.3")
    process = sweep.start(ALL)
    sweep.wait_for(lambda s: len([x for x in s.values() if x["state"] == "running" and x["step"]]) == 2)
    process.send_signal(signal.SIGINT)
    stopped = finish(process, 60)
    assert stopped.code == 75, stopped.out + stopped.err
    assert "2 stopped, 2 not started" in stopped.out
    assert {s["state"] for s in sweep.statuses().values()} == {"stopped"}

    sweep.faults = {"kernel_7": "kill once"}
    again = finish(sweep.start(ALL))
    assert again.code == 0, again.out + again.err
    assert sweep.statuses()["kernel_7"]["attempts"] == 2
    assert sweep.figures() == undisturbed


def test_runs_share_a_gpu(sweep: Sweep) -> None:
    sweep.faults = dict.fromkeys(RUNGS, "print CUDA_VISIBLE_DEVICES")
    options = ("+hydra.launcher.init.num_gpus=1", "hydra.launcher.num_gpus=0.5", "recipe.epochs=1")
    done = finish(sweep.start("rung=resnet,gelu", *options))
    assert done.code == 0, done.out + done.err
    log = next(sweep.study.glob("resnet-*/train.log")).read_text()
    assert "CUDA_VISIBLE_DEVICES=0\n" in log, "what a run prints is in its log"


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("hydra.launcher.num_cpus=3", "hydra.launcher.num_cpus=3: Ray has 2 CPUs in all"),
        ("hydra.launcher.num_gpus=0.5", "hydra.launcher.num_gpus=0.5: Ray has 0 GPUs in all"),
        ("hydra.launcher.address=127.0.0.1:1", "hydra/launcher=ray, address=127.0.0.1:1"),
        ("+hydra.launcher.remote.nope=1", "hydra.launcher.remote"),
    ],
)
def test_what_ray_cannot_give_is_told_in_one_line_and_nothing_is_written(sweep: Sweep, option: str, words: str) -> None:
    if "address" in option:
        sweep.launcher = sweep.launcher[:1]
    with pytest.raises(UserError) as caught:
        sweep.run(ALL, option)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not sweep.study.exists()
