"""Owns the proof, with real processes, that a sweep survives: deaths, hangs, its launcher's death, Ctrl-C, company."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from sweeps import RUNGS, Sweep, finish, is_alive, started

from ladder.launch import pool

ALL = f"rung={','.join(RUNGS)}"


def running(statuses: dict[str, dict[str, Any]]) -> bool:
    return any(s["state"] == "running" and s["step"] for s in statuses.values())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_four_ways_to_fail(sweep: Sweep) -> None:
    faults = {"resnet": "raise", "stage_ratio": "exit", "patchify_stem": "nan", "depthwise_conv": "hang"}
    options = ("rung=range(7)", "hydra.launcher.max_attempts=1", "hydra.launcher.heartbeat_limit=20")
    sweep.faults = faults
    first = sweep.run(*options)
    assert first.code == 1, first.out
    states = {rung: status["state"] for rung, status in sweep.statuses().items()}
    assert states == {
        **dict.fromkeys(faults, "failed"),
        **dict.fromkeys(("increase_width", "inverted_bottleneck", "move_up_depthwise"), "done"),
    }
    _, _, summary = first.out.partition("3 done, 4 failed")
    causes = ("RuntimeError: a fault of the test", "ended with code 9", "not finite at step", "no step for 20 s")
    for rung, cause in zip(faults, causes, strict=True):
        line = next(line for line in summary.splitlines() if f" {rung}-s0-" in line)
        assert cause in line
        assert cause in sweep.statuses()[rung]["error"]
    logs = [Path(line.split("log: ")[1]) for line in summary.splitlines() if "log: " in line]
    assert len(logs) == 4 and all(log.exists() for log in logs)
    assert "a fault of the test" in logs[0].read_text()
    assert "_faulty_step" in logs[3].read_text(), "what a hanging run was doing is in its log"

    sweep.faults = {}
    second = sweep.run(*options)
    assert second.code == 0, second.out
    assert started(second.out) == sorted(faults)
    assert {s["state"] for s in sweep.statuses().values()} == {"done"}


def test_a_run_that_dies_is_tried_again_but_not_one_that_would_fail_alike(sweep: Sweep) -> None:
    sweep.faults = {"resnet": "kill", "kernel_7": "nan"}
    done = sweep.run("rung=resnet,kernel_7", "hydra.launcher.max_attempts=3")
    assert done.code == 1
    assert started(done.out) == ["kernel_7", "resnet", "resnet", "resnet"]
    assert sweep.statuses()["resnet"]["attempts"] == 3
    assert "killed by signal 9" in sweep.statuses()["resnet"]["error"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_launcher_leaves_no_orphans_and_loses_nothing(sweep: Sweep, undisturbed: dict[str, Any]) -> None:
    sweep.faults = dict.fromkeys(RUNGS, "slow 0.2")
    process = sweep.start(ALL)
    sweep.wait_for(running)
    pids = [s["pid"] for s in sweep.statuses().values() if s["state"] == "running"]
    process.kill()
    ended = finish(process)
    assert ended.err == "", "what a run prints is in its log, not on the terminal"
    end = time.monotonic() + 60
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < end, "a run outlives its launcher"
        time.sleep(0.1)
    assert "stopped" in {s["state"] for s in sweep.statuses().values()}, "orphans save before they go"

    process = sweep.start(ALL)
    time.sleep(random.Random(0).uniform(1, 8))
    process.kill()
    finish(process)

    sweep.faults = {}
    assert sweep.run(ALL).code == 0
    assert sweep.figures() == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_launcher_killed_at_ten_random_moments(sweep: Sweep, undisturbed: dict[str, Any]) -> None:
    sweep.faults = dict.fromkeys(RUNGS, "slow 0.8")  # longer in all than ten launchers live
    moments = random.Random(1)
    for _ in range(10):
        process = sweep.start(ALL)
        time.sleep(moments.uniform(1, 15))
        process.kill()
        finish(process)
        assert len(sweep.figures()) < len(RUNGS), "all was done before the last kill: make it slower"
    sweep.faults = {}
    assert sweep.run(ALL).code == 0
    assert sweep.figures() == undisturbed


@pytest.mark.timeout(300)
def test_two_launchers_share_a_study(sweep: Sweep, undisturbed: dict[str, Any]) -> None:
    sweep.faults = dict.fromkeys(RUNGS, "slow 0.1")
    other = sweep.start(ALL, "hydra.launcher.n_jobs=1")
    sweep.wait_for(running)
    here = sweep.run(ALL, "hydra.launcher.n_jobs=1")
    there = finish(other)
    assert (here.code, there.code) == (0, 0), here.out + there.out + there.err
    assert {s["attempts"] for s in sweep.statuses().values()} == {1}, "no run was trained twice"
    assert here.out.count(" done    ") + there.out.count(" done    ") == len(RUNGS)
    assert min(len(started(here.out)), len(started(there.out))) >= 1
    assert sweep.figures() == undisturbed


@pytest.mark.timeout(300)
def test_ctrl_c_once_saves_and_twice_kills(sweep: Sweep, undisturbed: dict[str, Any]) -> None:
    sweep.faults = {"resnet": "slow 0.2", "patchify_stem": "hang"}  # which won't stop however nicely it is asked
    process = sweep.start(ALL)
    sweep.wait_for(lambda s: "resnet" in s and s["resnet"]["step"] > 0 and any(sweep.study.glob("*/hangs")))
    process.send_signal(signal.SIGINT)
    sweep.wait_for(lambda s: s["resnet"]["state"] == "stopped")
    time.sleep(1)
    assert process.poll() is None, "once asks: what has not stopped yet is waited for"
    process.send_signal(signal.SIGINT)
    ended = finish(process, 60)
    assert ended.code == 75, ended.out + ended.err
    assert ended.err == ""
    assert "type the same again" in ended.out
    statuses = sweep.statuses()
    assert {rung: s["state"] for rung, s in statuses.items()} == {"resnet": "stopped", "patchify_stem": "stopped"}
    assert not any(is_alive(s["pid"]) for rung, s in statuses.items() if rung == "resnet")

    sweep.faults = {}
    again = sweep.run(ALL)
    assert again.code == 0, again.out
    assert sweep.figures() == undisturbed


def test_each_run_sees_its_own_gpu(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "survey", lambda *_: 2)  # two GPUs, which nobody will look for behind device=auto
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,5")
    sweep.launcher = ()  # as many runs at a time as there are GPUs
    sweep.faults = dict.fromkeys(RUNGS[:3], "print CUDA_VISIBLE_DEVICES")
    done = sweep.run(f"rung={','.join(RUNGS[:3])}", "device=auto", "recipe.epochs=1")
    assert done.code == 0, done.out
    logs = [path.read_text() for path in sweep.study.glob("*/train.log")]
    seen = [line for log in logs for line in log.splitlines() if line.startswith("CUDA_VISIBLE_DEVICES=")]
    assert len(seen) == 3 and set(seen) == {"CUDA_VISIBLE_DEVICES=7", "CUDA_VISIBLE_DEVICES=5"}


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="threads are counted in /proc")
def test_the_fork_server_has_one_thread_and_outlives_ctrl_c(sweep: Sweep) -> None:
    from multiprocessing import forkserver

    assert sweep.run("rung=resnet", "recipe.epochs=1").code == 0
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    assert len(list(Path(f"/proc/{server}/task").iterdir())) == 1, "no thread survives a fork, nor does what it locked"
    assert os.getsid(server) == server, "the terminal's Ctrl-C does not reach it"
