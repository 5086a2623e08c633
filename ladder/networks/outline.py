"""Owns the outline of our networks: their layers and what each costs, as the spec says, in the order they run.

A design asks for the cost of hundreds of networks, and a report draws tens: building one takes a tenth of a second, and
torch seconds to import. Tests hold outline and network equal, for any spec.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from ladder.errors import UserError
from ladder.networks.cost_records import Cost, LayerCost
from ladder.networks.spec import IsotropicSpec, NetSpec, Spec, check_ends

if TYPE_CHECKING:
    from torch import nn

# By their classes' names. Without parameters; timm has others.
PLAIN_ACTS = {
    **{"relu": "ReLU", "gelu": "GELU", "silu": "SiLU", "swish": "SiLU", "mish": "Mish", "relu6": "ReLU6"},
    **{"leaky_relu": "LeakyReLU", "elu": "ELU", "hard_swish": "Hardswish", "quick_gelu": "QuickGELU"},
}


class Layer(NamedTuple):
    """One module, as it runs. A `part` is one around others, as it is entered; its parameters are its layer scale."""

    path: str  # in the network
    kind: str  # conv, linear, norm, act, pool, grn, part
    c_in: int
    c_out: int
    name: str = ""  # of a norm (BN, LN) or an activation
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    params: int = 0
    macs: int = 0


class _TooSmall(Exception):
    """The image leaves no feature map."""


class _Layers(list[Layer]):
    """The layers, added in the order in which an image of `side` pixels runs through them."""

    def __init__(self, spec: NetSpec | IsotropicSpec, side: int) -> None:
        super().__init__()
        self.side = side
        self.act_name, self.norm_name = PLAIN_ACTS.get(spec.act, ""), "BN" if spec.norm == "batch" else "LN"

    def part(self, path: str, channels: int, scales: int = 0) -> None:
        self.append(Layer(path, "part", channels, channels, params=scales))

    def conv(
        self,
        path: str,
        c_in: int,
        c_out: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
        padded: bool = True,
        kind: str = "conv",
    ) -> None:
        self.shrink(stride, padded)
        weights = kernel * kernel * (c_in // groups) * c_out
        cost = (weights + bias * c_out, weights * self.side**2)
        self.append(Layer(path, kind, c_in, c_out, "", kernel, stride, groups, *cost))

    def norm(self, path: str, channels: int, there: bool = True) -> None:
        if there:
            self.append(Layer(path, "norm", channels, channels, self.norm_name, params=2 * channels))

    def act(self, path: str, channels: int, there: bool = True, name: str = "") -> None:
        if there:
            self.append(Layer(path, "act", channels, channels, name or self.act_name))

    def shrink(self, stride: int, padded: bool) -> None:
        """Padded layers round the pixels up, unpadded ones (patches, 2 x 2 downsampling) down."""
        self.side = -(-self.side // stride) if padded else self.side // stride
        if self.side < 1:
            raise _TooSmall

    def head(self, width: int, norm: bool, num_classes: int) -> None:
        self.norm("head.norm", width, norm)
        self.side = 1
        if num_classes:
            self.conv("head.fc", width, num_classes, kind="linear")


def outline(spec: Spec, image_size: int, num_classes: int = 1000, in_chans: int = 3) -> list[Layer] | None:
    """The layers of the network of a spec, for square images of `image_size` pixels.

    None for networks that only building them tells: timm's, a user's, those of activations with parameters. Raises
    UserError where images are too small for the network, or a number can't be.
    """
    check_ends(num_classes, in_chans)
    if not isinstance(spec, NetSpec | IsotropicSpec):
        return None

    def at(side: int) -> list[Layer] | None:
        layers = _Layers(spec, side)
        try:
            if isinstance(spec, NetSpec):
                _staged(spec, layers, num_classes, in_chans)
            else:
                _isotropic(spec, layers, num_classes, in_chans)
        except _TooSmall:
            return None
        return layers

    if (found := at(image_size)) is not None:
        return found if spec.act in PLAIN_ACTS else None
    least = next(side for side in itertools.count(image_size) if at(side))
    raise UserError(f"images of {image_size} px are too small for this network: it needs at least {least} px")


def spec_cost(spec: Spec, image_size: int, num_classes: int = 1000, in_chans: int = 3) -> Cost:
    """What `measure_cost` counts in the network of a spec; built where `outline` has none. Raises UserError as both."""
    layers = outline(spec, image_size, num_classes, in_chans)
    if layers is None:
        from ladder.networks.cost import measure_cost

        return measure_cost(_built(spec, num_classes, in_chans), image_size, in_chans)
    return Cost(sum(layer.params for layer in layers), sum(layer.macs for layer in layers))


def spec_breakdown(spec: Spec, image_size: int, num_classes: int = 1000, in_chans: int = 3) -> list[LayerCost]:
    """What `cost_breakdown` counts in the network of a spec, in another order; built where `outline` has none.

    Raises UserError as both.
    """
    layers = outline(spec, image_size, num_classes, in_chans)
    if layers is None:
        from ladder.networks.cost import cost_breakdown

        return cost_breakdown(_built(spec, num_classes, in_chans), image_size, in_chans)
    return [
        LayerCost(layer.path, _kind(layer), layer.params, layer.macs) for layer in layers if layer.params or layer.macs
    ]


def _kind(layer: Layer) -> str:
    if layer.kind == "conv":
        depthwise = layer.groups == layer.c_in > 1
        return "pointwise conv" if layer.kernel == 1 else "depthwise conv" if depthwise else "dense conv"
    return layer.kind if layer.kind in ("linear", "norm") else "other"


def _built(spec: Spec, num_classes: int, in_chans: int) -> nn.Module:
    import torch

    from ladder.networks.build import build_net

    with torch.device("meta"):
        return build_net(spec, num_classes=num_classes, in_chans=in_chans)


def _staged(spec: NetSpec, layers: _Layers, num_classes: int, in_chans: int) -> None:
    always = spec.conv_bias == "always"
    width, stride = spec.widths[0], spec.stem_stride
    bias = always or not spec.stem_norm
    if spec.stem == "patchify":
        layers.conv("stem.conv", in_chans, width, stride, stride=stride, bias=bias, padded=False)
    elif stride == 4:
        layers.conv("stem.conv", in_chans, width, 7, stride=2, bias=bias)
    else:
        layers.conv("stem.conv", in_chans, width, 3, bias=bias)
    layers.norm("stem.norm", width, spec.stem_norm)
    layers.act("stem.act", width, spec.stem_act)
    if spec.stem == "resnet" and stride > 1:
        layers.append(Layer("stem.pool", "pool", width, width, kernel=3, stride=2))
        layers.shrink(2, padded=True)
    for stage, depth in enumerate(spec.depths):
        narrow, wide = spec.widths[stage], spec.expansion * spec.widths[stage]
        inner, outer = (narrow, wide) if spec.block == "bottleneck" else (wide, narrow)
        path, stride = f"stages.{stage}", 2 if stage else 1
        if stride == 2 and spec.downsample == "separate":
            layers.norm(f"{path}.downsample.norm", width)
            layers.conv(f"{path}.downsample.conv", width, outer, 2, stride=2, padded=False)
            width, stride = outer, 1
        for number in range(depth):
            _block(spec, layers, f"{path}.blocks.{number}", (width, inner, outer), stride)
            width, stride = outer, 1
    layers.head(width, spec.head_norm, num_classes)


def _block(spec: NetSpec, layers: _Layers, path: str, channels: tuple[int, int, int], stride: int) -> None:
    c_in, inner, outer = channels
    always, first = spec.conv_bias == "always", spec.conv_position == "first"
    spatial = 0 if first else 1
    widths = (c_in, c_in if first else inner, inner, outer)
    normed = {3: (0, 1, 2), 2: (0, 1), 1: (spatial,)}[spec.norms_per_block]
    layers.part(path, c_in, 0 if spec.layer_scale is None else outer)
    entered = layers.side
    for i, (before, after) in enumerate(itertools.pairwise(widths)):
        number, bias = i + 1, always or i not in normed
        if number == 3 and spec.grn:
            layers.append(Layer(f"{path}.grn", "grn", inner, inner, params=2 * inner))
        if i == spatial:
            groups = before if spec.conv == "depthwise" else 1
            layers.conv(
                f"{path}.conv{number}", before, after, spec.kernel_size, stride=stride, groups=groups, bias=bias
            )
        else:
            kind = "linear" if first and spec.norm == "layer" else "conv"  # the channels are last there
            layers.conv(f"{path}.conv{number}", before, after, bias=bias, kind=kind)
        layers.norm(f"{path}.norm{number}", after, i in normed)
        layers.act(f"{path}.act{number}", after, i == 1 or (i == 0 and spec.acts_per_block > 1))
    if spec.se:
        _squeeze(layers, f"{path}.se", outer)
    layers.part(f"{path}.shortcut", c_in)
    if stride != 1 or c_in != outer:
        layers.side = entered
        bias = always or not spec.shortcut_norm
        layers.conv(f"{path}.shortcut.conv", c_in, outer, stride=stride, bias=bias)
        layers.norm(f"{path}.shortcut.norm", outer, spec.shortcut_norm)
    layers.act(f"{path}.act3", outer, spec.acts_per_block == 3)


def _squeeze(layers: _Layers, path: str, channels: int) -> None:
    squeezed = max(8, int(channels / 16 + 4) // 8 * 8)  # as timm's SEModule rounds
    side, layers.side = layers.side, 1
    layers.part(path, channels)
    layers.conv(f"{path}.fc1", channels, squeezed)
    layers.act(f"{path}.act", squeezed, name="ReLU")
    layers.conv(f"{path}.fc2", squeezed, channels)
    layers.act(f"{path}.gate", channels, name="Sigmoid")
    layers.side = side


def _isotropic(spec: IsotropicSpec, layers: _Layers, num_classes: int, in_chans: int) -> None:
    width = spec.width
    inner = width if spec.expansion is None else spec.expansion * width
    every_act, every_norm = spec.acts == "all", spec.norms == "all"
    scales = 0 if spec.layer_scale is None else width

    def after(path: str, channels: int, act: bool, norm: bool, number: str = "") -> None:
        """What follows a convolution, in the spec's order."""
        if spec.order == "norm_act":
            layers.norm(f"{path}.norm{number}", channels, norm)
        layers.act(f"{path}.act{number}", channels, act)
        if spec.order == "act_norm":
            layers.norm(f"{path}.norm{number}", channels, norm)

    layers.conv("stem.conv", in_chans, width, spec.patch_size, stride=spec.patch_size, padded=False)
    after("stem", width, spec.stem_act, spec.stem_norm)
    for number in range(spec.depth):
        path = f"blocks.{number}"
        layers.part(path, width)
        layers.part(f"{path}.depthwise", width)
        layers.conv(f"{path}.depthwise.conv", width, width, spec.kernel_size, groups=width)
        after(f"{path}.depthwise", width, every_act, norm=True)
        if spec.residual_depthwise:
            layers.part(f"{path}.add_depthwise", width, scales)
        layers.part(f"{path}.pointwise", width)
        layers.conv(f"{path}.pointwise.conv1", width, inner)
        after(f"{path}.pointwise", inner, True, every_norm, "1")
        if spec.expansion is not None:
            layers.conv(f"{path}.pointwise.conv2", inner, width)
            after(f"{path}.pointwise", width, every_act, every_norm, "2")
        if spec.residual_pointwise:
            layers.part(f"{path}.add_pointwise", width, scales)
        if spec.residual_block:
            layers.part(f"{path}.add_block", width, scales)
    layers.head(width, spec.head_norm, num_classes)
