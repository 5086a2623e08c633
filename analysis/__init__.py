"""Owns the door of `analysis`: run folders in, frames, tables, charts and reports out. It never trains."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from analysis.read.load import load, load_curves

if TYPE_CHECKING:
    from analysis.compare.summary import paper_table, summarise

__all__ = ["load", "load_curves", "paper_table", "summarise"]


def __getattr__(name: str) -> Any:
    if name not in ("paper_table", "summarise"):
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    importlib.import_module("analysis.show.formats")  # tables know how to show themselves in a notebook
    return getattr(importlib.import_module("analysis.compare.summary"), name)
