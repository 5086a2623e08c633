"""Owns how a network is computed on a CPU: other algorithms for convolutions that torch is slow at, memory kept.

oneDNN, which computes torch's convolutions, is far below the speed of the processor where small images spend much of
their time; `python benchmarks/step.py` measures what is gained:

- the gradient of a depthwise convolution by its weights takes up to ten times as long as the convolution itself where
  the kernel is large, and falls back to a plain loop where it is wider than the map (on a map of one pixel the
  convolution itself does, too). It is a convolution as well, of the input by the gradient of the output;
- a pointwise convolution of images channels-last is one matrix product, and the BLAS is better at it on small maps.

glibc returns large blocks to the kernel when they are freed, and each step faults the same pages in again.

Parameters, their names and the numbers that come out stay, but for the last bits.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_POSITIONS = 16  # of the largest feature map that is small for a pointwise convolution
_LARGE = 7  # kernels from here on, of stride 1; those of 5 that fit into the map gain with AVX-512 and lose with AVX2
_CACHED = 2**17  # numbers of input and output that are convolved at once, so that they stay in the cache
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


class _DepthwiseFunction(torch.autograd.Function):
    """A depthwise convolution with the gradient by its weights as below."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, module: Depthwise) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = (list(module.stride), list(module.padding), [1, 1], False, [0, 0], module.groups)
        return F.conv2d(x, weight, bias, module.stride, module.padding, 1, module.groups)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        by_x, by_weight, by_bias, _ = ctx.needs_input_grad
        dx = dw = db = None
        if by_x:
            mask = [True, False, False]
            dx = torch.ops.aten.convolution_backward(grad, x, weight, None, *ctx.geometry, mask)[0]
        if by_weight:
            dw = _by_weight(grad, x, weight.shape[2:], ctx.geometry[0])
        if by_bias:
            db = grad.sum((0, 2, 3))
        return dx, dw, db, None


def _by_weight(grad: Tensor, x: Tensor, kernel: tuple[int, int], stride: list[int]) -> Tensor:
    """The gradient (C, 1, *kernel) by the weights: each plane of `x` (B, C, H, W) convolved by that of `grad`.

    Image by image, as many at once as the cache holds: all their planes are the channels of one depthwise convolution.
    """
    if stride != [1, 1]:  # as if the pixels between had been computed, and did not count
        kept, grad = grad, torch.zeros_like(x)
        grad[:, :, :: stride[0], :: stride[1]] = kept
    channels, padding = x.shape[1], (kernel[0] // 2, kernel[1] // 2)
    images = max(1, _CACHED // (x[0].numel() + grad[0].numel()))
    found = x.new_zeros(channels, *kernel)
    for inputs, filters in zip(x.split(images), grad.split(images), strict=True):
        count = len(inputs) * channels
        planes = inputs.permute(2, 3, 0, 1).reshape(1, *x.shape[2:], count).permute(0, 3, 1, 2)
        taps = filters.permute(2, 3, 0, 1).reshape(*x.shape[2:], count).permute(2, 0, 1)[:, None]
        found += F.conv2d(planes, taps, None, 1, padding, 1, count).reshape(-1, channels, *kernel).sum(0)
    return found[:, None]


class Depthwise(nn.Conv2d):
    """A depthwise convolution with same padding."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (nn.Conv2d's name)
        """(B, C, H, W) to (B, C, H', W')."""
        height, width = input.shape[2:]
        wide = height < self.kernel_size[0] or width < self.kernel_size[1]
        large = max(self.kernel_size) >= _LARGE and self.stride == (1, 1)
        if not (wide or large) or not _plain(input, self.weight):
            return super().forward(input)
        if height * width == 1:  # only the middle of the kernel meets a pixel
            middle = self.weight[:, 0, self.kernel_size[0] // 2, self.kernel_size[1] // 2].reshape(1, -1, 1, 1)
            out = input * middle
            return out if self.bias is None else out + self.bias.reshape(1, -1, 1, 1)
        return _DepthwiseFunction.apply(input, self.weight, self.bias, self)  # type: ignore[no-any-return]


class Pointwise(nn.Conv2d):
    """A 1 x 1 convolution of images channels-last."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (nn.Conv2d's name)
        """(B, in, H, W) to (B, out, H', W')."""
        height, width = input.shape[2:]
        last = input.is_contiguous(memory_format=torch.channels_last)
        if height * width > _POSITIONS or not last or not _plain(input, self.weight):
            return super().forward(input)
        x = input.permute(0, 2, 3, 1)
        if self.stride != (1, 1):
            x = x[:, :: self.stride[0], :: self.stride[1]]
        return F.linear(x, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


def _plain(x: Tensor, weight: Tensor) -> bool:
    """Whether these are numbers of full precision on a CPU: the algorithms here are for them."""
    same = x.dtype == weight.dtype == torch.float32
    return same and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def speed_up(model: nn.Module) -> None:
    """Let the convolutions of `model` compute by the algorithms of this module, where they apply; in place."""
    for module in model.modules():
        if type(module) is not nn.Conv2d or module.dilation != (1, 1) or module.padding_mode != "zeros":
            continue
        if module.groups == module.in_channels == module.out_channels > 1:
            if module.padding == tuple(k // 2 for k in module.kernel_size) and all(k % 2 for k in module.kernel_size):
                module.__class__ = Depthwise
        elif module.groups == 1 and module.kernel_size == (1, 1) and module.padding == (0, 0):
            module.__class__ = Pointwise


def keep_memory() -> None:
    """Let this process keep the memory that it frees, for the next step. Of glibc alone; no effect elsewhere."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, 2**30)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
