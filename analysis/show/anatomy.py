"""Owns the anatomy of a network: the layers of its stem, of a typical block and between stages, in the order they run.

It is read off the network that the spec builds (on the meta device: no weights, no computation), not off the spec's
words, so a drawing shows what is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from analysis.show.remembered import remembered
from ladder.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from ladder.networks.spec import Spec


@dataclass(frozen=True)
class Layer:
    """One layer in words. kind: conv, norm, act, scale, pool, other; fork and add: where a shortcut leaves, and where
    it joins; a shortcut without a fork leaves at the block's entry."""

    text: str
    kind: str


@dataclass(frozen=True)
class Anatomy:
    """Layers of the stem, of the second block of the first stage, and of what lies before the second stage."""

    stem: tuple[Layer, ...]
    block: tuple[Layer, ...]
    between: tuple[Layer, ...]
    depths: tuple[int, ...]
    channels: int  # at the block's entry


@dataclass(frozen=True)
class _Event:
    path: str
    module: nn.Module
    shape: tuple[int, ...]  # of the input
    enter: bool = False  # a container is entered, not a layer run


@lru_cache(maxsize=256)
def anatomy(spec: Spec, image_size: int, in_chans: int = 3) -> Anatomy:
    """The anatomy of the network that a spec builds. Raises UserError where it takes no image of this size."""
    sizes = (image_size, in_chans)
    return remembered("anatomy", spec, sizes, lambda: _read_off(spec, *sizes), _restored)


def _restored(made: dict[str, Any]) -> Anatomy:
    layers = {part: tuple(Layer(**layer) for layer in made[part]) for part in ("stem", "block", "between")}
    return Anatomy(**layers, depths=tuple(made["depths"]), channels=made["channels"])


def _read_off(spec: Spec, image_size: int, in_chans: int) -> Anatomy:
    import torch

    from ladder.networks.build import build_net, check_image_size

    spec = spec.for_images(image_size)
    check_image_size(spec, image_size, 1000, in_chans)
    # What is drawn is in the first two blocks of a stage; ResNet-200 has 66.
    depths = tuple(getattr(spec, "depths", ()))
    if depths:
        spec = spec.replace(depths=[min(depth, 2) for depth in depths])
    elif hasattr(spec, "depth"):
        depths = (spec.depth,)
        spec = spec.replace(depth=min(spec.depth, 2))
    with torch.device("meta"):
        net = build_net(spec, in_chans=in_chans).eval()
    containers = list(_repeated(net))
    events = _run(net, image_size, in_chans)
    if not containers:
        raise UserError("no drawing of the blocks: this network has no sequence of equal blocks")
    groups = [
        [i for i, e in enumerate(events) if e.path.startswith(f"{path}.") and not e.enter] for path, _ in containers
    ]
    first = groups[0][0]
    stem = [layer for e in events[:first] if not e.enter and (layer := _layer(e))]
    path, depth = containers[0]
    block = f"{path}.{min(1, depth - 1)}"
    mine = [e for e in events if e.path == block or e.path.startswith(f"{block}.")]
    layers = _branch(mine, block)
    between: list[Layer] = []
    if len(groups) > 1:
        between = [layer for e in events[groups[0][-1] + 1 : groups[1][0]] if not e.enter and (layer := _layer(e))]
        if not between:
            inner = [e for e in events[groups[1][0] :] if not e.enter and e.path.startswith(f"{containers[1][0]}.0.")]
            convs = [layer for e in inner if ".shortcut" not in e.path and (layer := _layer(e)) and "/" in layer.text]
            between = [Layer(f"in the first block: {layer.text}", "other") for layer in convs]
    channels = mine[0].shape[1] if mine else 0
    return Anatomy(tuple(stem), layers, tuple(between), depths or tuple(d for _, d in containers), channels)


