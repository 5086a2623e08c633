"""Both loaders: order and augmentation follow from (seed, epoch, step, rank) alone, and evaluation is exact."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_folders import PLAIN, make_folder

import ladder
from ladder.data import Batch, Data, open_data
from ladder.errors import UserError
from ladder.runs.config import DataConfig
from ladder.training.recipe import Recipe

CPU = torch.device("cpu")
EVERYTHING = Recipe(reprob=0.5, randaugment="rand-m9-mstd0.5-inc1")
TRAIN, TEST = 2 * 11, 2 * 7  # images
LOADERS = ["memory", "timm"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("images"), train=11, test=7)


def opened(root: Path, loader: str, recipe: Recipe = EVERYTHING, **settings: Any) -> Data:
    config = {"name": "pets", "source": "imagefolder", "root": str(root), "image_size": 8, "loader": loader}
    config |= {key: settings.pop(key) for key in ("workers", "mean", "std", "in_chans") if key in settings}
    settings = {"seed": 0, "micro_batch": 3, "device": CPU} | settings
    return open_data(DataConfig(**{"workers": 0} | config), recipe, **settings)  # type: ignore[arg-type]


def joined(batches: Iterator[Batch]) -> torch.Tensor:
    """All images, each with its label as one more value: (N, C * H * W + 1)."""
    return torch.cat([torch.cat([images.flatten(1), labels[:, None].float()], 1) for images, labels in batches])


def rows(images: torch.Tensor) -> list[bytes]:
    return [row.numpy().tobytes() for row in images]


# --- a pure function of (seed, epoch, step, rank) ---------------------------------------------------------------------


@pytest.mark.parametrize("loader", LOADERS)
def test_shapes_and_numbers(root: Path, loader: str) -> None:
    data = opened(root, loader, accumulate=2, world=2)
    assert data.steps_per_epoch == TRAIN // 12
    batches = list(data.train_batches(0))
    assert len(batches) == data.steps_per_epoch * 2
    for images, labels in batches:
        assert images.shape == (3, 3, 8, 8)
        assert images.dtype == torch.float32
        assert images.is_contiguous()
        assert labels.dtype == torch.int64


@pytest.mark.parametrize("loader", LOADERS)
def test_the_same_again(root: Path, loader: str) -> None:
    data = opened(root, loader)
    first = [joined(data.train_batches(epoch)) for epoch in (0, 1)]
    assert not torch.equal(*first)
    assert torch.equal(first[1], joined(data.train_batches(1)))
    assert torch.equal(first[0], joined(opened(root, loader).train_batches(0)))
    assert not torch.equal(first[0], joined(opened(root, loader, seed=1).train_batches(0)))


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_going_on_within_an_epoch_gives_its_rest(root: Path, loader: str, accumulate: int) -> None:
    data = opened(root, loader, accumulate=accumulate)
    whole = joined(data.train_batches(4))
    for start in range(data.steps_per_epoch):
        rest = joined(opened(root, loader, accumulate=accumulate).train_batches(4, start))
        assert torch.equal(rest, whole[start * 3 * accumulate :])
    assert list(data.train_batches(4, data.steps_per_epoch)) == []


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(("micro_batch", "accumulate", "world"), [(3, 2, 1), (3, 1, 2), (1, 3, 2), (2, 1, 3)])
def test_a_global_batch_is_the_same_however_it_is_shared(
    root: Path, loader: str, micro_batch: int, accumulate: int, world: int
) -> None:
    """So ranks are disjoint and complete, and more of them train on the same images."""
    whole = joined(opened(root, loader, micro_batch=6).train_batches(2))
    parts = []
    for rank in range(world):
        data = opened(root, loader, micro_batch=micro_batch, accumulate=accumulate, rank=rank, world=world)
        parts.append(joined(data.train_batches(2)).reshape(data.steps_per_epoch, -1, whole.shape[1]))
    together = torch.cat(parts, dim=1).flatten(0, 1)
    # float sums over batches of another size may differ in the last bit, which rounding to pixels can magnify
    assert (together - whole).abs().gt(1e-4).float().mean() < 0.001


@pytest.mark.parametrize("loader", LOADERS)
def test_an_epoch_sees_each_image_once_but_for_the_rest(root: Path, loader: str) -> None:
    data = opened(root, loader, PLAIN, micro_batch=4)
    every = set(rows(joined(opened(root, loader, PLAIN, micro_batch=1).train_batches(0))))
    assert len(every) == TRAIN
    epochs = [rows(joined(data.train_batches(epoch))) for epoch in range(3)]
    for seen in epochs:
        assert len(seen) == len(set(seen)) == TRAIN // 4 * 4
        assert set(seen) <= every
    assert set().union(*epochs) == every  # others are left out each time


@pytest.mark.parametrize(("loader", "workers"), [("memory", 0), ("timm", 0), ("timm", 2)])
def test_global_random_state_is_neither_read_nor_changed(root: Path, loader: str, workers: int) -> None:
    def states() -> list[bytes]:
        return [
            repr(random.getstate()).encode(),
            np.random.get_state()[1].tobytes(),  # type: ignore[index, union-attr]
            torch.get_rng_state().numpy().tobytes(),
        ]

    seen = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = states()
        data = opened(root, loader, workers=workers)
        seen.append(
            torch.cat([joined(data.train_batches(0)), joined(data.eval_batches()), joined(data.train_batches(1))])
        )
        data.close()
        assert states() == before
    assert torch.equal(*seen)


# --- evaluation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("world", [1, 2, 3, 5, TEST, TEST + 3])
def test_evaluation_sees_each_image_once(root: Path, loader: str, world: int) -> None:
    whole = joined(opened(root, loader).eval_batches())
    assert len(whole) == TEST
    parts = []
    for rank in range(world):
        micro_batch = 2 if world <= TRAIN // 2 else 1
        batches = list(opened(root, loader, micro_batch=micro_batch, world=world, rank=rank).eval_batches())
        parts += [joined(iter(batches))] if batches else []
    assert sorted(rows(torch.cat(parts))) == sorted(rows(whole))


@pytest.mark.parametrize("in_chans", [1, 3])
def test_both_loaders_agree_on_plain_images(root: Path, in_chans: int) -> None:
    settings = {"in_chans": in_chans, "mean": [0.3], "std": [0.2]}
    memory, timm = (opened(root, loader, PLAIN, **settings) for loader in LOADERS)
    assert torch.equal(joined(memory.eval_batches()), joined(timm.eval_batches()))
    assert torch.equal(joined(memory.train_batches(3)), joined(timm.train_batches(3)))
    flipped = Recipe(crop="none", hflip=1.0)
    memory, timm = (opened(root, loader, flipped, **settings) for loader in LOADERS)
    assert torch.equal(joined(memory.train_batches(3)), joined(timm.train_batches(3)))


def test_timm_evaluation_resizes_and_takes_the_centre(tmp_path: Path) -> None:
    from PIL import Image
    from timm.data import create_transform

    root = make_folder(tmp_path, size=(40, 30), test=1)
    recipe = Recipe(eval_crop_pct=0.8, interpolation="bilinear")
    images, _ = next(opened(root, "timm", recipe, mean=[0.5], std=[0.25]).eval_batches())
    theirs = create_transform(8, crop_pct=0.8, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    expected = theirs(Image.open(root / "test" / "ant" / "000.png"))
    assert torch.allclose(images[0], expected, atol=1e-6)


def test_a_set_too_large_for_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ladder.data import memory

    assert memory.memory_of(CPU) > 2**28
    monkeypatch.setattr(memory, "memory_of", lambda device: 6000)
    with pytest.raises(UserError, match=r"data\.loader=memory needs .* cpu has .*; use data\.loader=timm"):
        opened(root, "memory")


# --- worker processes -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_workers(root: Path) -> Iterator[Data]:
    data = opened(root, "timm", workers=2)
    yield data
    data.close()


@pytest.mark.parametrize(("epoch", "start"), [(0, 0), (1, 0), (1, 3), (0, 5)])
def test_the_number_of_workers_changes_nothing(root: Path, with_workers: Data, epoch: int, start: int) -> None:
    alone = joined(opened(root, "timm", workers=0).train_batches(epoch, start))
    assert torch.equal(joined(with_workers.train_batches(epoch, start)), alone)


def test_an_epoch_may_be_left_and_another_begun(root: Path, with_workers: Data) -> None:
    alone = opened(root, "timm", workers=0)
    batches = with_workers.train_batches(0)
    for _ in range(2):
        next(batches)
    assert torch.equal(joined(with_workers.eval_batches()), joined(alone.eval_batches()))
    assert torch.equal(joined(with_workers.train_batches(1)), joined(alone.train_batches(1)))
    with pytest.raises(RuntimeError, match="finish one before"):
        next(batches)


def children() -> set[int]:
    return {process.pid or 0 for process in multiprocessing.active_children()}


def test_workers_survive_signals_to_the_group_and_end_with_close(root: Path) -> None:
    before = children()
    data = opened(root, "timm", workers=2)
    batches = data.train_batches(0)
    first = next(batches)
    mine = children() - before
    assert len(mine) == 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        for pid in mine:
            os.kill(pid, number)
    assert torch.equal(joined(iter([first, *batches])), joined(opened(root, "timm").train_batches(0)))
    data.close()
    deadline = time.monotonic() + 20
    while children() & mine and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not children() & mine


def test_a_killed_worker_ends_in_one_line(root: Path) -> None:
    before = children()
    data = opened(root, "timm", micro_batch=1, workers=1)
    batches = data.train_batches(0)
    next(batches)
    for pid in children() - before:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(UserError, match=r"a data worker died \(.*\); .*data.workers") as caught:
        list(batches)
    assert "\n" not in str(caught.value)
    data.close()


SCRIPT = """
import multiprocessing, sys, time, torch
import ladder
from ladder.runs.config import DataConfig
from ladder.data import open_data
from ladder.errors import UserError
from ladder.training.recipe import Recipe
if __name__ == "__main__":
    config = DataConfig(name="a", source="imagefolder", root=sys.argv[1], image_size=8, loader="timm", workers=2)
    data = open_data(config, Recipe(), seed=0, micro_batch=2, device=torch.device("cpu"))
    batches = data.train_batches(0)
    next(batches)
    print(*(process.pid for process in multiprocessing.active_children()), flush=True)
    if sys.argv[2] == "killed":
        time.sleep(600)
"""


@pytest.mark.parametrize("end", ["left", "killed"])
def test_workers_end_with_their_process(root: Path, tmp_path: Path, end: str) -> None:
    """Whether it forgets to close them or is killed; nor do they hold it up."""
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(root), end]
    environment = os.environ | {"PYTHONPATH": str(Path(ladder.__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        workers = [int(pid) for pid in process.stdout.readline().split()]
        assert len(workers) == 2
        if end == "killed":
            process.kill()
        process.wait(120)
    deadline = time.monotonic() + 30
    while any(running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in workers if running(pid)]


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
