"""Owns how a network is computed on a CPU: other algorithms for convolutions that torch is slow at, memory kept.

oneDNN, which computes torch's convolutions, is far below the speed of the processor on small feature maps, 4 x 4 pixels
and less, where small images spend much of their time; `python benchmarks/step.py` measures what is gained:

- a depthwise convolution whose kernel is wider than the map: the gradient by its weights falls back to a plain loop,
  on a map of one pixel the convolution itself too;
- a pointwise convolution of images channels-last is one matrix product, and the BLAS is better at it.

glibc returns large blocks to the kernel when they are freed, and each step faults the same pages in again.

Parameters, their names and the numbers that come out stay, but for the last bits.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_POSITIONS = 16  # of the largest feature map that is "small"
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


@lru_cache(maxsize=256)
def _taps(size: tuple[int, int], out: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """Which tap of the kernel joins an output and an input pixel: (taps, outputs x inputs), of 0 and 1."""
    found = torch.zeros(*kernel, *out, *size)
    for y in range(out[0]):
        for x in range(out[1]):
            top, left = y * stride[0] - kernel[0] // 2, x * stride[1] - kernel[1] // 2
            for v in range(max(0, -top), min(kernel[0], size[0] - top)):
                for u in range(max(0, -left), min(kernel[1], size[1] - left)):
                    found[v, u, y, x, top + v, left + u] = 1
    return found.reshape(kernel[0] * kernel[1], -1)


class _SmallDepthwise(torch.autograd.Function):
    """A depthwise convolution; the gradient by its weights from the products of all pairs of an output and an input."""

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
            batch, channels = x.shape[:2]
            taps = _taps(x.shape[2:], grad.shape[2:], weight.shape[2:], tuple(ctx.geometry[0]))
            inputs = x.permute(0, 2, 3, 1).reshape(batch, 1, -1, channels)
            outputs = grad.permute(0, 2, 3, 1).reshape(batch, -1, 1, channels)
            pairs = (outputs * inputs).sum(0).reshape(-1, channels)
            dw = (taps @ pairs).t().reshape(weight.shape)
        if by_bias:
            db = grad.sum((0, 2, 3))
        return dx, dw, db, None


class Depthwise(nn.Conv2d):
    """A depthwise convolution with same padding."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (nn.Conv2d's name)
        """(B, C, H, W) to (B, C, H', W')."""
        height, width = input.shape[2:]
        small = height * width <= _POSITIONS and (height < self.kernel_size[0] or width < self.kernel_size[1])
        if not small or not _plain(input, self.weight):
            return super().forward(input)
        if height * width == 1:  # only the middle of the kernel meets a pixel
            middle = self.weight[:, 0, self.kernel_size[0] // 2, self.kernel_size[1] // 2].reshape(1, -1, 1, 1)
            out = input * middle
            return out if self.bias is None else out + self.bias.reshape(1, -1, 1, 1)
        return _SmallDepthwise.apply(input, self.weight, self.bias, self)  # type: ignore[no-any-return]


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
