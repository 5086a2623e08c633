"""Owns the reading of metrics.csv: the epochs of many runs as one frame."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

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
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(read_text, runs["path"].tolist()))
    by_header: dict[str, list[tuple[int, str]]] = {}
    for number, text in enumerate(texts):
        header, _, body = text.partition("\n")
        if not body.strip():
            continue  # no epoch yet
        if missing := [c for c in columns if c not in header.split(",")]:
            on_skip(f"{runs['path'][number]}: metrics.csv lacks {', '.join(missing)}")
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


def read_text(path: str) -> str:
    """The text of a run's metrics.csv; empty where it has none, or none that can be read."""
    from analysis.read.packed import of_run

    try:
        with open(os.path.join(path, "metrics.csv"), encoding="utf-8") as file:
            return file.read().replace("\r\n", "\n")
    except (FileNotFoundError, NotADirectoryError):
        packed = of_run(path)
        return "" if packed is None else packed[0].curves.get(packed[1], "")
    except (OSError, ValueError):
        return ""


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
        frame = pd.read_csv(io.StringIO("\n".join([f"_run,{header}", *lines])), dtype="float64", index_col=False)
        if frame[["epoch", "step"]].isna().any(axis=None):
            raise ValueError("an epoch or a step is empty")
        return [frame.astype({"_run": "int64"})]
    except ValueError as error:
        if len(bodies) == 1:
            text = " ".join(str(error).split())
            on_skip(f"{runs['path'][bodies[0][0]]}: metrics.csv is broken ({text})")
            return []
        middle = len(bodies) // 2
        halves = (bodies[:middle], bodies[middle:])
        return [part for half in halves for part in _parse(header, half, runs, columns, on_skip)]
