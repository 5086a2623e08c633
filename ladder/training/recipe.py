"""Owns the recipe: every choice of how a network is trained, and which values each choice may take.

What a recipe means in training is `ladder.training.optim`'s (optimiser, schedule, loss, mixup) and `ladder.data`'s
(augmentation); the recipes themselves are `conf/recipe/*.yaml`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ladder.errors import UserError
from ladder.networks.spec import as_float


@dataclass
class Recipe:
    """One `conf/recipe/*.yaml`. Learning rates and probabilities are plain numbers, lengths are epochs."""

    name: str = "???"
    source: str = ""  # where the values come from
    # length and batch
    epochs: int = 300
    batch_size: int = 4096  # global: over all ranks and accumulation steps
    # optimiser
    optimizer: str = "adamw"  # timm's names; beware: timm's `sgd` is Nesterov's, its `momentum` is plain SGD
    lr: float = 4e-3  # the peak, for `lr_batch_size`
    lr_batch_size: int | None = None  # applied peak = lr * batch_size / lr_batch_size; null: lr as it is
    weight_decay: float = 0.05  # not on 1-D parameters (norms, biases, layer scale)
    decay_1d: bool = False  # true: weight decay on 1-D parameters too
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    momentum: float = 0.9  # of sgd and momentum
    eps: float = 1e-8
    clip_grad: float | None = None  # largest global gradient norm
    layer_decay: float | None = None  # learning-rate factor from one layer group (3 blocks) to the one below
    # schedule
    schedule: str = "cosine"  # cosine | step | piecewise | constant; the curves: ladder.training.optim.Schedule.lr
    warmup_epochs: float = 0  # linear; the rest of the curve shares the epochs that are left
    warmup_lr: float = 0.0  # start of the warm-up; absolute: never scaled with the batch
    min_lr: float = 0.0  # end of cosine; absolute: never scaled with the batch
    decay_epochs: float = 30  # step: epochs between decays
    decay_rate: float = 0.1  # step: factor of a decay
    schedule_unit: str = "iteration"  # iteration | epoch: how often the learning rate moves
    # regularisation
    label_smoothing: float = 0.0
    drop_path: float = 0.0  # becomes spec.drop_path unless that is given
    mixup: float = 0.0  # alpha
    cutmix: float = 0.0  # alpha
    mixup_prob: float = 1.0  # of a batch being mixed at all
    mixup_switch_prob: float = 0.5  # of cutmix where both are on
    ema_decay: float | None = None  # null: no moving average of the weights
    head_init_scale: float = 1.0  # the head's start weights are multiplied by it
    # augmentation of training images
    crop: str = "random_resized"  # random_resized | pad | none
    crop_scale: list[float] = field(default_factory=lambda: [0.08, 1.0])  # random_resized: area
    crop_ratio: list[float] = field(default_factory=lambda: [0.75, 4 / 3])  # random_resized: aspect
    crop_padding: int = 4  # pad: pixels on each side before a random crop
    hflip: float = 0.5  # probability
    randaugment: str | None = None  # timm's string, such as rand-m9-mstd0.5-inc1
    color_jitter: float | None = None  # used where randaugment is off
    reprob: float = 0.0  # random erasing, probability
    remode: str = "pixel"  # random erasing: pixel | rand | const
    # images, training and evaluation
    interpolation: str = "bicubic"  # bicubic | bilinear
    eval_crop_pct: float = 0.875  # the centre crop's side / resized side (ignored where images have the final size)

    def canonical(self) -> Recipe:
        """The same recipe with one way to write each value (a step of a ladder file may say 0 for 0.0)."""
        typed = {f.name: _as_typed(str(f.type), getattr(self, f.name)) for f in fields(self)}
        name: Any = self.optimizer  # of a ladder file's step, which Hydra doesn't type
        return replace(self, **typed | {"optimizer": name.lower() if isinstance(name, str) else name})

    def unread(self) -> dict[str, str]:
        """The fields that other choices leave without effect, each with the reason."""
        out: dict[str, str] = {}
        for reads, why, *names in (
            (self.optimizer not in _WITHOUT_MOMENTUM, f"recipe.optimizer={self.optimizer} has none", "momentum"),
            (self.optimizer not in _WITHOUT_BETAS, f"recipe.optimizer={self.optimizer} has none", "betas"),
            (self.optimizer not in _WITHOUT_EPS, f"recipe.optimizer={self.optimizer} has none", "eps"),
            (self.schedule == "step", f"recipe.schedule={self.schedule}", "decay_epochs", "decay_rate"),
            (self.schedule == "cosine", f"recipe.schedule={self.schedule}", "min_lr"),
            (self.warmup_epochs > 0, "recipe.warmup_epochs=0", "warmup_lr"),
            (self.mixup > 0 or self.cutmix > 0, "recipe.mixup=0 and recipe.cutmix=0", "mixup_prob"),
            (self.mixup > 0 and self.cutmix > 0, "it chooses between mixup and cutmix", "mixup_switch_prob"),
            (self.crop == "random_resized", f"recipe.crop={self.crop}", "crop_scale", "crop_ratio"),
            (self.crop == "pad", f"recipe.crop={self.crop}", "crop_padding"),
            (self.randaugment is None, "recipe.randaugment is on", "color_jitter"),
            (self.reprob > 0, "recipe.reprob=0", "remode"),
        ):
            out |= {} if reads else dict.fromkeys(names, why)
        return out

    def check(self) -> None:
        """Raise UserError naming the first value that can't be, and what is allowed."""
        for name, (allowed, holds) in _RULES.items():
            value = getattr(self, name)
            try:
                good = holds(value)
            except (TypeError, ValueError, OverflowError):  # of a ladder file's step, which Hydra doesn't type
                good = False
            if not good:
                raise UserError(f"recipe.{name}={value}; allowed: {allowed}")
        if self.schedule == "piecewise" and self.warmup_epochs:
            raise UserError(
                f"recipe.warmup_epochs={self.warmup_epochs}; allowed: 0 with recipe.schedule=piecewise, "
                "which rises from 0 by itself"
            )
        self.check_rates()

    @property
    def peak_lr(self) -> float:
        """The peak learning rate of a run: `lr * batch_size / lr_batch_size`; `lr` itself where lr_batch_size is null.

        Linear scaling (arXiv:1706.02677). batch_size is the global batch: micro-batch x accumulation x ranks.
        `warmup_lr` and `min_lr` are absolute and never scaled, as in the official ConvNeXt code, where --min_lr 1e-6
        stays whatever the batch.
        """
        return self.lr if self.lr_batch_size is None else self.lr * self.batch_size / self.lr_batch_size

    @property
    def mixes(self) -> bool:
        """Whether batches are mixed at all."""
        return (self.mixup > 0 or self.cutmix > 0) and self.mixup_prob > 0

    def check_rates(self) -> None:
        """Raise UserError where min_lr or warmup_lr is above the peak, or a rate that moves by epoch starts at 0."""
        peak = self.peak_lr
        if self.schedule == "cosine" and self.min_lr > peak:
            raise UserError(
                f"recipe.min_lr={self.min_lr:g} is above the applied learning rate {peak:g} (recipe.lr={self.lr:g} "
                f"scaled to batch_size={self.batch_size}); lower it or raise recipe.lr"
            )
        if self.warmup_epochs and self.warmup_lr > peak:
            raise UserError(
                f"recipe.warmup_lr={self.warmup_lr:g} is above the applied learning rate {peak:g}; lower it"
            )
        if self.schedule_unit == "epoch" and round(self.warmup_epochs) and self.warmup_lr == 0:
            raise UserError(
                "recipe.warmup_lr=0 with recipe.schedule_unit=epoch trains a whole epoch at 0; set it above 0"
            )

    def check_pairs(self, images: int) -> None:
        """Raise UserError where batches are mixed, and one of `images` images can't be."""
        if self.mixes:
            check_even(images)


