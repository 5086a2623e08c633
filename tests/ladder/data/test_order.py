"""Which image comes when: complete, disjoint, repeatable, whatever the division of a batch."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ladder.data.order import (
    Shard,
    global_random_state_kept,
    hold_out,
    permutation,
    sample_seeds,
    seed_global,
    uniforms,
)

small = st.integers(1, 6)


@given(small, small, small, st.integers(0, 5), st.integers(0, 5))
def test_ranks_and_micro_batches_divide_each_global_batch(
    micro: int, accumulate: int, world: int, steps: int, start: int
) -> None:
    shares = [Shard(micro, accumulate, rank, world) for rank in range(world)]
    size = shares[0].global_batch
    assert size == micro * accumulate * world
    starts = [list(shard.starts(start + steps, start)) for shard in shares]
    assert all(len(own) == steps * accumulate for own in starts)
    for step in range(steps):
        seen = [
            position
            for own in starts
            for first in own[step * accumulate : (step + 1) * accumulate]
            for position in range(first, first + micro)
        ]
        assert sorted(seen) == list(range((start + step) * size, (start + step + 1) * size))


@given(st.integers(-(2**40), 2**70), st.integers(0, 10**6), st.integers(0, 500))
def test_an_epoch_is_a_permutation(seed: int, epoch: int, size: int) -> None:
    order = permutation(seed, epoch, size)
    assert sorted(order) == list(range(size))
    assert np.array_equal(order, permutation(seed, epoch, size))


def test_seeds_and_epochs_differ_in_everything() -> None:
    keys = [(0, 0), (0, 1), (1, 0), (1, 1), (2**32, 0), (-1, 0)]
    assert len({permutation(*key, 50).tobytes() for key in keys}) == len(keys)
    assert len({uniforms(*key, 0, 4, 4).tobytes() for key in keys}) == len(keys)
    assert len({sample_seeds(*key, 0, 4).tobytes() for key in keys}) == len(keys)


@given(st.integers(0, 300), st.integers(1, 40), st.integers(1, 30))
def test_a_positions_numbers_do_not_depend_on_where_the_batch_begins(start: int, rows: int, columns: int) -> None:
    whole = uniforms(3, 5, 0, start + rows, columns)
    assert np.array_equal(uniforms(3, 5, start, rows, columns), whole[start:])
    assert np.array_equal(sample_seeds(3, 5, start, rows), sample_seeds(3, 5, 0, start + rows)[start:])


def test_numbers_are_uniform_and_unrelated() -> None:
    table = uniforms(0, 0, 0, 20000, 5)
    assert table.min() >= 0
    assert table.max() < 1
    assert np.allclose(table.mean(0), 0.5, atol=0.01)
    assert np.allclose(np.corrcoef(table.T), np.eye(5), atol=0.03)
    assert abs(np.corrcoef(table[:-1, 0], table[1:, 0])[0, 1]) < 0.03
    assert len(np.unique(sample_seeds(0, 0, 0, 1000))) == 1000


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.floats(0.01, 0.9))
def test_hold_out_takes_its_part_of_every_class(labels: list[int], part: float) -> None:
    array = np.array(labels)
    kept, held = hold_out(array, part)
    assert sorted([*kept, *held]) == list(range(len(labels)))
    for label in set(labels):
        count, out = labels.count(label), int((array[held] == label).sum())
        assert out == min(max(1, round(part * count)), count - 1)


def test_hold_out_is_fixed() -> None:
    labels = np.repeat([0, 1, 2], 10)
    np.random.seed(1)
    first = hold_out(labels, 0.2)[1]
    np.random.seed(2)
    assert np.array_equal(first, hold_out(labels, 0.2)[1])
    assert first.tolist() != [0, 1, 10, 11, 20, 21]  # not just the first ones of a class


def test_global_random_state_is_kept_even_on_errors() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))

    seed_global(1)
    expected = draw()
    seed_global(1)
    with pytest.raises(ZeroDivisionError), global_random_state_kept():
        seed_global(7 // int(draw()[0]))
    assert draw() == expected
