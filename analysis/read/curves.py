"""Owns the reading of metrics.csv: the epochs of many runs as one frame."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from analysis.read.columns import limits
from analysis.read.threads import map_threads
from ladder.common.text import printable
from ladder.errors import one_line
from ladder.runs.records import Unreadable, read_text

if TYPE_CHECKING:
    import pandas as pd


def read_curves(
    runs: pd.DataFrame, keys: Sequence[str], columns: Sequence[str], on_skip: Callable[[str], None]
) -> pd.DataFrame:
    """The metrics.csv of every run of a frame of `analysis.load`, `keys` of that frame beside each epoch.

    Files of one header are joined and parsed at once: a parse a file takes most of a minute at 10,000 runs.
    """
    import pandas as pd

    runs = runs.reset_index(drop=True)
    texts = map_threads(_text_or_reason, runs["path"].tolist())
    by_header: dict[str, list[tuple[int, str]]] = {}
    for number, (text, reason) in enumerate(texts):
        if reason:
            on_skip(printable(f"{runs['path'][number]}: {reason}"))
        header, _, body = text.partition("\n")
        if not body.strip():
            continue  # no epoch yet
        if missing := [c for c in columns if c not in header.split(",")]:
            on_skip(printable(f"{runs['path'][number]}: metrics.csv lacks {', '.join(missing)}"))
        else:
            by_header.setdefault(header, []).append((number, body))
    parts: list[pd.DataFrame] = []
    for header, bodies in by_header.items():
        parts += _parse(header, bodies, runs, columns, on_skip)
    if not parts:
        return pd.DataFrame(columns=[*keys, *columns])
    curves = pd.concat(parts, ignore_index=True)
    joined = runs.loc[curves["_run"], list(keys)].reset_index(drop=True)
    out = pd.concat([joined, curves[list(columns)]], axis=1)
    return out.astype({"epoch": "int64", "step": "int64"})


def text_of(path: str) -> str:
    """The text of a run's metrics.csv; empty where it has none. Raises Unreadable."""
    from analysis.read.packed import of_run

    text = read_text(os.path.join(path, "metrics.csv"))
    if text is not None:
        return text.replace("\r\n", "\n")
    packed = of_run(path)
    return "" if packed is None else packed[0].curves.get(packed[1], "")


def _text_or_reason(path: str) -> tuple[str, str]:
    try:
        return text_of(path), ""
    except Unreadable as reason:
        return "", str(reason)


def _parse(
    header: str,
    bodies: list[tuple[int, str]],
    runs: pd.DataFrame,
    columns: Sequence[str],
    on_skip: Callable[[str], None],
) -> list[pd.DataFrame]:
    """The bodies as one frame; halved until the broken one is found and told where they can't be read together."""
    import pandas as pd

    lines = [f"{number},{line}" for number, body in bodies for line in body.split("\n") if line.strip()]
    try:
        text = "\n".join([f"_run,{header}", *lines])
        frame = pd.read_csv(io.StringIO(text), dtype="float64", index_col=False, quoting=csv.QUOTE_NONE)
        _check(frame, columns)
        return [frame.astype({"_run": "int64"})]
    except ValueError as error:
        if len(bodies) == 1:
            on_skip(printable(f"{runs['path'][bodies[0][0]]}: metrics.csv is broken ({one_line(error)})"))
            return []
        middle = len(bodies) // 2
        halves = (bodies[:middle], bodies[middle:])
        return [part for half in halves for part in _parse(header, half, runs, columns, on_skip)]


def _check(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Make what is not finite a missing value, in place. Raises ValueError for a number that can't be."""
    import numpy as np

    frame.replace([np.inf, -np.inf], np.nan, inplace=True)  # noqa: PD002  (a copy of 10,000 runs' epochs for nothing)
    for column in columns:
        least, most = limits(column)
        if ((frame[column] < least) | (frame[column] > most)).any():
            raise ValueError(f"{column} is not from {least:.4g} to {most:.4g} everywhere")
    whole = frame[["epoch", "step"]]
    if whole.isna().any(axis=None) or (whole % 1 != 0).any(axis=None):
        raise ValueError("an epoch or a step is no whole number")