def check_even(images: int) -> None:
    """Raise UserError where a batch can't be mixed with itself in reverse order, in pairs."""
    if images % 2:
        raise UserError(
            f"mixup and cutmix need an even number of images a micro-batch, not {images}: change recipe.batch_size "
            "or engine.accumulate, or set recipe.mixup=0 recipe.cutmix=0"
        )


def _as_typed(kind: str, value: Any) -> Any:
    if kind.startswith("list[float]") and isinstance(value, list):
        return [as_float(v) for v in value]
    return as_float(value) if kind.startswith("float") else value


Rule = tuple[str, Callable[..., bool]]  # what is allowed, in words; whether a value is


def _whole(low: int, high: int = 10**9) -> Rule:
    return f"a whole number from {low} to {high:,}", (
        lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high
    )


def _number(v: float) -> bool:
    return not isinstance(v, bool) and math.isfinite(v)


def _one_of(*names: str) -> Rule:
    return ", ".join(names), lambda v: v in names


def _or_null(rule: Rule) -> Rule:
    return f"null or {rule[0]}", lambda v: v is None or rule[1](v)


def _pair(what: str, holds: Callable[[float, float], bool]) -> Rule:
    return what, lambda v: len(v) == 2 and all(map(_number, v)) and holds(*v)


COMMON_OPTIMIZERS = ("adam", "adamw", "lamb", "lion", "momentum", "sgd")

