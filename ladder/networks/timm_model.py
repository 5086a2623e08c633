"""Owns models of timm as networks of a run: random weights, arguments as the spec gives them, mistakes in one line."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from typing import Any

import timm
import torch
from torch import nn

from ladder.errors import UserError, one_line, unknown
from ladder.networks.arguments import nested
from ladder.networks.cost import measure_cost
from ladder.networks.spec import TimmSpec


def check_timm_model(name: str) -> None:
    """Refuse a name that timm does not know; a rung of ours is none of its own."""
    if timm.is_model(name) and not name.startswith("ladder_"):
        return
    names = [n for n in timm.list_models() if not n.startswith("ladder_")]
    near = difflib.get_close_matches(name, names, n=4, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    raise UserError(f"unknown timm model {name!r}; {hint}allowed: the names of timm.list_models()")


def build_timm_model(spec: TimmSpec, num_classes: int, in_chans: int, drop_rate: float = 0.0, **more: Any) -> nn.Module:
    """timm's model. A model bound to one image size is built for that of the spec, if it can be.

    `more`: further arguments of `timm.create_model` (`features_only=True`), before those of the spec.
    Raises UserError, one line, where timm's model takes none of these.
    """
    check_timm_model(spec.model)
    given: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_chans}
    if drop_rate:
        given["drop_rate"] = drop_rate
    if spec.drop_path:
        given["drop_path_rate"] = spec.drop_path
    cfg = timm.get_pretrained_cfg(spec.model)
    if cfg and cfg.fixed_input_size and spec.image_size not in (None, cfg.input_size[-1]):
        given["img_size"] = spec.image_size
    given |= {**nested(spec.args), **more}
    try:
        return timm.create_model(spec.model, **given)
    except (TypeError, ValueError, RuntimeError, AssertionError, ZeroDivisionError, KeyError, AttributeError) as error:
        if "drop_path_rate" in str(error):
            raise UserError(f"timm's {spec.model} has no drop path: it needs recipe.drop_path=0") from None
        if (mistake := _unknown_argument(spec.model, str(error))) is not None:
            raise mistake from None
        shown = ", ".join(f"{key}={value}" for key, value in given.items())
        raise UserError(f"timm's {spec.model} can't be built with {shown}: {one_line(error)}") from None


def _unknown_argument(model: str, message: str) -> UserError | None:
    """A constructor's refusal of an argument, with the names that it takes; None for another error."""
    found = re.search(r"(?:(\w+)\.__init__|(\w+))\(\) got an unexpected keyword argument '(\w+)'", message)
    if found is None:
        return None
    where = found[1] or found[2]
    entry = timm.models.model_entrypoint(model)
    modules = [sys.modules[entry.__module__], *(m for n, m in sys.modules.items() if n.startswith("timm."))]
    made = next((getattr(m, where) for m in modules if callable(getattr(m, where, None))), None)
    if made is None:
        return None
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = [name for name, p in inspect.signature(made).parameters.items() if p.kind not in kinds]
    return unknown(f"argument of timm's {model} ({where})", found[3], names)


def check_timm_image(spec: TimmSpec, image_size: int, num_classes: int = 10, in_chans: int = 3) -> None:
    """Build it without weights and send a shape through. Raises UserError where it takes no such image."""
    with torch.device("meta"):
        net = build_timm_model(spec, num_classes, in_chans)
    try:
        measure_cost(net, image_size, in_chans)
    except UserError as error:
        raise UserError(f"timm's {spec.model}: {error}") from None
