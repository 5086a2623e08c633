"""Owns what a recipe means in training: optimiser, learning rate of every step, loss, mixup, average of the weights.

A thin layer over timm. The learning rate is the one thing written here: timm's schedulers warm up without ever
reaching the base rate within the warm-up, hold their optimiser, and have no piecewise-linear curve.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from timm.data.mixup import Mixup
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.models import group_parameters
from timm.optim import create_optimizer_v2, get_optimizer_class, param_groups_layer_decay
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from ladder.errors import UserError
from ladder.training.recipe import Recipe, check_even

LAYER_GROUP_BLOCKS = 3  # blocks that share one learning rate under layer decay; arXiv:2201.03545, Table 6
FUSED_DEVICES = ("cpu", "cuda")


# ------------------------------------------------------------------------------------------------ learning rate


@dataclass(frozen=True)
class Schedule:
    """The learning rate as a pure function of the optimiser step: nothing to save, resume by calling with the step."""

    kind: str  # cosine | step | piecewise | constant
    base_lr: float  # the peak
    warmup_lr: float
    min_lr: float
    warmup_units: int  # a unit is an optimiser step, or an epoch where the rate moves by epoch
    total_units: int
    units_per_epoch: int  # 1 where the rate moves by epoch
    steps_per_unit: int
    decay_epochs: float
    decay_rate: float

    def lr(self, step: int) -> float:
        """The learning rate of update number `step`, counted from 0; after the last, that of the last.

        warm-up     linear from warmup_lr at the first warm-up step to the peak at the last one
        cosine      min_lr + (peak - min_lr) / 2 * (1 + cos(pi * i / n)), i = 0..n-1 counted from the warm-up's end
                    (with the warm-up: `cosine_scheduler` of facebookresearch/ConvNeXt utils.py)
        step        peak * decay_rate ** floor(epoch / decay_epochs), epochs counted from the start of the run
        piecewise   through (0, 0), (2/5 E, peak), (4/5 E, peak / 20), (E, 0), taken at the step's end
                    (locuslab/convmixer and convmixer-cifar10; they round 2/5 E and 4/5 E down to whole epochs)
        constant    the peak
        """
        if step < 0:
            raise ValueError(f"step {step}: must be 0 or more")
        unit = min(step // self.steps_per_unit, self.total_units - 1)
        if unit < self.warmup_units:
            fraction = unit / (self.warmup_units - 1) if self.warmup_units > 1 else 0.0
            return self.warmup_lr + fraction * (self.base_lr - self.warmup_lr)
        if self.kind == "cosine":
            fraction = (unit - self.warmup_units) / (self.total_units - self.warmup_units)
            return self.min_lr + 0.5 * (self.base_lr - self.min_lr) * (1 + math.cos(math.pi * fraction))
        if self.kind == "step":
            decays = math.floor(unit / self.units_per_epoch / self.decay_epochs)
            return float(self.base_lr * self.decay_rate**decays)
        if self.kind == "piecewise":
            knots = [0.0, 0.4 * self.total_units, 0.8 * self.total_units, float(self.total_units)]
            return float(np.interp(unit + 1, knots, [0.0, self.base_lr, self.base_lr / 20, 0.0]))
        return self.base_lr

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Set the rate of update `step` on every parameter group, times its `lr_scale` if it has one; return it."""
        lr = self.lr(step)
        for group in optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        return lr


def make_schedule(recipe: Recipe, steps_per_epoch: int) -> Schedule:
    """The recipe's schedule for an epoch of `steps_per_epoch` optimiser steps.

    Raises:
        UserError: min_lr or warmup_lr above the applied peak; a rate that moves by epoch and starts at 0.
    """
    if steps_per_epoch < 1:
        raise ValueError(f"steps_per_epoch={steps_per_epoch}: must be 1 or more")
    recipe.check_rates()
    by_epoch = recipe.schedule_unit == "epoch"
    units_per_epoch = 1 if by_epoch else steps_per_epoch
    warmup_units = round(recipe.warmup_epochs * units_per_epoch)
    return Schedule(
        kind=recipe.schedule,
        base_lr=recipe.peak_lr,
        warmup_lr=recipe.warmup_lr,
        min_lr=recipe.min_lr,
        warmup_units=warmup_units,
        total_units=recipe.epochs * units_per_epoch,
        units_per_epoch=units_per_epoch,
        steps_per_unit=steps_per_epoch if by_epoch else 1,
        decay_epochs=recipe.decay_epochs,
        decay_rate=recipe.decay_rate,
    )


# ---------------------------------------------------------------------------------------------------- optimiser


