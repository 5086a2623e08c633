"""Owns the recipe: how a network is trained, and what timm makes of it (optimiser, schedule, loss, mixup)."""

from __future__ import annotations

from dataclasses import dataclass, field

from ladder.errors import UserError


@dataclass
class Recipe:
    """One `conf/recipe/*.yaml`. Learning rates and probabilities are plain numbers, lengths are epochs."""

    name: str = "???"
    source: str = ""  # where the values come from
    # length and batch
    epochs: int = 300
    batch_size: int = 4096  # global: over all ranks and accumulation steps
    # optimiser (timm's names)
    optimizer: str = "adamw"
    lr: float = 4e-3  # for `lr_batch_size`
    lr_batch_size: int | None = None  # applied lr = lr * batch_size / lr_batch_size; null: lr as it is
    weight_decay: float = 0.05  # not on 1-D parameters (norms, biases, layer scale)
    decay_1d: bool = False  # true: weight decay on 1-D parameters too
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    momentum: float = 0.9  # of sgd
    eps: float = 1e-8
    clip_grad: float | None = None  # largest global gradient norm
    layer_decay: float | None = None  # learning-rate factor from one layer group to the one below
    # schedule
    schedule: str = "cosine"  # cosine | step | piecewise | constant
    warmup_epochs: float = 0
    warmup_lr: float = 0.0
    min_lr: float = 0.0  # the end of cosine; scaled like lr if `scale_min_lr`
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
    interpolation: str = "bicubic"
    eval_crop_pct: float = 0.875  # the centre crop's side / resized side (ignored where images have the final size)

    def check(self) -> None:
        """Raise UserError naming the first value that can't be."""
        rules = {
            "epochs": self.epochs >= 1,
            "batch_size": self.batch_size >= 1,
            "lr": self.lr > 0,
            "lr_batch_size": self.lr_batch_size is None or self.lr_batch_size >= 1,
            "weight_decay": self.weight_decay >= 0,
            "betas": len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas),
            "clip_grad": self.clip_grad is None or self.clip_grad > 0,
            "layer_decay": self.layer_decay is None or 0 < self.layer_decay <= 1,
            "schedule": self.schedule in ("cosine", "step", "piecewise", "constant"),
            "schedule_unit": self.schedule_unit in ("iteration", "epoch"),
            "warmup_epochs": 0 <= self.warmup_epochs <= self.epochs,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "drop_path": 0 <= self.drop_path < 1,
            "mixup": self.mixup >= 0,
            "cutmix": self.cutmix >= 0,
            "mixup_prob": 0 <= self.mixup_prob <= 1,
            "mixup_switch_prob": 0 <= self.mixup_switch_prob <= 1,
            "ema_decay": self.ema_decay is None or 0 < self.ema_decay < 1,
            "crop": self.crop in ("random_resized", "pad", "none"),
            "crop_scale": len(self.crop_scale) == 2 and 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1,
            "crop_ratio": len(self.crop_ratio) == 2 and 0 < self.crop_ratio[0] <= self.crop_ratio[1],
            "crop_padding": self.crop_padding >= 0,
            "hflip": 0 <= self.hflip <= 1,
            "reprob": 0 <= self.reprob <= 1,
            "remode": self.remode in ("pixel", "rand", "const"),
            "eval_crop_pct": 0 < self.eval_crop_pct <= 1,
        }
        allowed = {
            "schedule": "cosine, step, piecewise, constant",
            "schedule_unit": "iteration, epoch",
            "crop": "random_resized, pad, none",
            "remode": "pixel, rand, const",
            "warmup_epochs": f"0 to recipe.epochs={self.epochs}",
        }
        for name, good in rules.items():
            if not good:
                hint = f"; allowed: {allowed[name]}" if name in allowed else " is out of range"
                raise UserError(f"recipe.{name}={getattr(self, name)}{hint}")
