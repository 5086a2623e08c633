"""Owns the small parts that networks share: norms, activations, start weights, checkpointing of blocks."""

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import cast

import torch
from timm.layers import LayerNorm, LayerNorm2d, create_act_layer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ladder.errors import UserError

STD = 0.02  # of start weights: Table 5 of arXiv:2201.03545v2, for networks from 64 channels on
POOLS = ("avg", "max", "avgmax", "catavgmax", "")


def named(**parts: nn.Module | None) -> nn.Sequential:
    """Layers one after another under these names; those that are None are left out."""
    return nn.Sequential(OrderedDict((name, part) for name, part in parts.items() if part is not None))


def drop_path_rates(last: float, blocks: int) -> list[float]:
    """The stochastic depth of each block: linear from 0 at the first to `last` at the last."""
    return [last * i / max(blocks - 1, 1) for i in range(blocks)]


def make_norm(kind: str, channels: int, channels_last: bool = False) -> nn.Module:
    """A norm over `channels` of (B, C, H, W), or of (B, H, W, C) if `channels_last` (LayerNorm only)."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return LayerNorm(channels, eps=1e-6) if channels_last else LayerNorm2d(channels, eps=1e-6)


def make_act(name: str) -> nn.Module:
    """An activation by timm's name.

    ReLU works in place: here it always follows a convolution, a norm or a sum, and none of them needs its own output
    for the backward pass.
    """
    return nn.ReLU(inplace=True) if name == "relu" else cast(nn.Module, create_act_layer(name))


def check_pool(global_pool: str, head_norm: bool) -> None:
    """Refuse a pooling that timm's heads do not have. "" is none: features keep their height and width."""
    allowed = [p for p in POOLS if not (head_norm and p == "catavgmax")]  # the norm's width is that of the features
    if global_pool.removeprefix("fast") not in allowed:
        raise UserError(f"global_pool={global_pool!r}: allowed are {', '.join(repr(p) for p in allowed)}")


def init_weights(module: nn.Module, how: str, std: float = STD) -> None:
    """Set start weights in place; norms keep 1 and 0.

    trunc_normal: of this std for convolutions and linear layers, biases 0 (ConvNeXt).
    kaiming: normal, fan-out, gain of ReLU, biases 0; a classifier keeps torch's own (torchvision's ResNet).
    torch: what torch drew when the module was made (ConvMixer).
    """
    if how == "torch" or not isinstance(module, nn.Conv2d | nn.Linear):
        return
    if how == "trunc_normal":
        nn.init.trunc_normal_(module.weight, std=std)
    else:
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if module.bias is not None:
        nn.init.zeros_(module.bias)


@contextlib.contextmanager
def _spare_statistics(block: nn.Module) -> Iterator[None]:
    """Let the batch norms of a block write into copies of their running statistics."""
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    try:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer.clone())
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)


def checkpoint_block(block: nn.Module, x: Tensor) -> Tensor:
    """Run a block without keeping its inner activations; the backward pass computes them again.

    The second computation leaves the running statistics of batch norms alone: otherwise every step would count
    twice in them, and a checkpointed training would end in another network.
    """
    if torch.compiler.is_compiling():  # the compiler replays no side effects
        return cast(Tensor, checkpoint(block, x, use_reentrant=False))

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return contextlib.nullcontext(), _spare_statistics(block)

    return cast(Tensor, checkpoint(block, x, use_reentrant=False, context_fn=contexts))


def checkpoint_blocks(blocks: nn.Sequential, x: Tensor) -> Tensor:
    """`checkpoint_block` for one block after another."""
    for block in blocks:
        x = checkpoint_block(block, x)
    return x
