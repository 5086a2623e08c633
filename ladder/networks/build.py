"""Owns the way from a spec to its network: which class reads which kind of spec."""

from __future__ import annotations

import os

import torch
from torch import nn

from ladder.errors import UserError
from ladder.networks.base import Net
from ladder.networks.isotropic import IsotropicNet
from ladder.networks.roadmap import RoadmapNet
from ladder.networks.spec import CallSpec, IsotropicSpec, NetSpec, Spec, TimmSpec, check_ends

NETS: dict[type[Spec], type[Net]] = {NetSpec: RoadmapNet, IsotropicSpec: IsotropicNet}


def net_class(spec: Spec | type[Spec]) -> type[Net]:
    """The class of networks that reads this kind of spec; a model of timm has its own."""
    return NETS[spec if isinstance(spec, type) else type(spec)]


def build_net(
    spec: Spec, *, num_classes: int = 1000, in_chans: int = 3, global_pool: str = "avg", drop_rate: float = 0.0
) -> nn.Module:
    """The network of a spec, with random weights, on torch's default device (`with torch.device("meta")`: no memory).

    Args:
        spec: the network.
        num_classes: outputs; 0: pooled features instead of logits.
        in_chans: channels of the images.
        global_pool: timm's name of a pooling; "" for none. A model of timm keeps its own.
        drop_rate: dropout before the classifier, a probability.

    Raises:
        UserError: on a value that can't be.
    """
    check_ends(num_classes, in_chans)
    rate: object = drop_rate
    if not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise UserError(f"drop_rate={rate!r}: must be a number from 0 up to, not including, 1")
    if isinstance(spec, TimmSpec):
        from ladder.networks.timm_model import build_timm_model

        return build_timm_model(spec, num_classes, in_chans, drop_rate)
    if isinstance(spec, CallSpec):
        from ladder.networks.call import build_call

        return build_call(spec, num_classes, in_chans)
    if torch.get_default_device().type != "meta":
        with torch.device("meta"):
            sketch = net_class(spec)(spec, num_classes, in_chans, global_pool)
        check_memory(sum(p.numel() * p.element_size() for p in sketch.parameters()), "the weights of this network")
    return net_class(spec)(spec, num_classes, in_chans, global_pool, float(drop_rate))


def check_memory(size: int, what: str) -> None:
    """Raise UserError where `size` bytes are more than this machine has, before it is asked for them."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # a system that doesn't say
        return
    if size > memory:
        raise UserError(f"{what} take {size / 1e9:,.1f} GB, and this machine has {memory / 1e9:,.1f} GB")


def check_batch_of_one(spec: Spec, image_size: int, in_chans: int) -> None:
    """Raise UserError where a network of `spec` can't be trained on one image at a time."""
    with torch.device("meta"):
        net = build_net(spec, num_classes=2, in_chans=in_chans)
    if not takes_one_image(net, image_size, in_chans):
        raise UserError(
            f"recipe.batch_size gives a process one image at a time, and at {image_size} px {ONE_VALUE};"
            " allowed: 2 or more images, larger ones, or a network without BatchNorm"
        )


ONE_VALUE = "the last feature map is one pixel: BatchNorm needs more than one value a channel"


def takes_one_image(net: nn.Module, image_size: int, in_chans: int) -> bool:
    """Whether a network on the meta device can be trained on one image; shapes alone go through it."""
    try:
        with torch.no_grad(), torch.device("meta"):
            net.train()(torch.empty(1, in_chans, image_size, image_size))
    except ValueError as error:
        if "more than 1 value per channel" in str(error):
            return False
        raise
    return True


def check_image_size(spec: Spec, size: int, num_classes: int = 10, in_chans: int = 3) -> None:
    """Raise UserError where images of `size` pixels a side would leave no feature map, or can't be taken."""
    if isinstance(spec, TimmSpec):
        from ladder.networks.timm_model import check_timm_image

        check_timm_image(spec, size, num_classes, in_chans)
    elif isinstance(spec, CallSpec):
        from ladder.networks.call import check_call

        check_call(spec, size, num_classes, in_chans)
    elif size < (least := net_class(spec).min_image_size(spec)):
        raise UserError(f"images of {size} px are too small for this network: it needs at least {least} px")
