"""Owns strided 1 x 1 convolutions of few channels, and keeps them from CPU kernels that write outside their memory.

oneDNN computes the gradient by weights of a 1 x 1 convolution with stride, images channels-last in float32, by kernels
(`jit_1x1`) that fill whole registers: with more than one input channel, but fewer than a register has numbers (8 of
AVX2; 16 of AVX-512, whose kernel is for large batches alone), they write past the end (seen with torch 2.15).
It corrupts the heap. The rungs with inverted bottlenecks have such shortcuts when they are narrow, and timm's FastViT
has one over the colours of the image. Dropping the pixels that the stride skips, then convolving without a stride,
gives the same numbers by another kernel, within networks no slower (benchmarks/pointwise.py).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from ladder.networks.cost import on_meta

FEW = range(2, 16)  # input channels; on a CPU with AVX2 alone from 8 on it would be sound


class StridedPointwise(nn.Conv2d):
    """A 1 x 1 convolution that drops the pixels its stride skips before it convolves the others."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (nn.Conv2d's name)
        """(B, in, H, W) to (B, out, ceil(H / stride), ceil(W / stride))."""
        kept = F.avg_pool2d(input, 1, self.stride)  # of one pixel each; in PyTorch faster than a strided slice
        return F.conv2d(kept, self.weight, self.bias)


def _is_faulty(kernel: Sequence[int], stride: Sequence[int], channels: int, groups: int) -> bool:
    return set(kernel) == {1} and max(stride) > 1 and channels in FEW and groups == 1


def reroute(model: nn.Module) -> None:
    """Let the layers of `model` that would meet the faulty kernel go another way. Keys, numbers and MACs stay.

    Only layers that are nn.Conv2d itself: what a subclass does with its weights is its own.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and module.padding in ((0, 0), "valid"):
            if _is_faulty(module.kernel_size, module.stride, module.in_channels, module.groups):
                module.__class__ = StridedPointwise


class _Convolutions(TorchDispatchMode):
    """Notes whether a convolution that passes is one for the faulty kernel."""

    faulty = False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            weight, stride, groups = args[1], args[3], args[8]
            self.faulty |= _is_faulty(weight.shape[2:], stride, weight.shape[1], groups)
        return func(*args, **(kwargs or {}))


def can_be_channels_last(model: nn.Module, image_size: int, in_chans: int) -> bool:
    """Whether `model` may be trained channels-last on a CPU. Layers that can be are rerouted.

    False where code of its own calls the faulty kernel. Raises UserError where the model takes no such image.
    """
    reroute(model)
    seen = _Convolutions()
    on_meta(model, image_size, in_chans, seen)
    return not seen.faulty