_WITHOUT_MOMENTUM = ("adam", "adamw", "lamb", "lion")  # of those above
_WITHOUT_BETAS = ("momentum", "sgd")
_WITHOUT_EPS = ("lion", "momentum", "sgd")


def _known_optimizer(name: object) -> bool:
    if not isinstance(name, str):
        return False
    name = name.lower().removeprefix("lookahead_")
    if name in COMMON_OPTIMIZERS:  # a launcher checks recipes, and should not import torch and timm (seconds) for it
        return True
    from timm.optim import list_optimizers

    return name in list_optimizers()


_POSITIVE: Rule = ("a number above 0", lambda v: _number(v) and v > 0)
_NOT_NEGATIVE: Rule = ("a number from 0", lambda v: _number(v) and v >= 0)
_PROBABILITY: Rule = ("0 to 1", lambda v: _number(v) and 0 <= v <= 1)
_BELOW_ONE: Rule = ("from 0 up to, not including, 1", lambda v: _number(v) and 0 <= v < 1)
_FACTOR: Rule = ("above 0, up to 1", lambda v: _number(v) and 0 < v <= 1)
_FLAG: Rule = ("true, false", lambda v: isinstance(v, bool))

_RULES: dict[str, Rule] = {
    "epochs": _whole(1),
    "batch_size": _whole(1),
    "optimizer": (
        "a name of timm.optim.list_optimizers(), such as adamw, momentum (SGD), sgd (Nesterov's), lamb, lion",
        _known_optimizer,
    ),
    "lr": _POSITIVE,
    "lr_batch_size": _or_null(_whole(1)),
    "weight_decay": _NOT_NEGATIVE,
    "decay_1d": _FLAG,
    "betas": _pair("two numbers from 0 up to, not including, 1", lambda a, b: 0 <= a < 1 and 0 <= b < 1),
    "momentum": _BELOW_ONE,
    "eps": ("0 to 1 (a large one would undo every step)", lambda v: _number(v) and 0 <= v <= 1),
    "clip_grad": _or_null(_POSITIVE),
    "layer_decay": _or_null(_FACTOR),
    "schedule": _one_of("cosine", "step", "piecewise", "constant"),
    "warmup_epochs": _NOT_NEGATIVE,
    "warmup_lr": _NOT_NEGATIVE,
    "min_lr": _NOT_NEGATIVE,
    "decay_epochs": _POSITIVE,
    "decay_rate": _FACTOR,
    "schedule_unit": _one_of("iteration", "epoch"),
    "label_smoothing": _BELOW_ONE,
    "drop_path": _BELOW_ONE,
    "mixup": _NOT_NEGATIVE,
    "cutmix": _NOT_NEGATIVE,
    "mixup_prob": _PROBABILITY,
    "mixup_switch_prob": _PROBABILITY,
    "ema_decay": _or_null(("above 0 and below 1", lambda v: _number(v) and 0 < v < 1)),
    "head_init_scale": _POSITIVE,
    "crop": _one_of("random_resized", "pad", "none"),
    "crop_scale": _pair("two areas, 0 < smallest <= largest <= 1", lambda a, b: 0 < a <= b <= 1),
    "crop_ratio": _pair("two aspect ratios, 0 < smallest <= largest", lambda a, b: 0 < a <= b),
    "crop_padding": _whole(0, 4096),
    "hflip": _PROBABILITY,
    # its sections are the loaders' matter: they don't take the same ones
    "randaugment": _or_null(
        ("timm's string, such as rand-m9-mstd0.5-inc1", lambda v: isinstance(v, str) and v.strip() != "")
    ),
    "color_jitter": _or_null(_NOT_NEGATIVE),
    "reprob": _PROBABILITY,
    "remode": _one_of("pixel", "rand", "const"),
    "interpolation": _one_of("bicubic", "bilinear"),
    "eval_crop_pct": _FACTOR,
}
