"""Owns the staged network between ResNet and ConvNeXt (arXiv:2201.03545): one class that reads a `NetSpec`.

Module names, shortest first, are also the keys of a state dict: `stem.{conv,norm}`,
`stages.I.downsample.{norm,conv}`, `stages.I.blocks.J.{conv1,norm1,conv2,norm2,grn,conv3,norm3,se,gamma}`,
`stages.I.blocks.J.shortcut.{conv,norm}`, `head.{norm,fc}`.
"""

import itertools
import math
from typing import Any, cast

import torch
from timm.layers import DropPath, SEModule
from timm.layers.grn import GlobalResponseNorm
from torch import Tensor, nn

from ladder.networks.base import Net
from ladder.networks.layers import STD, checkpoint_blocks, drop_path_rates, make_act, make_norm, named
from ladder.networks.spec import NetSpec


def _has_bias(spec: NetSpec, norm_follows: bool) -> bool:
    return spec.conv_bias == "always" or not norm_follows  # a norm's shift would make it redundant


def _inner_outer(spec: NetSpec, stage: int) -> tuple[int, int]:
    """Channels inside a block and at its ends."""
    narrow, wide = spec.widths[stage], spec.expansion * spec.widths[stage]
    return (narrow, wide) if spec.block == "bottleneck" else (wide, narrow)


