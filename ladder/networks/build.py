"""Owns the way from a spec to its network: which class reads which kind of spec."""

from __future__ import annotations

from torch import nn

from ladder.errors import UserError
from ladder.networks.base import Net
from ladder.networks.isotropic import IsotropicNet
from ladder.networks.roadmap import RoadmapNet
from ladder.networks.spec import IsotropicSpec, NetSpec, Spec, TimmSpec

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
    counts: tuple[tuple[str, object, int], ...] = (("num_classes", num_classes, 0), ("in_chans", in_chans, 1))
    for name, value, least in counts:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UserError(f"{name}={value!r}: must be a whole number, at least {least}")
    rate: object = drop_rate
    if not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise UserError(f"drop_rate={rate!r}: must be a number from 0 up to, not including, 1")
    if isinstance(spec, TimmSpec):
        from ladder.networks.reference import build_reference

        return build_reference(spec, num_classes, in_chans, drop_rate)
    return net_class(spec)(spec, num_classes, in_chans, global_pool, float(drop_rate))


def check_image_size(spec: Spec, size: int) -> None:
    """Raise UserError where images of `size` pixels a side would leave no feature map."""
    if isinstance(spec, TimmSpec):
        from ladder.networks.reference import check_reference

        check_reference(spec, size)
    elif size < (least := net_class(spec).min_image_size(spec)):
        raise UserError(f"images of {size} px are too small for this network: it needs at least {least} px")
