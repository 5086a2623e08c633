"""Owns the reference networks: models of timm with random weights, for the images and classes of a run."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import nn

from ladder.errors import UserError, one_line
from ladder.networks.cost import measure_cost
from ladder.networks.spec import TimmSpec


def build_reference(spec: TimmSpec, num_classes: int, in_chans: int, drop_rate: float = 0.0) -> nn.Module:
    """timm's model. A model bound to one image size is built for that of the spec, if it can be.

    Raises UserError, one line, where timm's model takes none of these.
    """
    given: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_chans}
    if drop_rate:
        given["drop_rate"] = drop_rate
    if spec.drop_path:
        given["drop_path_rate"] = spec.drop_path
    cfg = timm.get_pretrained_cfg(spec.model)
    if cfg and cfg.fixed_input_size and spec.image_size not in (None, cfg.input_size[-1]):
        given["img_size"] = spec.image_size
    try:
        return timm.create_model(spec.model, pretrained=False, **given)
    except (TypeError, ValueError, RuntimeError, AssertionError, ZeroDivisionError, KeyError) as error:
        if "drop_path_rate" in str(error):
            raise UserError(f"timm's {spec.model} has no drop path: it needs recipe.drop_path=0") from None
        shown = ", ".join(f"{key}={value}" for key, value in given.items())
        raise UserError(f"timm's {spec.model} can't be built with {shown}: {one_line(error)}") from None


def check_reference(spec: TimmSpec, image_size: int, num_classes: int = 10, in_chans: int = 3) -> None:
    """Build it without weights and send a shape through. Raises UserError where it takes no such image."""
    with torch.device("meta"):
        net = build_reference(spec, num_classes, in_chans)
    try:
        measure_cost(net, image_size, in_chans)
    except UserError as error:
        raise UserError(f"timm's {spec.model}: {error}") from None
