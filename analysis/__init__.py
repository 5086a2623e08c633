"""Owns the door of `analysis`: run folders in, frames, tables, charts and reports out. It never trains."""

from __future__ import annotations

from analysis.load import load, load_curves

__all__ = ["load", "load_curves"]
