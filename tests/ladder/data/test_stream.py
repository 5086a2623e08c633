"""Sets that can be read only from end to end, through a reader of ours in the place of timm's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import timm.data
import torch
from PIL import Image
from timm.data.dataset import ImageDataset, IterableImageDataset
from torch.utils.data import get_worker_info

from ladder.data import Batch, Data, open_data
from ladder.errors import UserError
from ladder.runs.config import DataConfig
from ladder.training.recipe import Recipe

CPU = torch.device("cpu")
SIZES = {"train": 23, "validation": 10}


class Reader:
    """Images 0, 1, ... of one shade each: shuffled and divided among workers in training, as timm's readers do."""

    def __init__(self, split: str, is_training: bool = False, seed: int = 0, broken: bool = False, **_: Any) -> None:
        self.split, self.is_training, self.seed, self.broken = split, is_training, seed, broken
        self.num_samples, self.epoch = SIZES[split], 0
        self.class_to_idx = {"dark": 0, "bright": 1}
        self.dist_rank, self.dist_num_replicas = 3, 8  # as if within a run of many ranks

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def item(self, index: int) -> tuple[Image.Image, int]:
        shade = index * 10
        pixels = np.full((12, 12, 3), shade, np.uint8)
        pixels[:, :6] = shade // 2
        return Image.fromarray(pixels), int(shade > 100)

    def __iter__(self) -> Iterator[tuple[Image.Image, int]]:
        order = np.arange(self.num_samples)
        if self.is_training:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_samples)
        elif self.dist_num_replicas > 1:
            order = order[self.dist_rank :: self.dist_num_replicas]
        worker = get_worker_info()
        for index in order[worker.id :: worker.num_workers] if worker else order:
            if self.broken:
                raise OSError("shard 7 is cut short")
            yield self.item(int(index))


@pytest.fixture(autouse=True)
def timm_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_dataset(name: str, split: str, **more: Any) -> Any:
        settings = {key: more[key] for key in ("is_training", "seed") if key in more}
        if name.startswith("hfds/"):
            return ImageDataset(None, reader=RandomAccess(split, **settings))
        return IterableImageDataset(None, reader=Reader(split, broken="broken" in name, **settings))

    monkeypatch.setattr(timm.data, "create_dataset", create_dataset)


class RandomAccess(Reader):
    """The same images by number, as encoded files."""

    def iter_targets(self) -> Iterator[int]:
        return (self.item(index)[1] for index in range(self.num_samples))

    def __getitem__(self, index: int) -> Any:
        import io

        stream = io.BytesIO()
        self.item(index)[0].save(stream, "png")
        stream.seek(0)
        return stream, self.item(index)[1]


def opened(name: str = "wds/shades", loader: str = "timm", recipe: Recipe | None = None, **settings: Any) -> Data:
    config = {"name": "shades", "source": "timm", "timm_name": name, "image_size": 8, "loader": loader, "workers": 0}
    config |= {key: settings.pop(key) for key in ("workers", "holdout", "num_classes", "eval_split") if key in settings}
    settings = {"seed": 0, "micro_batch": 3, "device": CPU} | settings
    data = DataConfig(**{"eval_split": "validation"} | config)  # type: ignore[arg-type]
    return open_data(data, recipe or Recipe(reprob=0.5, randaugment="rand-m9-inc1"), **settings)


def joined(batches: Iterator[Batch]) -> torch.Tensor:
    return torch.cat([torch.cat([images.flatten(1), labels[:, None].float()], 1) for images, labels in batches])


@pytest.mark.parametrize("name", ["wds/a", "hfds/a"])
@pytest.mark.parametrize("loader", ["timm", "memory"])
def test_facts(name: str, loader: str) -> None:
    data = opened(name, loader, accumulate=2)
    info = data.info
    assert (info.train_size, info.eval_size, info.eval_split) == (23, 10, "val")
    assert (info.num_classes, info.class_names) == (2, ("dark", "bright"))
    assert data.steps_per_epoch == 3
    assert len(list(data.train_batches(0))) == 6


@pytest.mark.parametrize("workers", [0, 2])
def test_training_repeats_itself_and_goes_on(workers: int) -> None:
    data = opened(workers=workers)
    state = torch.get_rng_state()
    whole = joined(data.train_batches(1))
    assert len(whole) == data.steps_per_epoch * 3
    assert torch.equal(whole, joined(data.train_batches(1)))
    assert not torch.equal(whole, joined(data.train_batches(2)))
    assert torch.equal(whole[4 * 3 :], joined(data.train_batches(1, 4)))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("name", ["wds/a", "hfds/a"])
@pytest.mark.parametrize("loader", ["timm", "memory"])
def test_evaluation_sees_each_image_once(world: int, name: str, loader: str) -> None:
    plain = Recipe(eval_crop_pct=1.0)
    seen: list[bytes] = []
    for rank in range(world):
        for batch in opened(name, loader, plain, rank=rank, world=world).eval_batches():
            seen += [row.numpy().tobytes() for row in joined(iter([batch]))]
    assert len(set(seen)) == len(seen) == 10


def test_a_hold_out_of_a_stream_needs_memory() -> None:
    assert opened(loader="memory", holdout=0.2).info.eval_split == "holdout"
    with pytest.raises(UserError, match=r"is a stream; use data\.loader=memory"):
        opened(holdout=0.2)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_stream_is_one_line(workers: int) -> None:
    data = opened("wds/broken", workers=workers)
    with pytest.raises(UserError, match="shard 7 is cut short") as caught:
        list(data.train_batches(0))
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
