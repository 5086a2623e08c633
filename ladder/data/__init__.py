"""Owns the way from a data set's name to batches on the device: `open_data`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ladder.config import DataConfig
from ladder.data.base import Batch, Data, DataInfo
from ladder.errors import UserError, unknown
from ladder.recipe import Recipe

if TYPE_CHECKING:
    import torch

__all__ = ["Batch", "Data", "DataInfo", "open_data"]

LOADERS = ("memory", "timm")
INTERPOLATIONS = ("bicubic", "bilinear")


def open_data(
    data: DataConfig,
    recipe: Recipe,
    *,
    seed: int,
    micro_batch: int,
    accumulate: int = 1,
    device: torch.device,
    rank: int = 0,
    world: int = 1,
) -> Data:
    """Open a data set for one process of a run.

    `micro_batch` images at a time, `accumulate` times per optimiser step, on each of `world` ranks. Raises UserError,
    in one line and before anything is written, where the config or what it points to is not as it must be.
    """
    _check(data, recipe)
    # Imported late: only a run needs them, and only one of the two loaders.
    from ladder.data.order import Share
    from ladder.data.sources import is_stream, open_source

    share = Share(micro_batch, accumulate, rank, world)
    if data.loader == "timm" and is_stream(data):
        from ladder.data.stream import StreamData

        return StreamData(data, recipe, seed, share, device)
    with _rank_0_first(data.download and world > 1, rank):
        source = open_source(data)
    sizes = len(source.train.labels), len(source.evaluation.labels)
    info = DataInfo.checked(data, source.class_names, sizes, source.eval_split, share.global_batch)
    if data.loader == "memory":
        from ladder.data.memory import MemoryData

        return MemoryData(source, info, data, recipe, seed, share, device)
    from ladder.data.workers import WorkerData

    return WorkerData(source, info, data, recipe, seed, share, device)


@contextmanager
def _rank_0_first(needed: bool, rank: int) -> Iterator[None]:
    """Let rank 0 do the block, such as a download, before the others do it with what is there then."""
    if not needed:
        yield
        return
    import torch.distributed as dist

    if rank > 0:
        dist.barrier()
    try:
        yield
    finally:
        if rank == 0:
            dist.barrier()


def _check(data: DataConfig, recipe: Recipe) -> None:
    """Raise UserError for the first value that can't be, before any file is opened."""
    if data.loader not in LOADERS:
        raise unknown("data.loader", data.loader, LOADERS)
    if data.in_chans not in (1, 3):
        raise UserError(f"data.in_chans={data.in_chans}; allowed: 1 (grayscale), 3 (colour)")
    if not 1 <= data.image_size <= 4096:
        raise UserError(f"data.image_size={data.image_size}; allowed: 1 to 4096 pixels")
    if not 0 <= data.holdout <= 0.9:
        raise UserError(
            f"data.holdout={data.holdout}; allowed: 0 (evaluate on the test set) to 0.9 of the training set"
        )
    if not 0 < data.fraction <= 1:
        raise UserError(f"data.fraction={data.fraction}; allowed: above 0, up to 1 (the whole training set)")
    if data.num_classes is not None and data.num_classes < 1:
        raise UserError(f"data.num_classes={data.num_classes}; allowed: 1 or more, or null to count them")
    if not 0 <= data.workers <= 1024:
        raise UserError(f"data.workers={data.workers}; allowed: 0 (load in the training process) to 1024")
    for key, values in (("mean", data.mean), ("std", data.std)):
        if len(values) not in (1, 3) or not all(math.isfinite(v) for v in values):
            raise UserError(f"data.{key}={list(values)}; allowed: one number for each of 3 channels, or one for all")
    if not all(v > 0 for v in data.std):
        raise UserError(f"data.std={list(data.std)}; allowed: numbers above 0")
    if recipe.interpolation not in INTERPOLATIONS:
        raise unknown("recipe.interpolation", recipe.interpolation, INTERPOLATIONS)
