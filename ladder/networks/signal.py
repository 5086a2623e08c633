"""Owns the signal of an untrained network: how large each part's output is, and its gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ladder.networks.base import Net


@dataclass(frozen=True)
class Signal:
    """One part of a network. `std` of its output, `gradient` norm over its parameters (of the mean loss of a batch)."""

    part: str
    std: float
    gradient: float


def measure_signal(model: Net, image_size: int, batch: int = 16, seed: int = 0) -> list[Signal]:
    """Stem, stages or blocks, and head, on normal noise with random labels, in training mode.

    The weights stay; running statistics of batch norms move, so measure a network that is not needed afterwards.
    """
    classes = max(model.num_classes, 1)
    noise = torch.Generator().manual_seed(seed)
    images = torch.randn(batch, model.in_chans, image_size, image_size, generator=noise)
    labels = torch.randint(classes, (batch,), generator=noise)
    body = getattr(model, model.body)
    name = "stage" if model.body == "stages" else "block"
    parts: dict[str, nn.Module] = {"stem": model.stem}
    parts |= {f"{name} {i}": part for i, part in enumerate(body, 1)} | {"head": model.head}
    found: dict[str, float] = {}

    def watch(part: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        return module.register_forward_hook(lambda _, inputs, out: found.update({part: out.detach().std().item()}))

    model.train()
    model.zero_grad(set_to_none=True)
    handles = [watch(part, module) for part, module in parts.items()]
    try:
        nn.functional.cross_entropy(model(images), labels).backward()
    finally:
        for handle in handles:
            handle.remove()
    norms = {
        part: nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None]).item()
        for part, module in parts.items()
    }
    return [Signal(part, found[part], norms[part]) for part in parts]
