"""Owns what the training engine sees of a data set: facts about it, and batches of it on the device."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ladder.errors import UserError
from ladder.runs.config import DataConfig

if TYPE_CHECKING:
    import torch

Batch: TypeAlias = "tuple[torch.Tensor, torch.Tensor]"  # images, labels


@dataclass(frozen=True)
class DataInfo:
    """What a run records about its data."""

    name: str
    num_classes: int
    class_names: tuple[str, ...]
    in_chans: int
    image_size: int  # pixels, square
    train_size: int
    eval_size: int
    eval_split: str  # test | val | holdout
    content: str | None = None  # of an image folder: a digest of its files; see `ladder.data.content`

    @classmethod
    def checked(
        cls, data: DataConfig, classes: tuple[str, ...], sizes: tuple[int, int], eval_split: str, global_batch: int
    ) -> DataInfo:
        """The facts of a set of `sizes` (training, evaluation) images. UserError where they don't fit the config."""
        if data.num_classes is not None and data.num_classes < len(classes):
            raise UserError(
                f"data.num_classes={data.num_classes} but {data.name} has {len(classes)} classes; "
                f"allowed: {len(classes)} or more"
            )
        if global_batch > sizes[0]:
            raise UserError(
                f"a global batch of {global_batch} images is larger than the {sizes[0]} training images of "
                f"{data.name}; allowed: recipe.batch_size up to {sizes[0]}"
            )
        count = data.num_classes or len(classes)
        return cls(data.name, count, classes, data.in_chans, data.image_size, *sizes, eval_split)


class Data(abc.ABC):
    """A data set, opened for one process of a run."""

    info: DataInfo
    steps_per_epoch: int  # optimiser steps
    crop_pct: float = 1.0  # in evaluation: the centre crop's side / the side that the image is resized to

    @abc.abstractmethod
    def train_batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Micro-batches of an epoch from optimiser step `start_step` on, `accumulate` of them for each step.

        Yields (images, labels): float32 (micro_batch, in_chans, image_size, image_size), augmented and normalised, and
        int64 (micro_batch,), both on the device. A pure function of (seed, epoch, step, rank): the global random
        states are neither read nor changed. Global batch s is the s-th part of the epoch's permutation; what is left
        after the last whole one is not seen in this epoch.
        """

    @abc.abstractmethod
    def eval_batches(self) -> Iterator[Batch]:
        """This rank's part of the evaluation images (rank::world: none twice, none left out), as train_batches."""

    @abc.abstractmethod
    def eval_images(self) -> range:
        """The numbers of the images of `eval_batches` in the evaluation split, in its order."""

    def close(self) -> None:  # noqa: B027  not every loader holds something
        """Release worker processes and memory. The object can't be used after."""