class _BlockGroups:
    """A model as timm's `param_groups_layer_decay` reads it, its layers merged into groups of three blocks."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def named_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        return self._model.named_parameters()

    def group_matcher(self, coarse: bool = False) -> Any:
        layers = layer_groups(self._model)
        return lambda name: layers[name]


def layer_groups(model: nn.Module) -> dict[str, int]:
    """The layer group of every parameter, 0 nearest to the image; the head has the highest.

    Table 6 of arXiv:2201.03545: three consecutive blocks of a stage make a group, a downsampling layer goes with the
    blocks behind it, stem and head (with its norm) are groups of their own: 12 groups and the head for depths
    3, 3, 27, 3 (`optim_factory.py` of facebookresearch/ConvNeXt). The same rule holds for any depths. Stages and
    blocks come from the model's own `group_matcher`, as timm's models have it; a network without stages
    (ConvMixer) has each block as a group.

    Raises:
        UserError: the model has no `group_matcher`.
    """
    matcher: Any = getattr(model, "group_matcher", None)
    if matcher is None:
        raise UserError(f"recipe.layer_decay: {type(model).__name__} does not say its layers (no group_matcher)")
    stages: dict[str, int] = group_parameters(model, matcher(coarse=True), reverse=True)
    blocks: dict[str, int] = group_parameters(model, matcher(coarse=False), reverse=True)
    first: dict[int, int] = {}  # the first block of each stage
    for name, stage in stages.items():
        first[stage] = min(blocks[name], first.get(stage, blocks[name]))
    key = {name: (stage, (blocks[name] - first[stage]) // LAYER_GROUP_BLOCKS) for name, stage in stages.items()}
    number = {group: n for n, group in enumerate(sorted(set(key.values())))}
    return {name: number[group] for name, group in key.items()}


def _can_fuse(model: nn.Module, name: str) -> bool:
    if "fused" not in inspect.signature(get_optimizer_class(name.split("_")[-1], bind_defaults=False)).parameters:
        return False
    return all(p.device.type in FUSED_DEVICES and p.is_floating_point() for p in model.parameters())


def make_optimizer(model: nn.Module, recipe: Recipe, *, fused: bool | None = None) -> torch.optim.Optimizer:
    """timm's optimiser for `model`, which must be on its device already (DDP-wrapped or not: pass the bare model).

    No weight decay on parameters of one dimension (norms, biases, layer scale) unless `recipe.decay_1d`. With
    `layer_decay` d, the groups of `layer_groups` get `lr_scale` d ** (groups above it): 1 for the head.

    fused: True, False, or None: where torch has it. On CPU, too: it is bit-reproducible, with any number of threads,
    and was about three times as fast as the plain loop for AdamW on one core (8 against 26 ms for 3.4 M parameters).

    Raises:
        UserError: no such optimiser; `fused=True` where there is no fused one.
    """
    name = recipe.optimizer.lower()
    options: dict[str, Any] = {}
    can_fuse = _can_fuse(model, name)
    if fused and not can_fuse:
        raise UserError(f"engine.fused_optimizer=true: there is no fused {name} on this device; allowed: null, false")
    if can_fuse and fused is not False:
        options["fused"] = True
    if recipe.layer_decay is not None:
        no_decay: set[str] = getattr(model, "no_weight_decay", set)()
        options["param_group_fn"] = lambda m: param_groups_layer_decay(
            cast(nn.Module, _BlockGroups(m)),
            weight_decay=recipe.weight_decay,
            no_weight_decay_list=no_decay,
            weight_decay_exclude_1d=not recipe.decay_1d,
            layer_decay=recipe.layer_decay,
        )
    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        model,
        opt=name,
        lr=recipe.peak_lr,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        betas=tuple(recipe.betas),
        eps=recipe.eps,
        filter_bias_and_bn=not recipe.decay_1d,
        **options,
    )
    return optimizer


# -------------------------------------------------------------------------------------------- loss, mixup, average


def make_loss(recipe: Recipe) -> nn.Module:
    """The training loss, a scalar from logits (B, classes) and targets.

    Targets are (B, classes) probabilities where the recipe mixes (they hold the smoothing then), else (B,) labels.
    """
    if recipe.mixes:
        return SoftTargetCrossEntropy()
    if recipe.label_smoothing > 0:
        return LabelSmoothingCrossEntropy(recipe.label_smoothing)
    return nn.CrossEntropyLoss()


def make_mixup(recipe: Recipe, num_classes: int, *, micro_batch: int | None = None) -> Mixup | None:
    """timm's Mixup as the recipe says, one draw a batch; None where the recipe doesn't mix. Use with `mixup_batch`.

    Raises:
        UserError: an odd `micro_batch`: a batch is mixed with itself in reverse order, in pairs.
    """
    if not recipe.mixes:
        return None
    if micro_batch is not None:
        recipe.check_pairs(micro_batch)
    return Mixup(
        mixup_alpha=recipe.mixup,
        cutmix_alpha=recipe.cutmix,
        prob=recipe.mixup_prob,
        switch_prob=recipe.mixup_switch_prob,
        label_smoothing=recipe.label_smoothing,
        num_classes=num_classes,
    )


def mixup_batch(mixup: Mixup, images: Tensor, labels: Tensor, key: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mix a batch; the draw is a pure function of `key`, such as (seed, epoch, step, rank, micro-batch).

    timm draws from numpy's global generator: it is seeded for the draw and put back as it was.

    Args:
        images: (B, C, H, W), B even; overwritten.
        labels: (B,) int64 on any device.
        key: whole numbers from 0.

    Returns:
        The mixed images and (B, classes) target probabilities, on the labels' device.

    Raises:
        UserError: B is odd.
    """
    check_even(len(images))
    state = np.random.get_state()
    try:
        np.random.seed(np.random.SeedSequence(key).generate_state(8))
        mixed, targets = mixup(images, labels)
    finally:
        np.random.set_state(state)
    return mixed, targets


def scale_classifier(model: nn.Module, scale: float) -> None:
    """Multiply the start weights of the classifier by `scale`. Raises UserError where a model does not name it."""
    classifier = model.get_classifier() if hasattr(model, "get_classifier") else None  # type: ignore[operator]
    if not isinstance(classifier, nn.Linear | nn.Conv2d):
        raise UserError(
            f"recipe.head_init_scale={scale}: {type(model).__name__} names no layer as its classifier"
            " (get_classifier); allowed: 1"
        )
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.mul_(scale)


def make_ema(model: nn.Module, recipe: Recipe) -> ModelEmaV3 | None:
    """A moving average of all weights and buffers, started from `model` as it is; None where the recipe has none.

    Call `update(model)` after each optimiser step, without a step number: the decay is constant from the first
    update on, as in the official ConvNeXt code.
    """
    return None if recipe.ema_decay is None else ModelEmaV3(model, decay=recipe.ema_decay)
