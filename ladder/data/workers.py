"""Owns the `timm` loader: worker processes that decode and augment with timm's transforms, for large images."""

from __future__ import annotations

import multiprocessing.connection
import os
import signal
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from ladder.data.augment import Erase, channels
from ladder.data.base import Batch, Data, DataInfo
from ladder.data.images import Images, decoded
from ladder.data.order import Shard, global_random_state_kept, permutation, sample_seeds, seed_global, uniforms
from ladder.data.sources import Source
from ladder.errors import UserError, one_line
from ladder.networks.timm_hook import without_wandb
from ladder.runs.config import DataConfig
from ladder.training.recipe import Recipe

with without_wandb():
    from timm.data.loader import PrefetchLoader

    from ladder.data.transforms import Transform, eval_transform, train_transform

Image.preinit()  # once in the fork server, not in each worker

Keys = list[tuple[int, int | None]]  # of a batch: image, seed of its augmentation
_PREFETCH = 4  # batches that each worker is ahead
_GRACE = 20  # seconds that a worker lives on after SIGTERM: what a run may need to save and end it


class WorkerData(Data):
    """A set of images of any size and number, read by worker processes.

    Each image is augmented under a seed of its own, which follows from (seed, epoch, position): the number of workers
    changes nothing. Batches travel as uint8; normalising and erasing happen on the device.
    """

    def __init__(
        self,
        source: Source,
        info: DataInfo,
        data: DataConfig,
        recipe: Recipe,
        seed: int,
        shard: Shard,
        device: torch.device,
    ) -> None:
        self.info, self.steps_per_epoch = info, info.train_size // shard.global_batch
        self._seed, self._shard = seed, shard
        self._erase = Erase(recipe, (data.in_chans, data.image_size, data.image_size), seed, device)
        final = _have_size(source.evaluation, data.image_size)
        self.crop_pct = 1.0 if final else recipe.eval_crop_pct
        self._train = _Pool(source.train, train_transform(recipe, data), data, device)
        self._eval = _Pool(source.evaluation, eval_transform(recipe, data, final), data, device)

    def train_batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        size = self._shard.micro_batch
        order = permutation(self._seed, epoch, self.info.train_size)

        def keys() -> Iterator[Keys]:
            for start in self._shard.starts(self.steps_per_epoch, start_step):
                seeds = sample_seeds(self._seed, epoch, start, size)
                yield list(zip(order[start : start + size].tolist(), seeds.tolist(), strict=True))

        starts = self._shard.starts(self.steps_per_epoch, start_step)
        for start, (images, labels) in zip(starts, self._train.batches(keys), strict=True):
            draws = uniforms(self._seed, epoch, start, size, self._erase.columns)
            yield self._erase(images, draws), labels

    def eval_batches(self) -> Iterator[Batch]:
        mine = self.eval_images()

        def keys() -> Iterator[Keys]:
            for start in range(0, len(mine), self._shard.micro_batch):
                yield [(index, None) for index in mine[start : start + self._shard.micro_batch]]

        yield from self._eval.batches(keys)

    def eval_images(self) -> range:
        return range(self._shard.rank, self.info.eval_size, self._shard.world)

    def close(self) -> None:
        self._train.close()
        self._eval.close()


def _have_size(images: Images, size: int) -> bool:
    """Whether images have size x size pixels already: 16 of them, spread over the set, answer for all."""
    count = len(images.labels)
    return all(images.open(int(i)).size == (size, size) for i in np.linspace(0, count - 1, min(count, 16)))


def loader_settings(workers: int, device: torch.device, *, persistent: bool) -> dict[str, Any]:
    """How a DataLoader's processes start and hand over batches."""
    if workers:
        # They come from a server process that never had threads, locks or CUDA, and imports what they need once.
        multiprocessing.set_forkserver_preload(["__main__", __name__])
    return {
        "num_workers": workers,
        "multiprocessing_context": "forkserver" if workers else None,
        "persistent_workers": persistent and workers > 0,
        "prefetch_factor": _PREFETCH if workers else None,
        "worker_init_fn": _start_worker,
        "pin_memory": device.type == "cuda",
        "generator": torch.Generator(),  # its own: else each epoch takes a number from the global one
    }


