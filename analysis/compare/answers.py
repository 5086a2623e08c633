"""Owns what the runs of a table answered, image by image: accuracy by class, confusions, images won and lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.compare.summary import Table, summarise
from analysis.read.load import load
from analysis.read.predictions import predictions_of
from ladder.errors import UserError, unknown
from ladder.runs.predictions import Predictions
from ladder.runs.records import Unreadable


@dataclass(frozen=True)
class Answers:
    """The predictions of one table's runs, by rung, of one set of images."""

    table: Table
    runs: Mapping[str, Sequence[Predictions]]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in order of their number."""
        return next(iter(self.runs.values()))[0].class_names

    @property
    def label(self) -> NDArray[np.int64]:
        """The class of each image."""
        return next(iter(self.runs.values()))[0].label

    def name_of(self, rung: str) -> str:
        """The name of a rung that is told by its name or number. Raises UserError."""
        names = {str(row.index): row.rung for row in self.table.rows if row.index is not None}
        name = names.get(rung, rung)
        if name not in self.runs:
            raise unknown("rung with predictions", rung, list(self.runs))
        return name

    def two(self, before: str, after: str) -> tuple[str, str]:
        """The names of two rungs to compare. Raises UserError where they are one."""
        names = self.name_of(before), self.name_of(after)
        if names[0] == names[1]:
            raise UserError(f"{names[0]} twice: name two rungs of {', '.join(self.runs)}")
        return names

    def of(self, rung: str) -> Sequence[Predictions]:
        """The runs of a rung, by its name or number. Raises UserError."""
        return self.runs[self.name_of(rung)]

    def by_class(self, rung: str) -> NDArray[np.float64]:
        """Top-1 of each class in percent, mean over seeds, (classes,); nan where no image is of a class."""
        right = np.mean([each.correct for each in self.of(rung)], axis=0)
        count = np.bincount(self.label, minlength=len(self.class_names))
        hits = np.bincount(self.label, weights=right, minlength=len(self.class_names))
        return np.asarray(100 * hits / np.where(count, count, np.nan), float)

    def confusion(self, rung: str) -> NDArray[np.float64]:
        """Percent of each class's images (rows) that are taken for each class (columns), mean over seeds."""
        size = max(len(self.class_names), 1 + max(int(each.predicted.max(initial=0)) for each in self.of(rung)))
        out = np.zeros((len(self.class_names), size))
        for each in self.of(rung):
            np.add.at(out, (each.label, each.predicted), 1.0)
        total = out.sum(axis=1, keepdims=True)
        return np.asarray(100 * out / np.where(total, total, np.nan), float)

    def won(self, before: str, after: str) -> NDArray[np.float64]:
        """How much more often `after` is right than `before`, of each image, over the seeds: -1 to 1, (images,)."""
        one, other = (np.mean([each.correct for each in self.of(rung)], axis=0) for rung in (before, after))
        return np.asarray(other - one, float)


def answers_of(table: Table, paths: Mapping[str, Sequence[str]]) -> Answers:
    """The answers of a table's finished runs, whose paths are given by rung; rungs without predictions are left out.

    Raises UserError where no run kept any, or where the runs saw different images.
    """
    runs: dict[str, list[Predictions]] = {}
    for rung, of_rung in paths.items():
        for path in of_rung:
            try:
                found = predictions_of(path)
            except Unreadable as error:
                raise UserError(f"{path}: {error}") from None
            if found is not None:
                runs.setdefault(rung, []).append(found)
    every = [each for of_rung in runs.values() for each in of_rung]
    if not every:
        raise UserError(
            "no run of this study kept predictions.npz (an earlier version trained them, or W&B holds them); train"
            " them again to see what they answered"
        )
    first = every[0]
    if any(
        not np.array_equal(first.image, each.image)
        or not np.array_equal(first.label, each.label)
        or first.class_names != each.class_names
        for each in every
    ):
        raise UserError("the runs of this table saw different images or classes: narrow them by --where")
    return Answers(table, runs)


def load_answers(study: Sequence[str], where: dict[str, str]) -> Answers:
    """What the runs of a study's one table answered. Raises UserError."""
    runs = load(study)
    tables = summarise(runs, where=where)
    if len(tables) > 1:
        raise UserError(f"{len(tables)} ladders or data sets are in this study: name one by --where ladder=NAME")
    done = runs[(runs["state"] == "done") & runs["path"].isin(list(tables[0].paths))]
    done = done.assign(rung=done["path"].map(dict(tables[0].paths)))
    paths: dict[str, list[str]] = {}
    for row in tables[0].rows:
        if found := [str(path) for path in done[done["rung"] == row.rung].sort_values("seed")["path"]]:
            paths[row.rung] = found
    return answers_of(tables[0], paths)
