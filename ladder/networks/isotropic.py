"""Owns the network of one resolution, from isotropic ConvNeXt (arXiv:2201.03545) to ConvMixer (arXiv:2201.09792).

Module names, which are also the keys of a state dict: `stem.{conv,norm}`, `blocks.I.depthwise.{conv,norm}`,
`blocks.I.pointwise.{conv1,norm1,conv2,norm2}`, `blocks.I.add_{depthwise,pointwise,block}.gamma`, `head.{norm,fc}`.
"""

from typing import Any

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from ladder.networks.base import Net
from ladder.networks.layers import checkpoint_blocks, drop_path_rates, make_act, make_norm, named
from ladder.networks.spec import IsotropicSpec


def _layer(spec: IsotropicSpec, conv: nn.Conv2d, act: bool, norm: bool, number: str = "") -> dict[str, nn.Module]:
    """A convolution and what follows it, in the spec's order."""
    after: list[tuple[str, nn.Module]] = []
    if act:
        after.append((f"act{number}", make_act(spec.act)))
    if norm:
        after.append((f"norm{number}", make_norm(spec.norm, conv.out_channels)))
    if spec.order == "norm_act":
        after.reverse()
    return dict([(f"conv{number}", conv), *after])


class Add(nn.Module):
    """What a part of a block made, added to what it was made from; scaled and at times dropped, if the spec says so."""

    def __init__(self, spec: IsotropicSpec, drop_path: float) -> None:
        super().__init__()
        scale = spec.layer_scale
        self.gamma = None if scale is None else nn.Parameter(torch.full((spec.width,), float(scale)))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, made: Tensor, x: Tensor) -> Tensor:
        """Both (B, C, H, W)."""
        if self.gamma is not None:
            made = made * self.gamma.reshape(1, -1, 1, 1)
        out: Tensor = self.drop_path(made) + x
        return out


class Block(nn.Module):
    """A depthwise and a pointwise part: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, spec: IsotropicSpec, drop_path: float) -> None:
        super().__init__()
        width = spec.width
        inner = width if spec.expansion is None else spec.expansion * width
        every_act, every_norm = spec.acts == "all", spec.norms == "all"

        before, after = (spec.kernel_size - 1) // 2, spec.kernel_size // 2  # equal but for an even kernel
        pad = nn.ZeroPad2d((before, after, before, after)) if before != after else None
        spatial = nn.Conv2d(width, width, spec.kernel_size, padding=0 if pad else before, groups=width)
        self.depthwise = named(pad=pad, **_layer(spec, spatial, every_act, norm=True))
        pointwise = _layer(spec, nn.Conv2d(width, inner, 1), True, every_norm, "1")
        if spec.expansion is not None:
            pointwise |= _layer(spec, nn.Conv2d(inner, width, 1), every_act, every_norm, "2")
        self.pointwise = named(**pointwise)

        self.add_depthwise = Add(spec, drop_path) if spec.residual_depthwise else None
        self.add_pointwise = Add(spec, drop_path) if spec.residual_pointwise else None
        self.add_block = Add(spec, drop_path) if spec.residual_block else None

    def forward(self, x: Tensor) -> Tensor:
        """The block's output; x is (B, C, H, W)."""
        y: Tensor = self.depthwise(x)
        if self.add_depthwise is not None:
            y = self.add_depthwise(y, x)
        z: Tensor = self.pointwise(y)
        if self.add_pointwise is not None:
            z = self.add_pointwise(z, y)
        if self.add_block is not None:
            z = self.add_block(z, x)
        return z


class IsotropicNet(Net):
    """Patch embedding, equal blocks, head, as the spec says. Follows timm's conventions for image models."""

    body = "blocks"

    def _build(self, spec: IsotropicSpec) -> int:
        patch = nn.Conv2d(self.in_chans, spec.width, spec.patch_size, stride=spec.patch_size)
        self.stem = named(**_layer(spec, patch, spec.stem_act, spec.stem_norm))
        self.blocks = nn.Sequential(*[Block(spec, rate) for rate in drop_path_rates(spec.drop_path, spec.depth)])
        self.feature_info += [
            {"num_chs": spec.width, "reduction": reduction, "module": f"blocks.{i}"}
            for i, reduction in enumerate(self.reductions(spec))
        ]
        return spec.width

    @staticmethod
    def reductions(spec: IsotropicSpec) -> tuple[int, ...]:
        """Total stride of each feature map that the network offers: those of all blocks."""
        return (spec.patch_size,) * spec.depth

    @staticmethod
    def min_image_size(spec: IsotropicSpec) -> int:
        """The smallest image side, pixels: one patch."""
        return spec.patch_size

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns of parameter names: one group a block, for layer-wise learning rates."""
        return {"stem": r"^stem", "blocks": r"^blocks\.(\d+)"}

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) to the last feature map (B, width, H / patch_size, W / patch_size)."""
        x = self.stem(x)
        if self.grad_checkpointing and not torch.jit.is_scripting():  # type: ignore[attr-defined]
            return checkpoint_blocks(self.blocks, x)
        out: Tensor = self.blocks(x)
        return out
