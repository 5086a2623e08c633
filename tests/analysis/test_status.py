"""Owns the checks of `ladder status`: what it says of run folders in every state, and how fast."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from analysis import status
from ladder.errors import UserError
from ladder.runs import study as study_file
from ladder.runs.folder import Status
from ladder.runs.study import remember


def gone_pid() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write(study: Path, name: str, done: bool = False, **values: Any) -> Path:
    folder = study / name
    folder.mkdir(parents=True)
    base = {"rung": name.split("-")[0], "host": socket.gethostname(), "pid": os.getpid(), "heartbeat": time.time()}
    (folder / "status.json").write_text(json.dumps(asdict(Status(**{**base, **values}))))
    if done:
        (folder / "result.json").write_text('{"format": 1}')
    return folder


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study with a run in each state."""
    folder = tmp_path / "demo"
    labels = ["resnet-s0-00", "gelu-s0-00", "kernel_7-s0-00", "layer_norm-s0-00", "fewer_norms-s0-00", "late-s0-00"]
    study_file.remember(folder, "a launch", labels)
    write(folder, labels[0], done=True, state="done", top1=91.5)
    going = {"step": 15, "steps": 60, "epochs": 6, "epoch": 1, "top1": 55.25, "images_per_s": 1234.0, "eta_s": 61.0}
    write(folder, labels[1], state="running", **going)
    write(folder, labels[2], state="running", pid=gone_pid(), **going)
    write(folder, labels[3], state="failed", error="a fault")
    write(folder, labels[4], state="stopped")
    (folder / "figures").mkdir()
    (folder / "notes").mkdir()
    return folder


STATES = ["done", "running", "dead", "failed", "stopped", "pending"]


def test_every_state_is_told_apart(study: Path) -> None:
    rows = status.read(study)
    assert [row.state for row in rows] == STATES, "in the order of asking; folders that are no runs left out"
    assert status.counts(rows) == dict.fromkeys(STATES, 1)


