"""Owns the proof, on a real Slurm, that a study survives what clusters do, and that no run is sent or trained twice."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from slurm_cluster import SlurmCluster
from sweeps import Sweep, finish, read_until, started

from ladder.errors import UserError

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]
LATER = "+hydra.launcher.additional_parameters.begin=now+1hour"  # jobs that only wait


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def job_of(cluster: SlurmCluster, number: int) -> str:
    """The job of a run, by its number in the array."""
    return next(job for job in cluster.jobs() if job.endswith(f"_{number}"))


def test_a_disturbed_study_ends_equal_to_an_undisturbed_one(
    cluster: SlurmCluster, sweep: Sweep, undisturbed: dict[str, Any]
) -> None:
    disturbed = ("resnet", "stage_ratio", "patchify_stem")
    sweep.faults = dict.fromkeys(disturbed, "slow 0.3")
    process = sweep.start("rung=range(13)")

    def under_way(rung: str) -> None:
        sweep.wait_for(lambda s: rung in s and s[rung]["state"] == "running" and s[rung]["step"] >= 2)

    under_way("resnet")
    cluster.call("scontrol", "requeue", job_of(cluster, 0))
    under_way("stage_ratio")
    cluster.call("scancel", job_of(cluster, 1))
    under_way("patchify_stem")
    cluster.kill_node()
    time.sleep(2)
    cluster.start_node()

    first = finish(process)
    assert first.code == 75, first.out + first.err
    assert "12 done, 1 stopped" in first.out
    statuses = sweep.statuses()
    assert statuses["resnet"]["attempts"] == 2, "it saved, and went on when Slurm had a place again"
    assert statuses["patchify_stem"]["attempts"] == 1, "a run does not need the node's daemon"
    assert statuses["stage_ratio"]["state"] == "stopped" and statuses["stage_ratio"]["step"] > 0

    sweep.faults = {}
    second = sweep.run("rung=range(13)")
    assert second.code == 0, second.out
    assert started(second.out) == ["stage_ratio"]
    assert "1 done, 12 skipped" in second.out
    assert sweep.figures() == undisturbed
    assert not list((sweep.study / ".slurm").glob("ladder-*")), "what is done leaves nothing behind"


def test_before_the_time_limit_all_ranks_save_and_the_job_requeues_itself(
    cluster: SlurmCluster, sweep: Sweep, tmp_path: Path
) -> None:
    rung = "rung=separate_downsampling"
    reference = tiny.run_of(tmp_path / "reference", rung)
    assert tiny.wait(tiny.start(reference, tmp_path, ranks=2)) == [0, 0]

    sweep.faults = {"separate_downsampling": "slow 0.3"}
    process = sweep.start(rung, "engine.threads=1", "hydra.launcher.tasks_per_node=2")
    sweep.wait_for(lambda s: any(x["step"] >= 2 for x in s.values()))
    (job,) = cluster.jobs()
    cluster.call("scancel", "--signal=USR2", job)  # as Slurm itself does
    sweep.wait_for(lambda s: all(x["state"] == "stopped" for x in s.values()))
    sweep.faults = {}
    sweep.write_faults()
    ended = finish(process)
    assert ended.code == 0, ended.out + ended.err
    assert sweep.statuses()["separate_downsampling"]["attempts"] == 2
    assert len(started(ended.out)) == 1, "Slurm started it again, not the launcher"
    trained = tiny.run_of(sweep.root / "runs", rung, "study=tiny")
    tiny.assert_equal(tiny.final_state(trained), tiny.final_state(reference))


def test_a_death_without_a_word_is_tried_again_and_told(sweep: Sweep) -> None:
    sweep.faults = {"gelu": "exit"}
    done = sweep.run("rung=gelu")
    assert done.code == 1, done.out
    assert done.out.count("sent to Slurm") == 2
    _, _, summary = done.out.partition("1 failed")
    assert "ended as FAILED without a word" in summary
    status = sweep.statuses()["gelu"]
    assert (status["state"], status["attempts"]) == ("failed", 2)
    assert "without a word" in status["error"]


def test_a_launcher_that_was_killed_finds_its_jobs_again(cluster: SlurmCluster, sweep: Sweep) -> None:
    process = sweep.start("rung=0,1,2", LATER)
    wait_until(lambda: len(cluster.jobs()) == 3)
    process.kill()
    finish(process)
    jobs = cluster.jobs()

    again = sweep.run("rung=0,1,2,3", LATER, "hydra.launcher.wait=false")
    assert again.code == 0, again.out
    assert "3 runs are queued or running since an earlier launch" in again.out
    assert "1 runs sent to Slurm" in again.out
    assert len(cluster.jobs()) == 4 and jobs.items() <= cluster.jobs().items()

    watching = sweep.start("rung=0,1,2,3", LATER)
    read_until(watching, "4 runs are queued")
    watching.send_signal(signal.SIGINT)
    left = finish(watching)
    assert left.code == 75, left.out + left.err
    assert "4 left in the queue" in left.out and "ladder status" in left.out and "scancel --name=" in left.out
    assert len(cluster.jobs()) == 4

    watching = sweep.start("rung=0,1,2,3", LATER)
    read_until(watching, "4 runs are queued")
    cluster.cancel_all()
    cancelled = finish(watching)
    assert cancelled.code == 75, cancelled.out + cancelled.err
    assert "4 stopped" in cancelled.out
    assert not cluster.jobs(), "who cancels a job does not want it sent again"


def test_two_launchers_send_each_run_once(cluster: SlurmCluster, sweep: Sweep) -> None:
    options = ("rung=range(13)", LATER, "hydra.launcher.wait=false")
    launchers = [sweep.start(*options) for _ in range(2)]
    ended = [finish(process) for process in launchers]
    assert [each.code for each in ended] == [0, 0], [each.err for each in ended]
    assert len(cluster.jobs()) == 13


def test_a_job_that_slurm_will_never_start_is_told(cluster: SlurmCluster, sweep: Sweep) -> None:
    process = sweep.start("rung=0,1", "hydra.launcher.cpus_per_task=99")
    read_until(process, "does not start: PartitionConfig")
    process.send_signal(signal.SIGINT)
    assert finish(process).code == 75


def test_more_runs_than_an_array_may_hold(cluster: SlurmCluster, sweep: Sweep) -> None:
    done = sweep.run("rung=range(5)", LATER, "hydra.launcher.wait=false", "hydra.launcher.array_size=2")
    assert done.out.count("sent to Slurm") == 3
    assert len(cluster.jobs()) == 5


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("hydra.launcher.partition=nowhere", "invalid partition"),
        ("hydra.launcher.mem_gb=900", "Memory specification can not be satisfied"),
        ("+hydra.launcher.additional_parameters.nope=1", "unrecognized option"),
    ],
)
def test_what_slurm_refuses_is_told_in_one_line_and_leaves_nothing(
    sweep: Sweep, option: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError) as caught:
        sweep.run("rung=0,1", option)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert capfd.readouterr().err == "", "Slurm's own lines are in ours"
    assert not sweep.study.parent.exists()
