"""Owns the typed schema of a run's config: the root keys, what each may hold, what each defaults to."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from omegaconf import MISSING, DictConfig

from ladder.errors import UserError, unknown
from ladder.training.recipe import Recipe
from ladder.networks.arguments import PREFIX
from ladder.networks.spec import SPECS

# What a run's hash leaves out of `data`, and what it takes from `engine`: where data lies, and speed, change no result.
DATA_WITHOUT_EFFECT = ("root", "download", "workers")
ENGINE_WITH_EFFECT = ("precision", "accumulate")


def _is_finite(value: object) -> bool:
    """OmegaConf lets lists and mappings into a list of numbers."""
    return isinstance(value, float) and math.isfinite(value)


@dataclass
class DataConfig:
    """One `conf/data/*.yaml`: which images, at which size, loaded how."""

    name: str = MISSING  # what tables call it
    source: str = MISSING  # digits | imagefolder | torchvision | timm
    root: str | None = None  # folder of the images; its default is the data set's own
    download: bool = False  # torchvision sets: fetch what is missing
    timm_name: str | None = None  # source timm: a create_dataset string, such as hfds/uoft-cs/cifar10
    train_split: str = "train"  # its name in the set
    eval_split: str = "test"  # test | val | validation: its name in the set; auto: the first of these folders there is
    image_size: int = 224  # pixels, square
    in_chans: int = 3  # 1: grayscale | 3: colour
    num_classes: int | None = None  # null: counted
    mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])  # of pixels in 0..1, a channel each
    std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])
    holdout: float = 0.0  # part of the training set, stratified, to evaluate on; the test set stays untouched
    fraction: float = 1.0  # part of the training set, stratified, to train on: for quick studies
    loader: str = "timm"  # timm: worker processes | memory: whole set as one uint8 tensor on the device
    workers: int = 4  # processes of the timm loader

    def check(self) -> None:
        """Raise UserError naming the first value that can't be, and what is allowed; opens no file."""
        if self.loader not in ("memory", "timm"):
            raise unknown("data.loader", self.loader, ["memory", "timm"])
        if self.timm_name is not None and self.source != "timm":
            raise UserError(f"data.timm_name={self.timm_name}: data={self.name} does not read it; use data=timm")
        if self.train_split == "auto":
            raise UserError("data.train_split=auto: only data.eval_split may be auto; name the folder or split")
        if self.in_chans not in (1, 3):
            raise UserError(f"data.in_chans={self.in_chans}; allowed: 1 (grayscale), 3 (colour)")
        if not 1 <= self.image_size <= 4096:
            raise UserError(f"data.image_size={self.image_size}; allowed: 1 to 4096 pixels")
        if not 0 <= self.holdout <= 0.9:
            raise UserError(
                f"data.holdout={self.holdout}; allowed: 0 (evaluate on the test set) to 0.9 of the training set"
            )
        if not 0 < self.fraction <= 1:
            raise UserError(f"data.fraction={self.fraction}; allowed: above 0, up to 1 (the whole training set)")
        if self.num_classes is not None and not 1 <= self.num_classes <= 10_000_000:
            raise UserError(f"data.num_classes={self.num_classes}; allowed: 1 to 10,000,000, or null to count them")
        if not 0 <= self.workers <= 1024:
            raise UserError(f"data.workers={self.workers}; allowed: 0 (load in the training process) to 1024")
        for key, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, 3) or not all(map(_is_finite, values)):
                raise UserError(
                    f"data.{key}={list(values)}; allowed: one number for each of 3 channels, or one for all"
                )
        if not all(v > 0 for v in self.std):
            raise UserError(f"data.std={list(self.std)}; allowed: numbers above 0")


@dataclass
class EngineConfig:
    """How fast and on what a run computes. Few of these may change the result: ENGINE_WITH_EFFECT."""

    precision: str = "float32"  # float32 | bf16 | fp16
    accumulate: int = 1  # micro-batches per optimiser step
    channels_last: bool = True  # memory layout, equal but for the last bits; benchmarks/step.py compares both
    compile: bool = False  # torch.compile the network
    checkpoint_activations: bool = False  # compute blocks twice, keep less: memory for time
    fused_optimizer: bool | None = None  # null: where torch has it
    sync_batch_norm: bool = False  # BatchNorm's statistics over all ranks, instead of each rank's own
    deterministic: bool | None = None  # same seed, same machine: same bits; null: on CPU yes, on a GPU no (slower)
    threads: int | None = None  # CPU threads; null: torch's choice
    eval_every: int = 1  # epochs between evaluations; the last epoch always has one
    log_every: float = 1.0  # seconds between updates of progress and heartbeat
    save_every: float = 600.0  # seconds between checkpoints within an epoch; one is written after each epoch anyway


WANDB_VARIABLES = {  # of W&B's environment, by our key: its default where a run's config says nothing
    "mode": "WANDB_MODE",
    "project": "WANDB_PROJECT",
    "entity": "WANDB_ENTITY",
    "group": "WANDB_RUN_GROUP",
    "dir": "WANDB_DIR",
    "tags": "WANDB_TAGS",
}
WANDB_DEFAULTS = {"mode": "offline", "project": "modernization-ladder"}
_MODES = {"dryrun": "offline", "run": "online"}  # W&B's older words


