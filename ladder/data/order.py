"""Owns which image comes when and with which random numbers: pure functions of (seed, epoch, position).

Nothing here reads or changes a global random state. A *position* is a place in an epoch's permutation. Permutation and
random numbers belong to the position, not to the rank or micro-batch that happens to hold it, so one global batch is
the same images, augmented the same, however many processes and accumulation steps share it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# What a stream of random numbers is for; streams of one (seed, epoch) are independent.
PERMUTATION, AUGMENTATION, WORKER = range(3)
_HOLDOUT_SEED = 20220110  # fixed, so that every run and every seed holds out the same images


def _bits(stream: int, seed: int, epoch: int, counter: int = 0) -> np.random.Philox:
    """The counter-based generator of one stream; `counter` skips as many blocks of four 64-bit numbers."""
    low, high = seed % 2**32, seed // 2**32 % 2**32  # words of one width: else (2**32, 0) would be (0, 1)
    key = np.random.SeedSequence([stream, epoch, low, high]).generate_state(2, np.uint64)
    return np.random.Philox(key=key, counter=counter)


def permutation(seed: int, epoch: int, size: int) -> Ints:
    """The order of an epoch: the image at each position."""
    return np.random.Generator(_bits(PERMUTATION, seed, epoch)).permutation(size)


def uniforms(seed: int, epoch: int, start: int, rows: int, columns: int) -> Floats:
    """`columns` numbers in [0, 1) for each of the positions start to start + rows: (rows, columns)."""
    blocks = -(-columns // 4)
    generator = np.random.Generator(_bits(AUGMENTATION, seed, epoch, start * blocks))
    return generator.random((rows, 4 * blocks))[:, :columns]


def sample_seeds(seed: int, epoch: int, start: int, rows: int) -> Ints:
    """A 32-bit seed for each of the positions start to start + rows."""
    raw = _bits(WORKER, seed, epoch, start).random_raw(4 * rows)
    return (raw.reshape(rows, 4)[:, 0] >> np.uint64(32)).astype(np.int64)


@dataclass(frozen=True)
class Shard:
    """How a global batch is divided: over `world` ranks, each with `accumulate` micro-batches of `micro_batch`."""

    micro_batch: int
    accumulate: int = 1
    rank: int = 0
    world: int = 1

    @property
    def global_batch(self) -> int:
        """Images of an optimiser step, over all ranks."""
        return self.micro_batch * self.accumulate * self.world

    def starts(self, steps: int, start_step: int = 0) -> Iterator[int]:
        """First positions of this rank's micro-batches, from optimiser step `start_step` on."""
        for step in range(start_step, steps):
            first = step * self.global_batch + self.rank * self.accumulate * self.micro_batch
            yield from range(first, first + self.accumulate * self.micro_batch, self.micro_batch)


def hold_out(labels: Ints, part: float) -> tuple[Ints, Ints]:
    """Two sorted index arrays (kept, held out). Each class gives `part` of its images, rounded, but at least one and
    never all; a class of one image keeps it. The choice depends on the labels alone.
    """
    generator = np.random.Generator(np.random.Philox(key=_HOLDOUT_SEED))
    held = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        held.append(members[: min(max(1, round(part * len(members))), len(members) - 1)])
    out = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), out), out


@contextmanager
def global_random_state_kept() -> Iterator[None]:
    """Whatever the block draws from the global generators of Python, NumPy and torch (CPU), they are as they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def seed_global(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch (CPU only, so that a worker never touches CUDA)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
