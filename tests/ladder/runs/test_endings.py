"""Owns how runs end where the machine is in the way: nobody to tell, a full disk, steps that last, a writer killed."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import pytest
from disks import small_disk
from tiny import run_of, train, wait_for

from ladder.errors import UserError
from ladder.common.streams import say
from ladder.networks.weights import load_model
from ladder.runs.folder import RunDir, Status
from ladder.runs.heartbeat import Heartbeat
from ladder.training import checkpoint
from ladder.training.engine import Engine
from ladder.training.progress import Bar

QUICK = ("rung=gelu", "recipe.epochs=1")


def broken_pipe() -> TextIO:
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w")


def closed() -> TextIO:
    stream = io.StringIO()
    stream.close()
    return stream


def gone_terminal() -> TextIO:
    leader, follower = os.openpty()
    stream = open(follower, "w")
    os.close(leader)
    return stream


FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")


@pytest.mark.parametrize("stdout", [broken_pipe, pytest.param(lambda: FULL.open("w"), marks=needs_full)])
def test_a_run_is_done_whoever_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stdout: Any) -> None:
    run = run_of(tmp_path, *QUICK)
    monkeypatch.setattr(sys, "stdout", stdout())
    assert train(run).state == "done"
    assert train(run).state == "skipped"
    status = run.dir.read_status()
    assert status is not None and (status.state, status.error) == ("done", None)


@needs_full
def test_what_cannot_be_said_is_told_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdout", FULL.open("w"))
    for _ in range(3):
        say("lost")
    monkeypatch.setattr(sys, "stdout", closed())
    say("lost too")
    assert capsys.readouterr().err == "can't write to stdout (No space left on device): going on\n"


def test_a_terminal_of_another_alphabet_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    say("21 \u00b0")
    assert raw.getvalue() == b"21 \\xb0\n"


def test_a_bar_outlives_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", gone_terminal())
    monkeypatch.setenv("TERM", "xterm")
    bar = Bar(epochs=1, steps_per_epoch=2)
    bar.start_epoch(0, 0)
    bar.update(1, 2.0, 100.0, 1.0)
    bar.evaluate(0.5, None)
    bar.end_epoch(2.0, 50.0, 100.0, 0.0)
    bar.close()


@pytest.mark.parametrize("redirect", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_command_whose_streams_are_closed_writes_into_no_file(tmp_path: Path, redirect: str) -> None:
    code = (
        "from ladder.errors import run_cli, say\n"
        "def main():\n"
        "    with open('file', 'w') as file:\n"
        "        say('to stdout'); say('to stderr', error=True); file.write('whole')\n"
        "run_cli(main)"
    )
    command = f'exec "$0" -c "$1" {redirect}'
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(["sh", "-c", command, sys.executable, code], cwd=tmp_path, env=environment)
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == "whole"


@pytest.mark.parametrize("kilobytes", [4, 8, 12, 32])
def test_a_new_run_on_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kilobytes: int
) -> None:
    with small_disk(tmp_path, kilobytes) as disk:
        run = run_of(disk / "runs", *QUICK, "recipe.epochs=50")
        try:
            outcome = train(run)
            told = capfd.readouterr().err
        except UserError as error:
            outcome, told = None, f"{error}\n"
        assert "No space left on device" in told and told.count("\n") == 1, told
        assert "whole" not in told, "there is no checkpoint"
        if kilobytes < 32:
            assert not list(disk.iterdir())
        else:  # room to say so
            status = run.dir.read_status()
            assert outcome is not None and status is not None and status.state == "failed"


def test_only_a_checkpoint_that_is_there_is_called_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, saved = checkpoint.save, []

    def fill(folder: Path, state: Any) -> None:
        if len(saved) == room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        saved.append(save(folder, state))

    monkeypatch.setattr(checkpoint, "save", fill)
    for room, words in ((0, "No space left on device"), (1, "No space left on device; the last checkpoint is whole")):
        outcome = train(run_of(tmp_path / str(room), *QUICK, "engine.save_every=0"))
        assert (outcome.state, outcome.error) == ("failed", words)


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    run = run_of(tmp_path, *QUICK)
    run.dir.create()
    (run.dir.path / "wandb").mkdir()
    names = (".status.json.77.tmp", ".result.json.77.tmp", ".model.safetensors.77.tmp", ".tmpA1b2C3", "wandb/.run-id.7.tmp")
    for name in (*names, "checkpoints/.last.pt.77.tmp", "notes.tmp"):
        (run.dir.path / name).write_text("half")
    assert train(run).state == "done"
    assert [path.name for path in run.dir.path.rglob("*") if "tmp" in path.name] == ["notes.tmp"]


def test_a_result_says_when_its_first_attempt_began(tmp_path: Path) -> None:
    run = run_of(tmp_path, *QUICK)
    before = time.time() - 1
    train(run)
    result = json.loads((run.dir.path / "result.json").read_text())
    began, ended = (datetime.fromisoformat(result[key]).timestamp() for key in ("started", "finished"))
    assert before <= began <= ended and ended - began == pytest.approx(result["wall_s"], abs=2)

    again = run_of(tmp_path, *QUICK, "seed=1")
    again.dir.create()
    again.dir.write_status(Status(state="failed", attempts=1, begun=1e9))
    train(again)
    result = json.loads((again.dir.path / "result.json").read_text())
    assert (result["started"], result["attempts"]) == (datetime.fromtimestamp(1e9, UTC).isoformat(), 2)


def test_a_run_beats_while_a_step_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, seen = Engine._train_step, []

    def lasting(self: Engine, batches: Any) -> None:
        if self.step == 3:
            now = time.time()
            wait_for(lambda: (s := run.dir.read_status()) is not None and s.heartbeat > now + 0.1)
            seen.append(run.dir.read_status())
            assert seen[0].progress < now, "but it does not get on"
        step(self, batches)

    monkeypatch.setattr(Engine, "_train_step", lasting)
    run = run_of(tmp_path, *QUICK, "engine.log_every=1e6")
    assert train(run).state == "done", run.dir.read_status()
    assert (seen[0].state, seen[0].step) == ("running", 3)
    status = run.dir.read_status()
    assert status is not None and status.slowest > 0.1 and status.progress > seen[0].progress


def test_nothing_is_written_after_a_heartbeat_has_ended(tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "run")
    folder.create()
    beat = Heartbeat(folder, Status())
    beat.end()
    folder.write_status(Status(state="done"))
    assert not beat._thread.is_alive()


def test_weights_are_readable_as_the_umask_says(tmp_path: Path) -> None:
    run = run_of(tmp_path, *QUICK)
    before = os.umask(0o027)
    try:
        train(run)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in run.dir.path.rglob("*") if path.is_file()}
    assert set(modes.values()) == {0o640}, modes
    load_model(run.dir.path)
