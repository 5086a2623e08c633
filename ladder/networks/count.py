"""Owns the cost of our networks as counted from their specs: a design asks for that of hundreds, and building one takes
a tenth of a second and torch. `ladder.networks.cost` counts a network that is there; a test holds the two equal.
"""

from __future__ import annotations

import itertools

from ladder.errors import UserError
from ladder.networks.cost_records import Cost
from ladder.networks.spec import IsotropicSpec, NetSpec, Spec, check_ends

# Without parameters; timm has others.
PLAIN_ACTS = ("relu", "gelu", "silu", "swish", "mish", "relu6", "leaky_relu", "elu", "hard_swish", "quick_gelu")


class _TooSmall(Exception):
    """The image leaves no feature map."""


class _Sum:
    """Adds up layers, in the order in which an image of `side` pixels runs through them."""

    def __init__(self, side: int) -> None:
        self.params = self.macs = 0
        self.side = side

    def conv(self, c_in: int, c_out: int, kernel: int = 1, *, groups: int = 1, bias: bool = True) -> None:
        """A convolution (a linear layer is one of 1 x 1) that gives `side` x `side` pixels."""
        weights = kernel * kernel * (c_in // groups) * c_out
        self.params += weights + bias * c_out
        self.macs += weights * self.side**2

    def norm(self, channels: int, there: bool = True) -> None:
        """A scale and a shift a channel."""
        self.params += 2 * channels * there

    def scale(self, channels: int, there: bool = True) -> None:
        """One number a channel."""
        self.params += channels * there

    def shrink(self, stride: int, padded: bool) -> None:
        """Padded layers round the pixels up, unpadded ones (patches, 2 x 2 downsampling) down."""
        self.side = -(-self.side // stride) if padded else self.side // stride
        if not self.side:
            raise _TooSmall

    def head(self, width: int, norm: bool, num_classes: int) -> Cost:
        """Pooling, norm and classifier."""
        self.norm(width, norm)
        self.side = 1
        self.conv(width, num_classes)
        return Cost(self.params, self.macs)


def spec_cost(spec: Spec, image_size: int, num_classes: int = 1000, in_chans: int = 3) -> Cost:
    """What `measure_cost` counts in the network of a spec, for square images of `image_size` pixels.

    Networks that only building them tells are built: timm's, a user's, those of activations with parameters. Raises
    UserError where images are too small for the network, or a number can't be.
    """
    check_ends(num_classes, in_chans)
    if isinstance(spec, NetSpec | IsotropicSpec) and spec.act in PLAIN_ACTS:
        return _counted(spec, image_size, num_classes, in_chans)
    import torch

    from ladder.networks.build import build_net, check_image_size
    from ladder.networks.cost import measure_cost

    check_image_size(spec, image_size, num_classes, in_chans)
    with torch.device("meta"):
        net = build_net(spec, num_classes=num_classes, in_chans=in_chans)
    return measure_cost(net, image_size, in_chans)


def _counted(spec: NetSpec | IsotropicSpec, image_size: int, num_classes: int, in_chans: int) -> Cost:
    def at(size: int) -> Cost | None:
        try:
            if isinstance(spec, NetSpec):
                return _staged(spec, _Sum(size), num_classes, in_chans)
            return _isotropic(spec, _Sum(size), num_classes, in_chans)
        except _TooSmall:
            return None

    if (found := at(image_size)) is not None:
        return found
    least = next(size for size in itertools.count(image_size) if at(size))
    raise UserError(f"images of {image_size} px are too small for this network: it needs at least {least} px")


def _staged(spec: NetSpec, total: _Sum, num_classes: int, in_chans: int) -> Cost:
    always = spec.conv_bias == "always"
    width, stride = spec.widths[0], spec.stem_stride
    if spec.stem == "patchify":
        total.shrink(stride, padded=False)
        total.conv(in_chans, width, stride, bias=always or not spec.stem_norm)
    else:
        total.shrink(2 if stride == 4 else 1, padded=True)
        total.conv(in_chans, width, 7 if stride == 4 else 3, bias=always or not spec.stem_norm)
        total.shrink(2 if stride > 1 else 1, padded=True)  # the pool
    total.norm(width, spec.stem_norm)
    for stage, depth in enumerate(spec.depths):
        narrow, wide = spec.widths[stage], spec.expansion * spec.widths[stage]
        inner, outer = (narrow, wide) if spec.block == "bottleneck" else (wide, narrow)
        stride = 2 if stage else 1
        if stride == 2 and spec.downsample == "separate":
            total.norm(width)
            total.shrink(2, padded=False)
            total.conv(width, outer, 2)
            width, stride = outer, 1
        for _ in range(depth):
            _block(spec, total, width, inner, outer, stride)
            width, stride = outer, 1
    return total.head(width, spec.head_norm, num_classes)


def _block(spec: NetSpec, total: _Sum, c_in: int, inner: int, outer: int, stride: int) -> None:
    always = spec.conv_bias == "always"
    spatial = 0 if spec.conv_position == "first" else 1
    widths = (c_in, c_in if spatial == 0 else inner, inner, outer)
    normed = {3: (0, 1, 2), 2: (0, 1), 1: (spatial,)}[spec.norms_per_block]
    for i, (before, after) in enumerate(itertools.pairwise(widths)):
        bias = always or i not in normed
        if i == spatial:
            total.shrink(stride, padded=True)
            groups = before if spec.conv == "depthwise" else 1
            total.conv(before, after, spec.kernel_size, groups=groups, bias=bias)
        else:
            total.conv(before, after, bias=bias)
        total.norm(after, i in normed)
    total.norm(inner, spec.grn)
    if stride != 1 or c_in != outer:
        total.conv(c_in, outer, bias=always or not spec.shortcut_norm)
        total.norm(outer, spec.shortcut_norm)
    total.scale(outer, spec.layer_scale is not None)
    if spec.se:
        squeezed = max(8, int(outer / 16 + 4) // 8 * 8)  # as timm's SEModule rounds
        side, total.side = total.side, 1
        total.conv(outer, squeezed)
        total.conv(squeezed, outer)
        total.side = side


def _isotropic(spec: IsotropicSpec, total: _Sum, num_classes: int, in_chans: int) -> Cost:
    width, every_norm = spec.width, spec.norms == "all"
    total.shrink(spec.patch_size, padded=False)
    total.conv(in_chans, width, spec.patch_size)
    total.norm(width, spec.stem_norm)
    for _ in range(spec.depth):
        total.conv(width, width, spec.kernel_size, groups=width)
        total.norm(width)
        inner = width if spec.expansion is None else spec.expansion * width
        total.conv(width, inner)
        total.norm(inner, every_norm)
        if spec.expansion is not None:
            total.conv(inner, width)
            total.norm(width, every_norm)
        for added in (spec.residual_depthwise, spec.residual_pointwise, spec.residual_block):
            total.scale(width, added and spec.layer_scale is not None)
    return total.head(width, spec.head_norm, num_classes)
