"""Owns what a network costs: parameters, and multiply-accumulates (MACs) of one image, counted on the meta device."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from ladder.errors import UserError, one_line
from ladder.networks.cost_records import Cost, LayerCost


def _input_channels(model: nn.Module) -> int:
    if isinstance(channels := getattr(model, "in_chans", None), int):
        return channels
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    return first.in_channels if first is not None else 3


@contextlib.contextmanager
def _eval_flags(model: nn.Module) -> Iterator[None]:
    # The flags alone, not model.eval(): some modules do more than that in train() and would not be as before.
    flags = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in flags:
            module.training = False
        yield
    finally:
        for module, flag in flags:
            module.training = flag


class _SkipElementwise(TorchFunctionMode):
    """Norms and activations give back what they get: they have no MACs, and on the meta device they are slow."""

    SAME_SHAPE = (F.batch_norm, F.layer_norm, F.relu, F.relu_, F.gelu, F.silu, torch.relu, torch.relu_)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return args[0] if func in self.SAME_SHAPE else func(*args, **(kwargs or {}))


class _CountByShape(TorchFunctionMode):
    """Counts convolutions and linear layers by their shapes alone: on the meta device each takes torch a millisecond.

    Whatever it does not know goes on to the modes around it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        shape = None if kwargs else self._shape(func, args)
        if shape is None:
            return func(*args, **(kwargs or {}))
        self.macs += math.prod(shape) * args[1][0].numel()
        return args[0].new_empty(shape)

    @staticmethod
    def _shape(func: Callable[..., Any], args: tuple[Any, ...]) -> tuple[int, ...] | None:
        """What a layer gives back, as `nn.Conv2d` and `nn.Linear` call it; None for all else."""
        if func is F.linear and len(args) == 3:
            return (*args[0].shape[:-1], len(args[1]))
        if func is not F.conv2d or len(args) != 7 or isinstance(args[4], str) or args[0].dim() != 4:
            return None
        image, weight, _, stride, padding, dilation, groups = args
        if image.shape[1] != weight.shape[1] * groups:
            return None  # torch tells the fault
        sides = zip(image.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
        out = [(size + 2 * pad - apart * (kernel - 1) - 1) // step + 1 for size, kernel, step, pad, apart in sides]
        return (len(image), len(weight), *out) if min(out) > 0 else None


def on_meta(
    model: nn.Module, image_size: int | tuple[int, int], in_chans: int | None, *modes: AbstractContextManager[Any]
) -> Any:
    """Send the shape of an image through `model` in eval mode, within `modes`; returns what comes out.

    Raises UserError where it takes none.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    tensors: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    meta = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    image = torch.empty(1, in_chans or _input_channels(model), height, width, device="meta", dtype=dtype)
    try:
        with torch.no_grad(), _eval_flags(model), contextlib.ExitStack() as stack:
            for mode in (*modes, _SkipElementwise()):
                stack.enter_context(mode)
            return functional_call(model, meta, (image,))
    except (RuntimeError, AssertionError, ValueError) as error:
        shape = "x".join(map(str, image.shape[1:]))
        raise UserError(f"this network takes no {shape} image (channels, height, width): {one_line(error)}") from None


def _count(model: nn.Module, image_size: int | tuple[int, int], in_chans: int | None) -> dict[str, int]:
    """MACs of each module called, inclusive of what it calls, by path ("" is the model itself)."""
    counter = FlopCounterMode(display=False)
    on_meta(model, image_size, in_chans, counter)
    # The counter names modules by the class of the outermost, and counts a multiply-accumulate as two.
    root = type(model).__name__
    return {
        str(name).removeprefix(root).removeprefix("."): sum(ops.values()) // 2
        for name, ops in counter.get_flop_counts().items()
        if name == root or str(name).startswith(f"{root}.")
    }


def measure_cost(model: nn.Module, image_size: int | tuple[int, int] = 224, in_chans: int | None = None) -> Cost:
    """Parameters and MACs of a model in eval mode, for one image of `image_size` (side, or height and width) pixels.

    Nothing is computed and no weights are copied: shapes alone go through the model, which is left as it was.
    It may itself be on the meta device. Raises UserError where the model takes no such image.
    """
    rest, counted = FlopCounterMode(display=False), _CountByShape()
    on_meta(model, image_size, in_chans, rest, counted)
    # The counter counts a multiply-accumulate as two.
    macs = rest.get_total_flops() // 2 + counted.macs
    return Cost(params=sum(p.numel() for p in model.parameters()), macs=macs)


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        if module.kernel_size == (1, 1):
            return "pointwise conv"
        return "depthwise conv" if module.groups == module.in_channels > 1 else "dense conv"
    if isinstance(module, nn.Linear):
        return "linear"
    norms = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
    return "norm" if isinstance(module, norms) else "other"


def cost_breakdown(
    model: nn.Module, image_size: int | tuple[int, int] = 224, in_chans: int | None = None
) -> list[LayerCost]:
    """The cost of every module that has parameters or MACs of its own; the parts add up to `measure_cost`.

    Raises UserError where the model takes no such image.
    """
    counted = _count(model, image_size, in_chans)
    own = dict(counted)
    for path in counted:
        parent = path
        while parent:  # the nearest module around it that was itself called
            parent = parent.rpartition(".")[0]
            if parent in counted:
                own[parent] -= counted[path]
                break
    seen: set[int] = set()
    parts = []
    for path, module in model.named_modules():
        params = 0
        for parameter in module.parameters(recurse=False):
            params += 0 if id(parameter) in seen else parameter.numel()  # shared ones count once
            seen.add(id(parameter))
        if params or own.get(path):
            parts.append(LayerCost(path, _kind(module), params, own.get(path, 0)))
    return parts