def _repeated(net: nn.Module) -> Iterator[tuple[str, int]]:
    """Path and length of every innermost sequence of blocks of one class."""
    from torch import nn

    for path, module in net.named_modules():
        children = list(module.children())
        if not path or not isinstance(module, nn.Sequential | nn.ModuleList) or not children:
            continue
        if len({type(c) for c in children}) > 1 or not any(True for _ in children[0].children()):
            continue
        inner = [m for m in children[0].modules() if isinstance(m, nn.Sequential | nn.ModuleList) and len(m) > 0]
        if any(len({type(c) for c in m.children()}) == 1 and any(True for _ in m[0].children()) for m in inner):
            continue
        yield path, len(children)


def _run(net: nn.Module, image_size: int, in_chans: int) -> list[_Event]:
    """Every layer that one image runs through, in order; modules with children as they are entered."""
    import torch

    events: list[_Event] = []
    hooks = []

    def watch(path: str, module: nn.Module) -> None:
        inner = any(True for _ in module.children())

        def before(_: Any, args: tuple[Any, ...]) -> None:
            shape = tuple(args[0].shape) if args and hasattr(args[0], "shape") else ()
            events.append(_Event(path, module, shape, enter=inner))

        hooks.append(module.register_forward_pre_hook(before))

    for path, module in net.named_modules():
        if path:
            watch(path, module)
    with torch.no_grad():
        net(torch.empty(1, in_chans, image_size, image_size, device="meta"))
    for hook in hooks:
        hook.remove()
    return events


def _branch(events: list[_Event], block: str) -> tuple[Layer, ...]:
    """The layers of a block, an `add` where its child `shortcut` joins, or a child `add_PART` adds what PART got."""
    layers: list[Layer] = []
    entries: dict[str, int] = {}  # how many layers ran before a part
    for event in events:
        name = event.path.removeprefix(block).lstrip(".")
        if event.enter:
            entries[name] = len(layers)
        part = name.removeprefix("add_") if name.startswith("add_") and "." not in name else ""
        if name == "shortcut" or part:
            if _scaled(event.module if part else events[0].module):
                layers.append(Layer("layer scale", "scale"))
            layers.append(Layer("+", "add"))
            if start := entries.get(part, 0):
                layers.insert(start, Layer("", "fork"))
        elif not event.enter and not name.startswith(("shortcut.", "add_")) and (layer := _layer(event)):
            layers.append(layer)
    return tuple(layers)


def _scaled(block: nn.Module) -> bool:
    return getattr(block, "gamma", None) is not None


def _layer(event: _Event) -> Layer | None:
    """A layer in words; None for what does nothing to the numbers at evaluation (identity, dropout, drop path)."""
    from torch import nn

    module = event.module
    name = type(module).__name__
    if isinstance(module, nn.Identity | nn.Dropout | nn.Flatten | nn.ZeroPad2d) or name == "DropPath":
        return None
    if isinstance(module, nn.Conv2d):
        k, stride = module.kernel_size[0], module.stride[0]
        size = f"{k}×{k}" + (f" /{stride}" if stride > 1 else "")
        if module.groups == module.in_channels > 1:
            return Layer(f"dw {size}, {module.out_channels}", "conv")
        return Layer(f"{size}, {module.in_channels}→{module.out_channels}", "conv")
    if isinstance(module, nn.Linear):
        return Layer(f"1×1, {module.in_features}→{module.out_features}", "conv")
    if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.modules.batchnorm._NormBase):
        short = {"LayerNorm": "LN", "LayerNorm2d": "LN", "BatchNorm2d": "BN", "GroupNorm": "GN"}
        return Layer(short.get(name, "BN" if isinstance(module, nn.modules.batchnorm._NormBase) else "LN"), "norm")
    if name == "GlobalResponseNorm":
        return Layer("GRN", "norm")
    if "Pool" in name:
        reduces = getattr(module, "stride", None)
        kind = "avg" if name.startswith("Avg") else "max"
        return Layer(f"{kind} pool /{reduces}" if isinstance(reduces, int) else "pool", "pool")
    if not list(module.parameters()):
        return Layer(name, "act")
    return Layer(name, "other")
