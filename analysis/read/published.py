"""Owns the published numbers beyond the ladders (`analysis/read/reference/`), as rows."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

FOLDER = Path(__file__).parent / "reference"
PAPER = "arXiv:2201.03545v2"  # ConvNeXt; rows from elsewhere are not in its tables


@lru_cache(maxsize=16)
def rows(name: str) -> tuple[Mapping[str, str], ...]:
    """The rows of `analysis/read/reference/NAME.csv`, as text; an empty cell was not found."""
    with open(FOLDER / f"{name}.csv", newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


def number(text: str) -> float | None:
    """A cell as a number; None where it is empty or not one (">94")."""
    try:
        return float(text)
    except ValueError:
        return None