def _stem(spec: NetSpec, in_chans: int) -> nn.Sequential:
    width, stride = spec.widths[0], spec.stem_stride
    bias = _has_bias(spec, spec.stem_norm)
    pool: nn.Module | None = None
    if spec.stem == "patchify":
        conv = nn.Conv2d(in_chans, width, stride, stride=stride, bias=bias)
    else:
        # The pool halves, so the convolution has to do the rest; a 7 x 7 kernel is meant for large images only.
        kernel, conv_stride = (7, 2) if stride == 4 else (3, 1)
        conv = nn.Conv2d(in_chans, width, kernel, stride=conv_stride, padding=kernel // 2, bias=bias)
        pool = nn.MaxPool2d(3, stride=2, padding=1) if stride > 1 else None
    return named(
        conv=conv,
        norm=make_norm(spec.norm, width) if spec.stem_norm else None,
        act=make_act(spec.act) if spec.stem_act else None,
        pool=pool,
    )


class Block(nn.Module):
    """A residual block of three convolutions, one spatial and two pointwise: (B, in, H, W) -> (B, out, H', W')."""

    def __init__(self, spec: NetSpec, stage: int, in_chs: int, stride: int, drop_path: float) -> None:
        super().__init__()
        inner, outer = _inner_outer(spec, stage)
        first = spec.conv_position == "first"
        # After a leading spatial convolution only norms and pointwise layers follow: with the channels last these
        # are LayerNorm and Linear, which need no copies between layouts.
        self.channels_last = first and spec.norm == "layer"
        widths = (in_chs, in_chs if first else inner, inner, outer)
        spatial = 0 if first else 1

        def layer(i: int) -> tuple[nn.Module, nn.Module, nn.Module]:
            c_in, c_out = widths[i : i + 2]
            normed = {3: True, 2: i < 2, 1: i == spatial}[spec.norms_per_block]
            acted = i == 1 or (i == 0 and spec.acts_per_block > 1)
            bias = _has_bias(spec, normed)
            conv: nn.Module
            if i == spatial:
                k, groups = spec.kernel_size, c_in if spec.conv == "depthwise" else 1
                conv = nn.Conv2d(c_in, c_out, k, stride=stride, padding=k // 2, groups=groups, bias=bias)
            elif self.channels_last:
                conv = nn.Linear(c_in, c_out, bias=bias)
            else:
                conv = nn.Conv2d(c_in, c_out, 1, bias=bias)
            norm = make_norm(spec.norm, c_out, self.channels_last) if normed else nn.Identity()
            return conv, norm, make_act(spec.act) if acted else nn.Identity()

        self.conv1, self.norm1, self.act1 = layer(0)
        self.conv2, self.norm2, self.act2 = layer(1)
        self.grn = GlobalResponseNorm(inner, channels_last=self.channels_last) if spec.grn else nn.Identity()
        self.conv3, self.norm3, _ = layer(2)
        self.se = SEModule(outer, rd_ratio=1 / 16) if spec.se else nn.Identity()
        self.gamma = None if spec.layer_scale is None else nn.Parameter(torch.full((outer,), float(spec.layer_scale)))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_chs != outer:
            bias = _has_bias(spec, spec.shortcut_norm)
            shortcut = named(
                conv=nn.Conv2d(in_chs, outer, 1, stride=stride, bias=bias),
                norm=make_norm(spec.norm, outer) if spec.shortcut_norm else None,
            )
        self.shortcut = shortcut
        self.act3 = make_act(spec.act) if spec.acts_per_block == 3 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The block's output; x is (B, C, H, W)."""
        y = self.conv1(x)
        if self.channels_last:
            y = y.permute(0, 2, 3, 1)
        y = self.act1(self.norm1(y))
        y = self.act2(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(self.grn(y)))
        if self.channels_last:
            y = y.permute(0, 3, 1, 2)
        y = self.se(y)
        if self.gamma is not None:
            y = y * self.gamma.reshape(1, -1, 1, 1)
        out: Tensor = self.act3(self.drop_path(y) + self.shortcut(x))
        return out


class Stage(nn.Module):
    """Blocks of one resolution, after a separate downsampling layer where the spec has one."""

    def __init__(self, spec: NetSpec, index: int, in_chs: int, drop_paths: list[float]) -> None:
        super().__init__()
        outer = _inner_outer(spec, index)[1]
        stride = 1 if index == 0 else 2
        self.grad_checkpointing = False
        downsample: nn.Module = nn.Identity()
        if stride == 2 and spec.downsample == "separate":
            conv = nn.Conv2d(in_chs, outer, 2, stride=2, bias=_has_bias(spec, norm_follows=False))
            downsample = named(norm=make_norm(spec.norm, in_chs), conv=conv)
            in_chs, stride = outer, 1
        self.downsample = downsample
        self.blocks = nn.Sequential()
        for i, drop_path in enumerate(drop_paths):
            block = Block(spec, index, outer if i else in_chs, 1 if i else stride, drop_path)
            self.blocks.append(block)

    def forward(self, x: Tensor) -> Tensor:
        """The stage's feature map; x is (B, C, H, W)."""
        x = self.downsample(x)
        if self.grad_checkpointing and not torch.jit.is_scripting():  # type: ignore[attr-defined]
            return checkpoint_blocks(self.blocks, x)
        out: Tensor = self.blocks(x)
        return out


class RoadmapNet(Net):
    """Stem, stages, head, as the spec says. Follows timm's conventions for image models."""

    body = "stages"

    def _build(self, spec: NetSpec) -> int:
        rates = drop_path_rates(spec.drop_path, sum(spec.depths))
        self.stem = _stem(spec, self.in_chans)
        self.stages = nn.Sequential()
        width, reductions = spec.widths[0], self.reductions(spec)
        for i, depth in enumerate(spec.depths):
            self.stages.append(Stage(spec, i, width, rates[:depth]))
            rates = rates[depth:]
            width = _inner_outer(spec, i)[1]
            self.feature_info.append({"num_chs": width, "reduction": reductions[i], "module": f"stages.{i}"})
        return width

    def _start_std(self, name: str, module: nn.Module) -> float:
        """0.02 x sqrt(fan-in where 0.02 was chosen / own fan-in), so that a layer passes on as large a signal as there.

        0.02 was chosen for the paper's widths and its stems of stride 4. A depthwise convolution has the fan-in of its
        kernel at any width.
        """
        base, spec = self.spec.init_base_width, self.spec
        if base is None or not isinstance(module, nn.Conv2d | nn.Linear):
            return STD
        ratio: float = base / spec.widths[0]
        if isinstance(module, nn.Conv2d) and name == "stem.conv":
            ratio = (4 if spec.stem == "patchify" else 7) ** 2 / math.prod(module.kernel_size)
        elif isinstance(module, nn.Conv2d) and module.groups > 1:
            ratio = 1.0
        return STD * math.sqrt(ratio)

    @staticmethod
    def reductions(spec: NetSpec) -> tuple[int, ...]:
        """Total stride of each feature map that the network offers (timm's features_only)."""
        return tuple(spec.stem_stride * 2**i for i in range(len(spec.depths)))

    @staticmethod
    def min_image_size(spec: NetSpec) -> int:
        """The smallest image side, pixels, that leaves a feature map of at least one pixel."""

        def final(size: int) -> int:
            # Padded convolutions and pools round up, unpadded ones (patches, 2 x 2 downsampling) round down.
            size = size // spec.stem_stride if spec.stem == "patchify" else -(-size // spec.stem_stride)
            for _ in spec.depths[1:]:
                size = size // 2 if spec.downsample == "separate" else -(-size // 2)
            return size

        return next(size for size in itertools.count(1) if final(size) >= 1)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns of parameter names: one group a block (a stage if `coarse`), for layer-wise learning rates."""
        blocks = [(r"^stages\.(\d+)\.downsample", (0,)), (r"^stages\.(\d+)\.blocks\.(\d+)", None)]
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else blocks}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory: keep only the blocks' inputs for the backward pass."""
        super().set_grad_checkpointing(enable)
        for stage in self.stages:
            cast(Stage, stage).grad_checkpointing = enable

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) to the last feature map (B, num_features, H / reduction, W / reduction)."""
        features: Tensor = self.stages(self.stem(x))
        return features
