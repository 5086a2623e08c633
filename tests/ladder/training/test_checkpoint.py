"""Checkpoints: two generations, fallback, no code from files."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from pathlib import Path

import pytest
import torch
from disks import small_disk

from ladder.errors import UserError
from ladder.training import checkpoint


def state(step: int) -> dict[str, object]:
    return {"step": step, "model": {"weight": torch.full((64, 64), float(step))}, "history": [{"top1": 1.5}]}


def test_newest_is_loaded_and_the_one_before_is_kept(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path) is None
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, state(step))
    loaded = checkpoint.load(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 3
    assert torch.equal(loaded["model"]["weight"], torch.full((64, 64), 3.0))
    assert checkpoint.read(tmp_path / checkpoint.PREVIOUS)["step"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.pt", "previous.pt"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text"])
def test_a_broken_newest_falls_back_with_a_warning(tmp_path: Path, damage: str) -> None:
    checkpoint.save(tmp_path, state(1))
    checkpoint.save(tmp_path, state(2))
    path = tmp_path / checkpoint.LAST
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 0xFF  # one byte, within the tensor's data
    path.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "text": b"hello"}.get(damage, content))
    with pytest.warns(UserWarning, match=r"last\.pt is broken"):
        loaded = checkpoint.load(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 1


def test_all_broken_is_told_not_ignored(tmp_path: Path) -> None:
    (tmp_path / checkpoint.LAST).write_bytes(b"x")
    with pytest.warns(UserWarning, match="is broken"), pytest.raises(UserError, match="start the run again"):
        checkpoint.load(tmp_path)


def _save_over_and_over(folder: Path) -> None:
    for step in range(10**9):
        checkpoint.save(folder, {"step": step})


def test_a_reader_beside_a_writer_always_loads_and_is_told_nothing(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {"step": -1})
    writer = multiprocessing.get_context("fork").Process(target=_save_over_and_over, args=(tmp_path,))
    writer.start()
    try:
        newest, loads, end = -1, 0, time.monotonic() + 60
        while (loads < 300 or newest < 1) and time.monotonic() < end:
            loads += 1
            loaded = checkpoint.load(tmp_path, warn=pytest.fail)
            assert loaded is not None
            assert loaded["step"] >= newest - 1  # between the two renames the one before is the newest
            newest = loaded["step"]
        assert newest > 0, "nothing was saved meanwhile"
    finally:
        writer.kill()
        writer.join()


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


def test_code_in_a_checkpoint_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"step": Evil()}, tmp_path / checkpoint.LAST)
    with pytest.raises(UserError, match=r"(posix|os|nt)\.system"):
        checkpoint.load(tmp_path)
    assert not (tmp_path / "pwned").exists()


def test_a_full_disk_leaves_the_older_file_whole(tmp_path: Path) -> None:
    with small_disk(tmp_path, 48) as disk:
        checkpoint.save(disk, state(1))
        for step in range(2, 6):
            full = pytest.raises(OSError, match="No space left on device")
            with full if step > 2 else contextlib.nullcontext():  # two fit, not three
                checkpoint.save(disk, state(step))
        loaded = checkpoint.load(disk)
        assert loaded is not None
        assert loaded["step"] == 2
        assert not list(disk.glob(".*"))


def save_for_ever(folder: Path, said: object) -> None:
    torch.set_num_threads(1)
    for step in range(1, 100_000):
        checkpoint.save(folder, {"step": step, "w": torch.full((256, 256), float(step))})
        said.value = step  # type: ignore[attr-defined]


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for attempt in range(12):
        said = context.Value("i", 0, lock=False)  # a killed process would keep the lock
        process = context.Process(target=save_for_ever, args=(tmp_path, said))
        process.start()
        while not said.value:
            time.sleep(0.001)
        time.sleep(0.007 * attempt)
        process.kill()
        process.join()
        loaded = checkpoint.load(tmp_path)
        assert loaded is not None
        assert loaded["step"] >= said.value  # what was said to be saved is there
        assert torch.equal(loaded["w"], torch.full((256, 256), float(loaded["step"])))
