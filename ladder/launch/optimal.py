"""Owns the choice of D-optimal runs: the rows of a list of candidates whose linear model has the largest determinant.

Row exchange (Fedorov, Theory of Optimal Experiments, 1972, in the one-row-at-a-time form of Cook and Nachtsheim,
Technometrics 22, 1980) from random starts. Candidates are a list, so that any rule of what may stand together is kept;
rows are split into blocks (seeds), each with a mean of its own; rows that exist already (an earlier study's) count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

Matrix = NDArray[np.float64]
_RIDGE = 1e-7  # keeps a start that can't tell all effects apart from being singular; removed from what is reported
_GAIN = 1e-9  # a smaller gain of the determinant is rounding
_TIE = 1e-6  # gains that differ by less, relatively, are one: the first of them is taken, on every processor
_WORK = 4e8  # multiplications that the starts may take together, about; at least _STARTS are made
_STARTS, _ENOUGH = 8, 40


@dataclass(frozen=True)
class Choice:
    """Rows chosen: the index of each row's candidate, and the natural logarithm of the determinant of X'X."""

    rows: tuple[int, ...]
    logdet: float


def choose(
    candidates: Matrix,
    blocks: Sequence[int],
    *,
    existing: Matrix | None = None,
    existing_blocks: Sequence[int] = (),
    starts: int | None = None,
    seed: int = 0,
) -> Choice | None:
    """The best rows that the starts find; None where no choice of them tells all effects apart.

    Args:
        candidates: C x q, a row for each run that may be made, a column for each effect (no column of ones).
        blocks: the block of each row to choose, numbered from 0; one row is never chosen twice in one block.
        existing: rows that are there already (E x q), with `existing_blocks`.
        starts: random starts; None: as many as take some seconds.
        seed: of the random starts.
    """
    count, width = candidates.shape
    block_of = np.asarray(blocks)
    total = 1 + max([*blocks, *existing_blocks], default=0)
    given = _with_blocks(np.empty((0, width)) if existing is None else existing, existing_blocks, total)
    base = given.T @ given + _RIDGE * np.eye(total + width)
    taken = _taken(candidates, existing, existing_blocks)
    rng = np.random.default_rng(seed)
    if starts is None:
        work = 8 * count * (width + total) * max(len(blocks), 1)  # of one start: some eight passes
        starts = min(max(_STARTS, int(_WORK / work)), _ENOUGH)
    best: Choice | None = None
    for _ in range(starts):
        rows = _random_rows(rng, count, block_of, taken)
        if rows is None:
            return None
        with threadpool_limits(1):  # the matrices are small: threads would only wait for each other
            _exchange(rows, candidates, block_of, total, base, taken)
        chosen = np.vstack([given, _with_blocks(candidates[rows], block_of.tolist(), total)])
        sign, logdet = np.linalg.slogdet(chosen.T @ chosen)
        if (
            sign > 0
            and np.linalg.matrix_rank(chosen) == total + width
            and (best is None or logdet > best.logdet + _GAIN)
        ):
            best = Choice(tuple(int(i) for i in rows), float(logdet))
    return best


def _with_blocks(rows: Matrix, blocks: Sequence[int], total: int) -> Matrix:
    """Rows of the model: a column of ones and noughts for each block, then the effects."""
    return np.hstack([np.eye(total)[np.asarray(blocks, dtype=int)], rows])


def _taken(candidates: Matrix, existing: Matrix | None, blocks: Sequence[int]) -> dict[int, set[int]]:
    """For each block the candidates that are there already."""
    index = {row.tobytes(): i for i, row in enumerate(candidates)}
    taken: dict[int, set[int]] = {}
    for row, block in zip([] if existing is None else existing, blocks, strict=True):
        if (found := index.get(np.ascontiguousarray(row).tobytes())) is not None:
            taken.setdefault(block, set()).add(found)
    return taken


def _random_rows(
    rng: np.random.Generator, count: int, block_of: NDArray[np.intp], taken: dict[int, set[int]]
) -> NDArray[np.intp] | None:
    rows = np.empty(len(block_of), dtype=np.intp)
    for block in np.unique(block_of):
        where = np.flatnonzero(block_of == block)
        free = np.setdiff1d(np.arange(count), list(taken.get(int(block), ())))
        if len(free) < len(where):
            return None
        rows[where] = rng.choice(free, len(where), replace=False)
    return rows


def _exchange(
    rows: NDArray[np.intp],
    candidates: Matrix,
    block_of: NDArray[np.intp],
    total: int,
    base: Matrix,
    taken: dict[int, set[int]],
) -> None:
    """Replace one row after another, in place, by the candidate that raises the determinant most, until none does."""
    chosen = _with_blocks(candidates[rows], block_of.tolist(), total)
    inverse = _inverse(base + chosen.T @ chosen)
    used = {int(b): {*taken.get(int(b), ()), *rows[block_of == b].tolist()} for b in np.unique(block_of)}
    half: Matrix | None = None
    changed = True
    while changed:
        changed = False
        for i, block in enumerate(block_of.tolist()):
            if half is None:  # of the present inverse: C x q, and x'Vx without the block's part
                half = candidates @ inverse[total:, total:]
                square = np.einsum("ij,ij->i", half, candidates)
            row = np.concatenate([np.eye(total)[block], candidates[rows[i]]])
            v = inverse @ row
            own = float(row @ v)
            variance = inverse[block, block] + 2 * (candidates @ inverse[total:, block]) + square
            covariance = v[block] + candidates @ v[total:]
            gain = variance - own - variance * own + covariance**2  # det(new) / det(old) - 1
            gain[list(used[block])] = -np.inf
            new = int(np.argmax(gain >= gain.max() - _TIE * abs(gain.max())))
            if gain[new] <= _GAIN:
                continue
            used[block].remove(int(rows[i]))
            used[block].add(new)
            added = np.concatenate([np.eye(total)[block], candidates[new]])
            inverse = _updated(_updated(inverse, added, 1.0), row, -1.0)
            rows[i] = new
            half, changed = None, True
        chosen = _with_blocks(candidates[rows], block_of.tolist(), total)
        inverse = _inverse(base + chosen.T @ chosen)  # anew after each pass: updates add up rounding
        half = None


def _inverse(information: Matrix) -> Matrix:
    return np.asarray(np.linalg.inv(information), float)


def _updated(inverse: Matrix, row: Matrix, sign: float) -> Matrix:
    """The inverse after a row is added (1) or removed (-1); Sherman and Morrison."""
    v = inverse @ row
    return inverse - sign * np.outer(v, v) / (1 + sign * float(row @ v))
