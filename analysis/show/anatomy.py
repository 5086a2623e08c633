"""Owns the anatomy of a network: the layers of its stem, of a typical block and between stages, in the order they run.

Of networks that have no outline (timm's, a user's) it is read off the network itself, on the meta device: no weights,
no computation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ladder.errors import UserError
from ladder.networks.outline import Layer as OutlineLayer
from ladder.networks.outline import outline
from ladder.networks.spec import IsotropicSpec, Spec

if TYPE_CHECKING:
    from torch import nn


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
    """A module that an image enters: a layer, or one around others. `layer` None: one that does nothing to numbers."""

    path: str
    layer: Layer | None
    channels: int  # of the input
    enter: bool = False  # a container is entered, not a layer run
    scaled: bool = False  # it holds a layer scale


@lru_cache(maxsize=256)
def anatomy(spec: Spec, image_size: int, in_chans: int = 3) -> Anatomy:
    """The anatomy of the network that a spec builds. Raises UserError where it takes no image of this size."""
    spec = spec.for_images(image_size)
    if (layers := outline(spec, image_size, in_chans=in_chans)) is None:
        events, containers, depths = _run(spec, image_size, in_chans)
    else:
        events = [_outlined(layer) for layer in layers]
        depths = (spec.depth,) if isinstance(spec, IsotropicSpec) else tuple(getattr(spec, "depths", ()))
        names = ["blocks"] if isinstance(spec, IsotropicSpec) else [f"stages.{i}.blocks" for i in range(len(depths))]
        containers = list(zip(names, depths, strict=True))
    if not containers:
        raise UserError("no drawing of the blocks: this network has no sequence of equal blocks")
    groups = [
        [i for i, e in enumerate(events) if e.path.startswith(f"{path}.") and not e.enter] for path, _ in containers
    ]
    stem = [e.layer for e in events[: groups[0][0]] if e.layer]
    path, depth = containers[0]
    block = f"{path}.{min(1, depth - 1)}"
    mine = [e for e in events if e.path == block or e.path.startswith(f"{block}.")]
    between: list[Layer] = []
    if len(groups) > 1:
        between = [e.layer for e in events[groups[0][-1] + 1 : groups[1][0]] if e.layer]
        if not between:
            inner = [e for e in events[groups[1][0] :] if e.path.startswith(f"{containers[1][0]}.0.")]
            convs = [e.layer for e in inner if ".shortcut" not in e.path and e.layer and "/" in e.layer.text]
            between = [Layer(f"in the first block: {layer.text}", "other") for layer in convs]
    channels = mine[0].channels if mine else 0
    return Anatomy(tuple(stem), _branch(mine, block), tuple(between), depths, channels)


def _outlined(layer: OutlineLayer) -> _Event:
    kernel, ends = f"{layer.kernel}×{layer.kernel}", f"{layer.c_in}→{layer.c_out}"
    kernel += f" /{layer.stride}" if layer.stride > 1 else ""
    words = {
        "conv": Layer(f"dw {kernel}, {layer.c_out}" if layer.groups == layer.c_in > 1 else f"{kernel}, {ends}", "conv"),
        "linear": Layer(f"{kernel}, {ends}", "conv"),
        "pool": Layer(f"max pool /{layer.stride}", "pool"),
        "grn": Layer("GRN", "norm"),
        "norm": Layer(layer.name, "norm"),
        "act": Layer(layer.name, "act"),
    }
    part = layer.kind == "part"
    return _Event(layer.path, words.get(layer.kind), layer.c_in, part, part and layer.params > 0)


def _run(spec: Spec, image_size: int, in_chans: int) -> tuple[list[_Event], list[tuple[str, int]], tuple[int, ...]]:
    """What one image runs through, in order; sequences of equal blocks, with their lengths; and all those lengths."""
    import torch

    from ladder.networks.build import build_net, check_image_size

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
    events: list[_Event] = []
    hooks = []

    def watch(path: str, module: nn.Module) -> None:
        enter = any(True for _ in module.children())

        def before(_: Any, args: tuple[Any, ...]) -> None:
            shape = tuple(args[0].shape) if args and hasattr(args[0], "shape") else (0, 0)
            scaled = getattr(module, "gamma", None) is not None
            events.append(_Event(path, None if enter else _layer(module), shape[1], enter, scaled))

        hooks.append(module.register_forward_pre_hook(before))

    for path, module in net.named_modules():
        if path:
            watch(path, module)
    with torch.no_grad():
        net(torch.empty(1, in_chans, image_size, image_size, device="meta"))
    for hook in hooks:
        hook.remove()
    containers = list(_repeated(net))
    return events, containers, depths or tuple(depth for _, depth in containers)


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
            if (event if part else events[0]).scaled:
                layers.append(Layer("layer scale", "scale"))
            layers.append(Layer("+", "add"))
            if start := entries.get(part, 0):
                layers.insert(start, Layer("", "fork"))
        elif event.layer and not name.startswith(("shortcut.", "add_")):
            layers.append(event.layer)
    return tuple(layers)


def _layer(module: nn.Module) -> Layer | None:
    """A layer in words; None for what does nothing to the numbers at evaluation (identity, dropout, drop path)."""
    from torch import nn

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
