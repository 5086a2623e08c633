"""Owns the `timm` loader for streams (hfids/, tfds/, wds/), which can be read only from end to end.

What can't be promised as for other sets: the order is the reader's, so it depends on the number of workers and ranks
too; to go on within an epoch, what came before is read again; a rank may see an image that another one sees; rank 0
evaluates alone (timm's readers divide evaluation among ranks only roughly). With the `memory` loader all promises hold.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.loader import PrefetchLoader
from timm.data.readers.shared_count import SharedCount
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ladder.data.augment import Erase, channels
from ladder.data.base import Batch, Data, DataInfo
from ladder.data.images import decoded, eight_bit
from ladder.data.order import Shard, global_random_state_kept, sample_seeds, seed_global, uniforms
from ladder.data.sources import reader_classes, timm_dataset, undivided
from ladder.data.transforms import Transform, eval_transform, train_transform
from ladder.data.workers import loader_settings
from ladder.errors import UserError, one_line
from ladder.runs.config import DataConfig
from ladder.training.recipe import Recipe

_BLOCK = 1024  # seeds drawn at once


class StreamData(Data):
    """A stream of images, read by worker processes that live for one epoch."""

    def __init__(self, data: DataConfig, recipe: Recipe, seed: int, shard: Shard, device: torch.device) -> None:
        for key, value, whole in (("holdout", data.holdout, 0), ("fraction", data.fraction, 1)):
            if value != whole:
                raise UserError(f"data.{key}={value}: {data.timm_name} is a stream; use data.loader=memory")
        self._data, self._seed, self._shard, self._device = data, seed, shard, device
        training = {"is_training": True, "batch_size": shard.micro_batch, "seed": seed % 2**31}
        self._train = timm_dataset(data, data.train_split, **training)
        self._eval = undivided(timm_dataset(data, data.eval_split))
        classes = reader_classes(self._train.reader) or tuple(map(str, range(data.num_classes or 0)))
        if not classes:
            raise UserError(f"data.num_classes is not set, and {data.timm_name} doesn't say how many classes it has")
        sizes = self._train.reader.num_samples, self._eval.reader.num_samples
        split = "val" if data.eval_split in ("val", "validation") else "test"
        self.info = DataInfo.checked(data, classes, sizes, split, shard.global_batch)
        self.steps_per_epoch = self.info.train_size // shard.global_batch
        for reader in (self._train.reader, self._eval.reader):
            _Count.replace(reader)
        self.crop_pct = recipe.eval_crop_pct
        self._transforms = train_transform(recipe, data), eval_transform(recipe, data, final=False)
        self._erase = Erase(recipe, (data.in_chans, data.image_size, data.image_size), seed, device)

    def train_batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        self._train.set_epoch(epoch)
        starts = self._shard.starts(self.steps_per_epoch)  # of the positions whose random numbers erase
        stream = self._batches(self._train, self._transforms[0], (epoch, self._shard.rank))
        skipped = start_step * self._shard.accumulate
        for start, (images, labels) in itertools.islice(zip(starts, stream, strict=False), skipped, None):
            draws = uniforms(self._seed, epoch, start, len(images), self._erase.columns)
            yield self._erase(images, draws), labels

    def eval_batches(self) -> Iterator[Batch]:
        if self._shard.rank == 0:
            yield from self._batches(self._eval, self._transforms[1], None)

    def eval_images(self) -> range:
        return range(self.info.eval_size if self._shard.rank == 0 else 0)

    def _batches(self, dataset: Any, transform: Transform, key: tuple[int, int] | None) -> Iterator[Batch]:
        """Normalised batches on the device. `key` (epoch, rank): what the augmentation's seeds follow from."""
        workers = self._data.workers
        dataset.set_loader_cfg(num_workers=workers)
        loader: DataLoader[Any] = DataLoader(
            _Stream(dataset, transform, self._data, self._seed, key),
            batch_size=self._shard.micro_batch,
            drop_last=key is not None,
            **loader_settings(workers, self._device, persistent=False),
        )
        if key is not None:
            loader.generator.manual_seed(int(sample_seeds(self._seed, key[0], key[1], 1)[0]))  # the readers use it
        mean, std = (channels(values, self._data.in_chans) for values in (self._data.mean, self._data.std))
        yield from PrefetchLoader(_Kept(loader), mean, std, self._data.in_chans, self._device)  # type: ignore[arg-type]


class _Count(SharedCount):
    """A reader's epoch as a plain number. timm's lies in memory shared by fork, which can't go to a fork server's
    children; nor need it, as workers start with each epoch."""

    def __init__(self) -> None:
        self.value = 0

    @property
    def value(self) -> int:
        """The epoch."""
        return self._epoch

    @value.setter
    def value(self, epoch: int) -> None:
        self._epoch = epoch

    @classmethod
    def replace(cls, reader: Any) -> None:
        """Put it in the place of timm's."""
        for name, value in vars(reader).items():
            if isinstance(value, SharedCount):
                setattr(reader, name, cls())


class _Kept:
    """A loader's batches; what drawing them does to the global random state is undone."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[Batch]:
        with global_random_state_kept():
            iterator = iter(self._loader)
        while True:
            with global_random_state_kept():
                try:
                    batch = next(iterator, None)
                except Exception as error:  # of the readers' libraries, on broken shards or connections
                    last = str(error).strip().splitlines()[-1:]  # of a worker's traceback
                    raise UserError(f"reading a stream failed ({last[0] if last else one_line(error)})") from error
            if batch is None:
                return
            yield batch


class _Stream(IterableDataset[Any]):
    """What a worker holds: the reader's images, each transformed under a seed of its own."""

    def __init__(
        self, dataset: Any, transform: Transform, data: DataConfig, seed: int, key: tuple[int, int] | None
    ) -> None:
        self._dataset, self._transform, self._in_chans = dataset, transform, data.in_chans
        self._seed, self._key = seed, key

    def __iter__(self) -> Iterator[tuple[torch.Tensor, int]]:
        images: Iterator[tuple[Image.Image, Any]] = iter(self._dataset)
        for (image, label), seed in zip(images, self._seeds(), strict=False):
            if seed is not None:
                seed_global(seed)
            array = torch.from_numpy(np.array(self._transform(decoded(eight_bit(image), self._in_chans))))
            yield array[None] if array.ndim == 2 else array.permute(2, 0, 1), int(label)

    def _seeds(self) -> Iterator[int | None]:
        """A seed for each image that this worker reads: a stream of its own for each epoch, rank and worker."""
        if self._key is None:
            yield from itertools.repeat(None)
        else:
            epoch, rank = self._key
            worker = get_worker_info()
            place = (rank * 1024 + (worker.id if worker else 0)) << 40
            for block in itertools.count(place, _BLOCK):
                yield from sample_seeds(self._seed, epoch, block, _BLOCK).tolist()
