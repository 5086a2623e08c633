"""Owns the `memory` loader: the whole set as one uint8 tensor on the device, augmented there batch by batch."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image

from ladder.data.augment import Augment, Normalize
from ladder.data.base import Batch, Data, DataInfo
from ladder.data.images import Images, decoded
from ladder.data.order import Shard, permutation, uniforms
from ladder.data.sources import Source
from ladder.errors import UserError
from ladder.runs.config import DataConfig
from ladder.training.recipe import Recipe

_CHUNK = 256  # images decoded by one task of the pool
_LARGE = 160**2  # pixels


class MemoryData(Data):
    """A set of small images. Decoding happens once, here; a batch costs a few kernels on the device.

    Random numbers are drawn on the host and sent with the batch's indices, so no kernel is waited for, and CPU and
    GPU see the same crops, flips and operations.
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
        self._seed, self._shard, self._device = seed, shard, device
        self._augment = Augment(recipe, data, seed, device)
        self._normalize = Normalize(data, device)
        filter_ = pillow_filter(recipe)
        self._check_memory(info, device)
        self._train = self._to_device(source.train, filter_, "training")
        self._eval = self._to_device(source.evaluation, filter_, info.eval_split)

    @staticmethod
    def _check_memory(info: DataInfo, device: torch.device) -> None:
        needed = (info.train_size + info.eval_size) * info.in_chans * info.image_size**2
        there = memory_of(device)
        if needed > 0.9 * there:
            raise UserError(
                f"data.loader=memory needs {needed / 1e9:.1f} GB for {info.name} at {info.image_size} px, {device} has "
                f"{there / 1e9:.1f} GB; use data.loader=timm"
            )

    def _to_device(self, images: Images, filter_: Image.Resampling, what: str) -> Batch:
        label = f"decoding {len(images.labels):,} {what} images of {self.info.name}"
        pixels = decode(images, self.info.image_size, self.info.in_chans, filter_, label)
        return pixels.to(self._device), torch.from_numpy(images.labels).to(self._device)

    def train_batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        pixels, labels = self._train
        size = self._shard.micro_batch
        order = torch.from_numpy(permutation(self._seed, epoch, len(labels))).to(self._device)
        for start in self._shard.starts(self.steps_per_epoch, start_step):
            index = order[start : start + size]
            draws = uniforms(self._seed, epoch, start, size, self._augment.columns)
            yield self._augment(pixels.index_select(0, index), draws), labels.index_select(0, index)

    def eval_batches(self) -> Iterator[Batch]:
        pixels, labels = (part[self._shard.rank :: self._shard.world] for part in self._eval)
        for start in range(0, len(labels), self._shard.micro_batch):
            part = slice(start, start + self._shard.micro_batch)
            yield self._normalize(pixels[part]), labels[part]

    def eval_images(self) -> range:
        return range(self._shard.rank, self.info.eval_size, self._shard.world)

    def close(self) -> None:
        self._train = self._eval = (torch.empty(0), torch.empty(0))


def memory_of(device: torch.device) -> int:
    """Bytes that a device has in all."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def pillow_filter(recipe: Recipe) -> Image.Resampling:
    """The filter that images are resized with."""
    return Image.Resampling[recipe.interpolation.upper()]


def decode(images: Images, size: int, in_chans: int, filter_: Image.Resampling, label: str) -> torch.Tensor:
    """All images as uint8 (N, in_chans, size, size), the shorter side resized to `size` and the centre taken.

    Shows a bar under `label` when it takes more than a second and someone watches.
    """
    count = len(images.labels)
    pixels = np.empty((count, in_chans, size, size), dtype=np.uint8)

    def fill(start: int) -> int:
        stop = min(start + _CHUNK, count)
        for i in range(start, stop):
            image = fit(decoded(images.open(i), in_chans), size, filter_)
            for plane, band in zip(pixels[i], image.split(), strict=True):
                plane[:] = np.asarray(band)
        return stop - start

    from ladder.data.progress import counted

    # Reading a small image is mostly Python, which threads would only hand to and fro (twice as slow with two)
    large = math.prod(images.open(0).size) > _LARGE
    with ThreadPoolExecutor(min(32, os.cpu_count() or 1) if large else 1) as pool:
        try:
            for _ in counted(pool.map(fill, range(0, count, _CHUNK)), count, label):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)  # an undecodable image, Ctrl-C: don't decode the rest first
            raise
    return torch.from_numpy(pixels)


def fit(image: Image.Image, size: int, filter_: Image.Resampling) -> Image.Image:
    """The image with its shorter side resized to `size`, then the centre square."""
    width, height = image.size
    if (width, height) == (size, size):
        return image
    short = min(width, height)
    wide, high = max(size, size * width // short), max(size, size * height // short)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    return image.resize((wide, high), filter_).crop((left, top, left + size, top + size))
