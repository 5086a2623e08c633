"""Run folders: names, atomic files, locks."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiny import run_of, train

from ladder.errors import UserError
from ladder.paths import write_atomic
from ladder.runs import folder as rundir
from ladder.runs.folder import RunDir, Status, is_dead, stable_hash

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), plain, max_size=5))
def test_hash_depends_on_content_not_on_order(what: dict[str, object]) -> None:
    backwards = dict(reversed(list(what.items())))
    assert stable_hash(what) == stable_hash(backwards)
    assert stable_hash({**what, "one more key": 1}) != stable_hash(what)


NAMES = st.text(min_size=1) | st.sampled_from(["_gelu", ".k5", "(ln)", "..", "-x", "+1", "a" * 300, "é" * 300, "/"])


@given(NAMES, st.integers(0, 2**32 - 1))
def test_any_name_of_a_step_makes_a_folder_that_everything_sees(name: str, seed: int) -> None:
    called = rundir.label(name, seed, "0123abcd")
    assert called[0].isalnum() and "/" not in called and len(os.fsencode(called)) <= 255
    assert rundir.is_run(called)


def test_a_folder_is_a_run_by_its_name_or_by_what_it_holds(tmp_path: Path) -> None:
    for name in ("gelu-s0-0123abcd", "_gelu-s0-0123abcd", ".k5-s12-0123abcd", "notes", ".slurm", "_old", "figures"):
        (tmp_path / name).mkdir()
    for name, file in {"renamed": "result.json", ".hidden": "status.json", "begun": "config.yaml"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    (tmp_path / "file-s0-0123abcd").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    runs, others = rundir.folders_in(tmp_path)
    named = [".hidden", ".k5-s12-0123abcd", "_gelu-s0-0123abcd", "begun", "gelu-s0-0123abcd", "renamed"]
    assert (runs, others) == (named, ["notes"])


def test_a_run_takes_over_the_folder_that_had_a_hidden_name(tmp_path: Path) -> None:
    run = run_of(tmp_path, "ladder.steps.3.name=_gelu", "rung=4")
    assert run.label.startswith("gelu-s0-")
    old = run.dir.path.with_name("_" + run.label)
    old.mkdir(parents=True)
    (old / "result.json").write_text('{"format": 1}')
    assert train(run).state == "skipped"
    assert [path.name for path in old.parent.iterdir()] == [run.label]


def test_atomic_write_keeps_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "status.json"
    write_atomic(path, "old")

    def no_space(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rundir.os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]


def test_atomic_write_keeps_a_link_and_writes_to_what_is_no_file(tmp_path: Path) -> None:
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "file.txt")
    write_atomic(link, "through")
    assert link.is_symlink()
    assert (tmp_path / "file.txt").read_text() == "through"
    os.mkfifo(pipe := tmp_path / "pipe")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomic(pipe, "into it")
    assert os.read(reader, 100) == b"into it"
    os.close(reader)


def test_status_survives_unknown_fields(tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "run")
    folder.create()
    folder.write_status(Status(epoch=3, top1=90.5))
    values = json.loads((folder.path / "status.json").read_text())
    (folder.path / "status.json").write_text(json.dumps({**values, "of_a_later_version": 1}))
    status = folder.read_status()
    assert status is not None
    assert (status.epoch, status.top1, status.pid) == (3, 90.5, os.getpid())


def test_folder_of_another_format_is_refused(tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "run")
    folder.create()
    (folder.path / "status.json").write_text(json.dumps({"format": 99, "state": "done"}))
    with pytest.raises(UserError, match="format 99"):
        folder.create()


def test_unwritable_parent_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file, not a folder")
    with pytest.raises(UserError, match="runs_dir"):
        RunDir(tmp_path / "runs" / "study" / "run").create()


def _hold(path: Path, ready: object, release: object) -> None:
    with RunDir(path).lock():
        ready.set()  # type: ignore[attr-defined]
        release.wait(30)  # type: ignore[attr-defined]


def test_lock_is_refused_while_held_and_free_after_a_kill(tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "run")
    folder.create()
    context = multiprocessing.get_context("fork")
    ready, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(folder.path, ready, release))
    holder.start()
    assert ready.wait(30)
    with pytest.raises(UserError, match="another process"), folder.lock():
        pass
    holder.kill()  # no chance to clean up: the kernel frees the lock
    holder.join()
    with folder.lock():
        pass


def test_lock_respects_a_fresh_heartbeat_of_another_host(tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "run")
    folder.create()
    other = {"state": "running", "host": "node-17", "pid": 1, "heartbeat": time.time()}
    (folder.path / "status.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match="node-17"), folder.lock():
        pass
    stale = {**other, "heartbeat": time.time() - 2 * rundir.HEARTBEAT_LIMIT}
    (folder.path / "status.json").write_text(json.dumps(stale))
    with folder.lock():
        pass


def test_a_running_status_without_its_process_is_dead(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(0,))
    child.start()
    child.join()
    folder = RunDir(tmp_path / "run")
    folder.create()
    alive = Status()
    folder.write_status(alive)
    assert not is_dead(alive)
    gone = Status(pid=int(child.pid or 0), host=alive.host, heartbeat=time.time())
    assert is_dead(gone)
    assert not is_dead(Status(state="done", pid=int(child.pid or 0), host=alive.host))
    elsewhere = Status(pid=1, host="node-17", heartbeat=time.time())
    assert not is_dead(elsewhere)
    assert is_dead(elsewhere, now=time.time() + 2 * rundir.HEARTBEAT_LIMIT)


def test_metrics_are_replaced_not_appended(tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "run")
    folder.create()
    rows = [{"epoch": i, "step": 10 * i, "top1": 50.0 + i, "ema_top1": None} for i in (1, 2)]
    folder.write_metrics(rows)  # type: ignore[arg-type]
    folder.write_metrics(rows)  # type: ignore[arg-type]
    lines = (folder.path / "metrics.csv").read_text().splitlines()
    assert lines[0] == "epoch,step,train_loss,eval_loss,top1,top5,ema_top1,lr,images_per_s,seconds"
    assert lines[1:] == ["1,10,,,51.0,,,,,", "2,20,,,52.0,,,,,"]


@pytest.mark.parametrize(
    "link", ["", "checkpoints", "train.log", ".lock", "status.json", "wandb", "model.safetensors", "checkpoints/last.pt"]
)
def test_nothing_is_written_through_links_of_a_strangers_study(tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    run = run_of(tmp_path / "runs", "rung=0")
    place = run.dir.path / link
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(outside if "." not in place.name or not link else outside / "file")
    with pytest.raises(UserError, match=r"is a link: nothing is written through links in a study; remove it"):
        run.dir.create()
    assert not run.dir.is_busy
    if link == "status.json":  # should one appear meanwhile
        run.dir.write_status(Status())
        assert not place.is_symlink()
    if link == ".lock":
        with pytest.raises(OSError, match=r"\.lock is a link, which is not followed"), run.dir.lock():
            pass
    assert os.listdir(outside) == ["file"] and (outside / "file").read_text() == "precious"


def test_a_lock_that_is_a_folder_is_told(tmp_path: Path) -> None:
    run = run_of(tmp_path, "rung=0")
    (run.dir.path / ".lock").mkdir(parents=True)
    assert not run.dir.is_busy
    with pytest.raises(UserError, match=r"\.lock is a folder: remove it"):
        train(run)
