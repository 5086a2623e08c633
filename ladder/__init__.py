"""Owns the public surface: build any rung of any ladder, count its cost, load a trained network.

Importing it is cheap: torch and timm are imported with the first name that needs them. timm knows the models
`ladder_<ladder>_<rung>` as soon as both `ladder` and `timm` are imported, in either order.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ladder.errors import UserError
from ladder.networks.rungs import Ladder, Rung, list_ladders, load_ladder
from ladder.networks.spec import IsotropicSpec, NetSpec
from ladder.networks.timm_hook import when_timm_is_imported

if TYPE_CHECKING:
    from ladder.networks.cost import measure_cost
    from ladder.networks.cost_records import Cost
    from ladder.networks.weights import load_model
    from ladder.networks.zoo import build_model, load_timm_state

__version__ = "0.1.0"
__all__ = [
    "Cost",
    "IsotropicSpec",
    "Ladder",
    "NetSpec",
    "Rung",
    "UserError",
    "build_model",
    "list_ladders",
    "load_ladder",
    "load_model",
    "load_timm_state",
    "measure_cost",
]

_LAZY = {
    "Cost": "ladder.networks.cost_records",
    "measure_cost": "ladder.networks.cost",
    "load_model": "ladder.networks.weights",
    "build_model": "ladder.networks.zoo",
    "load_timm_state": "ladder.networks.zoo",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'ladder' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


when_timm_is_imported(lambda: importlib.import_module("ladder.networks.zoo"))
