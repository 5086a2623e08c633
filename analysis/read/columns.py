"""Owns the columns of the frames that `analysis.load` gives: their types, and where in a run folder each is from."""

from __future__ import annotations

from functools import cache
from typing import Any

from ladder.runs.records import MOST

STATES = ("done", "running", "stopped", "failed", "pending")
UNREADABLE = "unreadable"

# column: (pandas dtype, where in result.json). A dot goes one level down.
RESULT: dict[str, tuple[str, str]] = {
    "ladder": ("str", "ladder"),
    "kind": ("str", "kind"),
    "rung": ("str", "rung"),
    "rung_index": ("Int64", "rung_index"),
    "title": ("str", "title"),
    "group": ("str", "group"),
    "parent": ("str", "parent"),
    "seed": ("Int64", "seed"),
    "data": ("str", "data"),
    "eval_split": ("str", "eval_split"),
    "train_size": ("Int64", "train_size"),
    "eval_size": ("Int64", "eval_size"),
    "num_classes": ("Int64", "num_classes"),
    "image_size": ("Int64", "image_size"),
    "in_chans": ("Int64", "in_chans"),
    "recipe": ("str", "recipe"),
    "epochs": ("Int64", "epochs"),
    "steps": ("Int64", "steps"),
    "batch_size": ("Int64", "batch_size"),
    "lr": ("float64", "lr"),
    "top1": ("float64", "final.top1"),
    "top5": ("float64", "final.top5"),
    "ema_top1": ("float64", "final.ema_top1"),
    "eval_loss": ("float64", "final.eval_loss"),
    "train_loss": ("float64", "final.train_loss"),
    "best_top1": ("float64", "best.top1"),
    "best_epoch": ("Int64", "best.epoch"),
    "params": ("Int64", "params"),
    "macs": ("Int64", "macs"),
    "images_per_s": ("float64", "images_per_s"),
    "peak_memory_bytes": ("Int64", "peak_memory_bytes"),
    "wall_s": ("float64", "wall_s"),
    "device": ("str", "device"),
    "precision": ("str", "precision"),
    "config_hash": ("str", "config_hash"),
    "group_hash": ("str", "group_hash"),
    "git_commit": ("str", "git_commit"),
    "git_dirty": ("boolean", "git_dirty"),
    "ladder_version": ("str", "versions.ladder"),
    "python_version": ("str", "versions.python"),
    "torch_version": ("str", "versions.torch"),
    "timm_version": ("str", "versions.timm"),
    "finished": ("str", "finished"),
}
NEEDED = ("ladder", "rung", "seed", "data", "top1", "group_hash")
STATUS: dict[str, tuple[str, str]] = {
    "epochs_done": ("Int64", "epoch"),
    "attempts": ("Int64", "attempts"),
    "error": ("str", "error"),
    "heartbeat": ("float64", "heartbeat"),
}
FOLDER = {"study": "str", "run": "str", "path": "str", "state": "str"}
DTYPES = {**FOLDER, **{k: v[0] for k, v in RESULT.items()}, **{k: v[0] for k, v in STATUS.items()}}
KINDS: dict[str, Any] = {"str": str, "Int64": int, "float64": float, "boolean": bool}  # pandas dtype: Python's
PERCENT = ("top1", "top5", "ema_top1", "best_top1")
SIGNED = ("eval_loss", "train_loss")


@cache
def limits(column: str) -> tuple[float, float]:
    """The least and the most that a number of this column, or of metrics.csv, can be."""
    return (0, 100) if column in PERCENT else (-MOST if column in SIGNED else 0, MOST)


CURVE_KEYS = ("study", "run", "path", "ladder", "rung", "rung_index", "seed")
