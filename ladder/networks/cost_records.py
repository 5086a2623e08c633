"""Owns the records of what a network costs, for who counts it (`cost`, `outline`) and who shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """`params`: trainable numbers. `macs`: multiply-accumulates of convolutions, linear layers and attention products
    for one image; what the papers call FLOPs."""

    params: int
    macs: int


@dataclass(frozen=True)
class LayerCost:
    """The cost of one module without its children. `kind`: dense conv, depthwise conv, pointwise conv, linear, norm,
    other."""

    path: str
    kind: str
    params: int
    macs: int