class _Pool:
    """Workers that make batches of one set; they start with the first batch and live until `close`."""

    def __init__(self, images: Images, transform: Transform, data: DataConfig, device: torch.device) -> None:
        self._plan, self._turn = _Plan(), 0
        loader: DataLoader[Any] = DataLoader(
            _Maker(images, transform, data.in_chans, data.image_size),
            batch_sampler=self._plan,
            collate_fn=_as_it_is,
            **loader_settings(min(data.workers, len(images.labels)), device, persistent=True),
        )
        mean, std = channels(data.mean, data.in_chans), channels(data.std, data.in_chans)
        self._prefetch = PrefetchLoader(_Host(loader), mean, std, data.in_chans, device)  # type: ignore[arg-type]
        # `loader` is kept by the finalizer, so that its parts are whole when it is shut down, whenever this object dies
        self.close = weakref.finalize(self, _shut_down, loader)

    def batches(self, keys: Callable[[], Iterator[Keys]]) -> Iterator[Batch]:
        """Normalised batches on the device, one for each item of `keys()`. Takes the workers from an earlier call."""
        self._turn += 1
        turn, self._plan.keys = self._turn, keys
        with closing(iter(self._prefetch)) as prefetched:
            for batch in prefetched:
                yield batch
                if turn != self._turn:
                    raise RuntimeError("the workers went to a later iteration; finish one before starting the next")


def _shut_down(loader: DataLoader[Any]) -> None:
    iterator = getattr(loader, "_iterator", None)  # of persistent workers
    if iterator is not None:
        iterator._shutdown_workers()


class _Plan:
    """What batches are to be made, as a batch sampler."""

    keys: Callable[[], Iterator[Keys]]

    def __iter__(self) -> Iterator[Keys]:
        return self.keys()


class _Host:
    """The uint8 batches of a loader, on the host."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[Batch]:
        try:
            iterator = iter(self._loader)
            while True:
                with global_random_state_kept():  # augmentation seeds them; without workers, in this process
                    made = next(iterator, None)
                if made is None:
                    return
                if isinstance(made, str):
                    raise UserError(made)
                yield made
        except (RuntimeError, OSError, EOFError) as error:  # the last two: while it hands over a batch
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
            hint = "too little memory or shared memory? try fewer data.workers, or 0"
            raise UserError(f"a data worker died ({one_line(error)}); {hint}") from error


class _Maker(Dataset[object]):
    """What a worker holds: images and what to do with them."""

    def __init__(self, images: Images, transform: Transform, in_chans: int, size: int) -> None:
        self._images, self._transform, self._in_chans, self._size = images, transform, in_chans, size

    def __getitem__(self, key: tuple[int, int | None]) -> object:
        return self.__getitems__([key])

    def __getitems__(self, keys: Keys) -> tuple[torch.Tensor, torch.Tensor] | str:
        """uint8 (B, C, S, S) and labels (B,); or, as errors don't travel well between processes, what went wrong."""
        pixels = torch.empty(len(keys), self._in_chans, self._size, self._size, dtype=torch.uint8)
        planes = pixels.numpy()
        try:
            for place, (index, seed) in enumerate(keys):
                if seed is not None:
                    seed_global(seed)
                image = self._transform(decoded(self._images.open(index), self._in_chans))
                for plane, band in zip(planes[place], image.split(), strict=True):
                    plane[:] = np.asarray(band)
        except UserError as error:
            return str(error)
        return pixels, torch.from_numpy(self._images.labels[[index for index, _ in keys]])


def _as_it_is(made: Iterable[object]) -> Iterable[object]:
    return made


def _start_worker(_: int) -> None:
    """Signals that ask a run to stop go to its whole process group. It finishes its step, then ends its workers.

    A worker that is to end by itself all the same (SIGTERM is torch's last resort) does so with a delay. One whose run
    is gone ends at once: torch looks only at its parent, which is the fork server, and that one waits for its workers.
    """
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # damaged EXIF, odd palettes: harmless
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE))
    threading.Thread(target=_follow_the_run, daemon=True).start()


def _follow_the_run() -> None:
    run = multiprocessing.parent_process()
    if run is not None:
        multiprocessing.connection.wait([run.sentinel])
        os._exit(1)