def test_the_text_has_what_a_person_asks(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status.main([str(study)]) == 0
    out = capsys.readouterr().out
    first, *rest = out.splitlines()
    assert first == f"{study}: 6 runs: 1 done, 1 running, 1 dead, 1 failed, 1 stopped, 1 pending"
    running = next(line for line in rest if line.startswith("gelu s0"))
    assert running.split() == ["gelu", "s0", "1.5/6", "55.25", "1,234", "1:01"]
    assert any(line.startswith("dead    kernel_7-s0-00: last heartbeat 0:0") for line in rest)
    assert "failed  layer_norm-s0-00: a fault" in rest
    assert f"        log: {study}/layer_norm-s0-00/train.log" in rest
    assert "stopped fewer_norms-s0-00" in rest
    assert "pending late-s0-00" in rest


def test_json_is_whole(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status.main([str(study), "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counts"] == dict.fromkeys(STATES, 1)
    assert [run["state"] for run in told["runs"]] == STATES
    assert told["runs"][1]["epoch"] == 1.5 and told["runs"][1]["eta_s"] == 61.0
    assert told["runs"][3]["error"] == "a fault"


def test_a_silent_run_of_another_host_is_dead(tmp_path: Path) -> None:
    write(tmp_path, "fresh-s0-00", state="running", host="elsewhere", pid=1, heartbeat=time.time() - 10)
    write(tmp_path, "silent-s0-00", state="running", host="elsewhere", pid=1, heartbeat=time.time() - 1000)
    assert [row.state for row in status.read(tmp_path)] == ["running", "dead"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"format": 1, "state": "done"}', "no result.json"),
        ('{"format": 1, "state": "nonsense"}', "nonsense"),
        ('{"format": 1, "state": "failed", "step": "x", "steps": 3}', "step is 'x', not a whole number"),
        ('{"format": 1, "state": "running", "host": ["a"]}', "host is a list, not text"),
        ('{"format": 1, "state": "running", "pid": -1}', "pid is -1, not a whole number from 0"),
        ('{"format": 9, "state": "done"}', "of format 9"),
        ("[" * 100_000, "not JSON (nested too deeply)"),
        ('{"format": 1, "pid": ' + "9" * 5000 + "}", "not JSON"),
        ("\ud800", "not UTF-8"),
        (None, "status.json is no file"),
    ],
)
def test_a_broken_status_is_a_row_that_says_why(tmp_path: Path, content: str | None, words: str, capsys: Any) -> None:
    (tmp_path / "broken-s0-00000000").mkdir()
    file = tmp_path / "broken-s0-00000000" / "status.json"
    file.mkdir() if content is None else file.write_bytes(content.encode(errors="surrogatepass"))
    write(tmp_path, "gelu-s0-00000000", done=True, state="done")
    row, good = status.read(tmp_path)
    assert (row.state, good.state) == ("unreadable", "done")
    assert row.error is not None and words in row.error
    assert status.main([str(tmp_path)]) == 0
    assert f"unreadable broken-s0-00000000: {row.error}\n" in capsys.readouterr().out


def test_a_broken_note_is_told_and_the_runs_are_shown(tmp_path: Path, capsys: Any) -> None:
    write(tmp_path, "gelu-s0-00000000", done=True, state="done")
    (tmp_path / "study.json").write_text("{")
    assert [row.state for row in status.read(tmp_path)] == ["done"]
    assert capsys.readouterr().err.startswith(f"skipped {tmp_path}: study.json is not JSON")


def test_wrong_folders_are_told(study: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no study folder"):
        status.main([str(tmp_path / "nowhere")])
    with pytest.raises(UserError, match="give its parent folder"):
        status.main([str(study / "resnet-s0-00")])
    with pytest.raises(UserError, match=f"folder of studies.*{study.name}"):
        status.main([str(study.parent)])
    with pytest.raises(UserError, match="--watch"):
        status.main([str(study), "--watch", "--format", "json"])


def test_watch_follows_until_there_is_nothing_to_wait_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path, "gelu-s0-00", state="running", epochs=2)

    def end(seconds: float) -> None:
        (folder / "result.json").write_text('{"format": 1}')

    monkeypatch.setattr(status.time, "sleep", end)  # it ends between two looks
    assert status.main([str(tmp_path), "--watch", "0.1"]) == 0
    out = capsys.readouterr().out
    assert out.index("1 running") < out.index("1 done")


def test_watch_says_once_that_nothing_runs_any_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(tmp_path, "ladder train -m rung=gelu", ["gelu-s0-00"])
    looks = iter(range(5))

    def later(seconds: float) -> None:
        if next(looks, None) is None:
            write(tmp_path, "gelu-s0-00", state="failed")

    monkeypatch.setattr(status.time, "sleep", later)
    monkeypatch.setattr(status, "QUIET_S", -1.0)
    assert status.main([str(tmp_path), "--watch", "0.1"]) == 0
    assert capsys.readouterr().out.count("nothing runs; 1 pending wait in a queue, or for a launch") == 1


def test_ten_thousand_runs_take_seconds(tmp_path: Path) -> None:
    for number in range(10_000):
        folder = tmp_path / f"gelu-s{number}-00"
        folder.mkdir()
        (folder / "status.json").write_text('{"format": 1, "state": "stopped", "rung": "gelu"}')
    began = time.process_time()
    assert status.counts(status.read(tmp_path)) == {"stopped": 10_000}
    assert time.process_time() - began < 10  # about 1 on a free core; what grows with the square takes minutes


def test_it_imports_neither_torch_nor_pandas() -> None:
    code = "import sys, analysis.status; print(*{'torch', 'pandas', 'timm', 'hydra'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_notify_runs_a_command_for_what_fails_and_at_the_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    study, told = tmp_path / "demo", tmp_path / "told"
    write(study, "old-s0-00", state="failed", error="known before")
    runs = [write(study, f"{name}-s0-00", state="running") for name in ("gelu", "resnet")]

    def later() -> None:
        time.sleep(0.5)
        new = write(tmp_path / "new", runs[0].name, state="failed", error="a fault")
        os.replace(new / "status.json", runs[0] / "status.json")
        time.sleep(0.5)
        (runs[1] / "result.json").write_text('{"format": 1}')

    thread = threading.Thread(target=later)
    thread.start()
    command = f'echo "$LADDER_NEWS" >> {told}; exit 3'
    assert status.main([str(study), "--watch", "0.1", "--notify", command]) == 0
    thread.join()
    lines = told.read_text().splitlines()
    assert lines == [f"{study}: failed gelu-s0-00: a fault", f"{study}: 1 done, 2 failed"]
    assert "exit code 3" in capfd.readouterr().err
