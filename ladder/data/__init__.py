"""Owns the way from a data set's name to batches on the device: `open_data`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from ladder.data.base import Batch, Data, DataInfo
from ladder.runs.config import DataConfig
from ladder.training.recipe import Recipe

if TYPE_CHECKING:
    import torch

__all__ = ["Batch", "Data", "DataInfo", "open_data"]


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
    data.check()
    recipe.check()
    # Imported late: only a run needs them, and only one of the two loaders.
    from ladder.data.order import Shard
    from ladder.data.sources import is_stream, open_source

    shard = Shard(micro_batch, accumulate, rank, world)
    if data.loader == "timm" and is_stream(data):
        from ladder.data.stream import StreamData

        return StreamData(data, recipe, seed, shard, device)
    with _rank_0_first(data.download and world > 1, rank):
        source = open_source(data)
    sizes = len(source.train.labels), len(source.evaluation.labels)
    info = DataInfo.checked(data, source.class_names, sizes, source.eval_split, shard.global_batch)
    info = replace(info, content=source.content)
    if data.loader == "memory":
        from ladder.data.memory import MemoryData

        return MemoryData(source, info, data, recipe, seed, shard, device)
    from ladder.data.workers import WorkerData

    return WorkerData(source, info, data, recipe, seed, shard, device)


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