def wandb_default(key: str) -> Any:
    """What W&B's environment says of a key, else our default."""
    text = os.environ.get(WANDB_VARIABLES[key], "").strip()
    if key == "tags":
        return [tag.strip() for tag in text.split(",") if tag.strip()]
    return _MODES.get(text, text) or WANDB_DEFAULTS.get(key)


def _wandb(key: str) -> Any:
    return field(default_factory=partial(wandb_default, key))


@dataclass
class WandbConfig:
    """Weights & Biases. `disabled` does not even import it. Defaults are those of W&B's environment variables, if set."""

    mode: str = _wandb("mode")  # online | offline | disabled; WANDB_MODE
    project: str = _wandb("project")  # of W&B; WANDB_PROJECT
    entity: str | None = _wandb("entity")  # user or team; null: W&B's default; WANDB_ENTITY
    group: str | None = _wandb("group")  # of the runs; null: the study; WANDB_RUN_GROUP
    tags: list[str] = _wandb("tags")  # beside ladder, rung and data set; WANDB_TAGS, with commas
    dir: str | None = _wandb("dir")  # where W&B's own files lie; null: in each run's folder; WANDB_DIR

    def check(self) -> None:
        """Raise UserError for what W&B would refuse, in its own limits."""
        if self.mode not in ("online", "offline", "disabled"):
            raise UserError(f"wandb.mode={self.mode}: allowed are online, offline, disabled")
        if odd := [c for c in "/\\#?%:" if c in self.project]:
            raise UserError(f"wandb.project={self.project}: W&B allows no {' '.join(odd)} in it")
        if not 1 <= len(self.project) <= 128:
            raise UserError(f"wandb.project={self.project!r:.60}: W&B allows 1 to 128 characters")
        if self.entity is not None and not re.fullmatch(r"[\w.-]+", self.entity):
            raise UserError(f"wandb.entity={self.entity!r}: must be a user or team: letters, digits, - _ .")
        for tag in self.tags:
            if not 1 <= len(tag) <= 64:
                raise UserError(f"wandb.tags: {tag!r:.80} has {len(tag)} characters; W&B allows 1 to 64")


@dataclass
class DesignConfig:
    """Which subsets of the ladder's steps a sweep trains, instead of `rung`: see `ladder.launch.designs`."""

    kind: str | None = None  # chain | leave_one_out | screening | factorial | optimal | permutations; null: none
    runs: int | None = None  # how many; chain, leave_one_out and factorial have as many as they need for each seed
    replicates: int = 0  # of an optimal design's runs: how many repeat another one's network with a next seed
    steps: list[str] | None = None  # that vary; null: all
    always: list[str] = field(default_factory=list)  # steps applied in every run
    factors: Any = None  # further factors: {recipe.mixup: [0, 0.8]}
    interactions: Any = None  # that an optimal design must tell: [[gelu, layer_norm], ...] or all
    requires: bool = True  # keep what steps require (the ladder's file says it)
    max_macs: float | None = None  # no network above so many times the MACs of the ladder's most expensive rung
    fold: bool = False  # screening: once more with all signs turned, which frees steps of two-step interactions
    resolution: int = 4  # of a factorial: 3, 4 or 5
    augment: bool = False  # optimal: `runs` more, beside those that the study has, where they tell most
    seed: int = 0  # of the choice itself


def _open() -> DictConfig:
    """Arguments of a factory, which only that knows."""
    return DictConfig({}, flags={"struct": False})


_OF_A_RUN = ("image_size", "code")  # fields that the data and the code make

# `spec.FIELD=value` overrides one choice; a field left missing is the rung's own.
SpecOverrides = dataclasses.make_dataclass(
    "SpecOverrides",
    [
        (name, Any, field(default_factory=_open) if name == PREFIX else MISSING)
        for name in dict.fromkeys(n for s in SPECS.values() for n in s.field_names())
        if name not in _OF_A_RUN
    ],
)


@dataclass
class TrainConfig:
    """The root of a run's config (`conf/train.yaml`)."""

    ladder: Any = MISSING  # the content of conf/ladder/NAME.yaml
    rung: Any = None  # name or number; null: the top (of a star: its base)
    steps: list[str] | None = None  # instead of a rung: only these steps
    without: list[str] | None = None  # instead of a rung: all steps but these
    design: DesignConfig = field(default_factory=DesignConfig)  # instead of a rung, of a sweep: which subsets of steps
    reference: Any = None  # instead of a rung: a model of timm by its name; in a sweep several, further runs
    spec: SpecOverrides = field(default_factory=SpecOverrides)  # type: ignore[valid-type]
    weights: str | None = None  # to start from: a run folder or a model.safetensors of the same network
    recipe: Recipe = field(default_factory=Recipe)
    data: DataConfig = field(default_factory=DataConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)
    seed: int = 0  # of start weights, order, augmentation: the same seed gives the same run
    study: str = "default"  # folder of runs_dir that the run folder is in
    runs_dir: str = "runs"  # where studies are
    device: str = "auto"  # auto | cpu | cuda | cuda:N
