"""Owns how a config becomes a run: everything validated, the spec complete, the folder's name computed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ladder.data.content import Content, content_of
from ladder.runs.config import DataConfig, DesignConfig, EngineConfig, SpecOverrides, TrainConfig, WandbConfig
from ladder.runs.identity import (
    data_identity,
    engine_identity,
    former_spec,
    recipe_identity,
    was_of,
    weights_digests,
)
from ladder.errors import UserError, unknown
from ladder.networks.arguments import PREFIX
from ladder.training.recipe import Recipe
from ladder.runs.folder import RunDir, former_label, label, stable_hash
from ladder.networks.rungs import Ladder, Rung
from ladder.networks.spec import CallSpec, FactorySpec, Spec, spec_class


_SECTIONS: dict[str, Any] = {
    **{"recipe": Recipe, "data": DataConfig, "engine": EngineConfig, "wandb": WandbConfig, "spec": SpecOverrides},
    "design": DesignConfig,
}
MAX_SEED = 2**32 - 1  # the draws of larger ones would be those of smaller ones
LONGEST_NAME = 200  # bytes of a folder's name; file systems allow 255, and W&B's names add to it


@dataclass(frozen=True)
class Run:
    """One training, fully described: what it trains, how, on what, and where it leaves its files."""

    ladder: Ladder
    rung: Rung
    spec: Spec
    weights: str | None
    recipe: Recipe
    data: DataConfig
    engine: EngineConfig
    wandb: WandbConfig
    seed: int
    study: str
    runs_dir: str
    device: str
    config: Mapping[str, Any]  # plain values: what config.yaml holds
    identity: Mapping[str, Any]  # all that changes the result
    config_hash: str  # over `identity`
    group_hash: str  # over all of that but rung and seed: equal for runs that may be compared
    content: Content | None = None  # of an image folder: what was found in it when the run was asked for
    former: Mapping[str, Any] | None = None  # its identity as earlier versions hashed it, where that was another

    @property
    def label(self) -> str:
        """Rung, seed and hash: the folder's name."""
        return label(self.ladder.short_name(self.rung.name), self.seed, self.config_hash)

    @property
    def dir(self) -> RunDir:
        """The folder `runs_dir/study/label`."""
        return RunDir(Path(self.runs_dir) / self.study / self.label)

    def adopt(self) -> None:
        """Take over the folder that an earlier version made for this run under another name."""
        for former in (label, former_label):
            self.dir.adopt(former(self.rung.name, self.seed, self.config_hash))

    def with_seed(self, seed: int) -> Run:
        """The same run under another seed. Raises UserError for one that can't be."""
        _check_seed(seed)
        identity = {**self.identity, "seed": seed}
        former = None if self.former is None else {**self.former, "seed": seed}
        config = {**self.config, "seed": seed}
        name = stable_hash(identity)
        return replace(self, seed=seed, config=config, identity=identity, former=former, config_hash=name)

    @property
    def older(self) -> Run | None:
        """The same run under the name that an earlier version gave it; None where that was no other."""
        if self.former is None or (name := stable_hash(self.former)) == self.config_hash:
            return None
        return replace(self, config_hash=name)

    @property
    def is_older(self) -> bool:
        """True where the run goes by the name that an earlier version gave it."""
        return self.former is not None and self.config_hash != stable_hash(self.identity)

    def settled(self) -> Run:
        """The run in the folder that it has: one that an earlier version named keeps its name, and goes on or is done.

        Where an older folder of the name that this run had is of other images, the run gets a folder of its own.
        """
        older = self.older
        if older is None or self.is_older or self.dir.path.exists() or not older.dir.path.exists():
            return self
        return older if was_of(older.dir, self.data, self.content) else self


Contents = Callable[[DataConfig], Content | None]


def resolve(cfg: DictConfig, ladder: Ladder | None = None, contents: Contents = content_of) -> Run:
    """Validate a composed config. Raises UserError naming the first thing that is wrong.

    `ladder` is `cfg.ladder`, where the caller has made one of it before; `contents` may remember what it listed.
    """
    check_root(cfg)
    ladder = ladder or Ladder.from_mapping(_plain(cfg.ladder))
    rung = _pick(ladder, cfg)
    overrides = {k: _plain(v) for k, v in cfg.spec.items_ex(resolve=False) if not OmegaConf.is_missing(cfg.spec, k)}
    if not overrides.get(PREFIX):  # open to any argument, and empty where none is given
        overrides.pop(PREFIX, None)
    fields = tuple(dict.fromkeys((*spec_class(ladder.network).field_names(), *rung.spec.field_names())))
    for name in overrides:
        if name not in fields:
            raise unknown(f"spec field of {ladder.name}", name, fields)

    given: Recipe = OmegaConf.to_object(cfg.recipe)  # type: ignore[assignment]
    common = given.canonical()
    recipe = _changed(common, rung)
    recipe.check()
    data: DataConfig = OmegaConf.to_object(cfg.data)  # type: ignore[assignment]
    data.check()
    if data.source == "imagefolder" and data.name == "imagefolder" and data.root:
        data.name = Path(data.root).resolve().name  # what tables call it; `content` tells two of one name apart
    content = contents(data)
    engine: EngineConfig = OmegaConf.to_object(cfg.engine)  # type: ignore[assignment]
    wandb: WandbConfig = OmegaConf.to_object(cfg.wandb)  # type: ignore[assignment]
    _check_engine(engine, recipe, wandb)
    if wandb.mode != "disabled" and len(ladder.name) > 64:
        raise UserError(f"ladder {ladder.name}: W&B allows tags of 64 characters; shorten its name, or wandb.mode=disabled")

    own = rung.spec.replace(**_spec_of_run(rung, recipe, data))
    taken = {k: v for k, v in overrides.items() if k in own.field_names()}  # a reference has few of the ladder's fields
    spec = own.replace(**taken)
    reduction = getattr(spec, "reduction", 1)
    if data.image_size < reduction:
        raise UserError(f"data.image_size={data.image_size}: {rung.name} of {ladder.name} needs at least {reduction}")
    if isinstance(spec, FactorySpec):
        from ladder.networks.build import check_image_size  # imports torch, which the checks of our specs do without

        check_image_size(spec, data.image_size, data.num_classes or 10, data.in_chans)
    if isinstance(spec, CallSpec):
        from ladder.networks.call import code_digest

        spec = spec.replace(code=code_digest(spec))
    if recipe.batch_size == engine.accumulate:
        from ladder.networks.build import check_batch_of_one

        check_batch_of_one(spec, data.image_size, data.in_chans)

    weights, former_weights = weights_digests(cfg.weights) if cfg.weights is not None else (None, None)
    if weights:
        from ladder.networks.weights import check_start

        check_start(spec, cfg.weights, data.in_chans)
    same = {
        "recipe": recipe_identity(common),
        "data": data_identity(data, content),
        **engine_identity(engine),
        **({"weights": weights} if weights else {}),
    }
    which = {"ladder": ladder.name, "rung": rung.name, "seed": cfg.seed}
    what = {**same, **which, "spec": spec.recorded(), "recipe": recipe_identity(recipe)}
    former = {
        **what,
        "data": data_identity(data, None),
        "spec": former_spec(spec.recorded(), rung, taken),
        "recipe": recipe_identity(replace(given, **rung.recipe)),
        **({"weights": former_weights} if weights else {}),
    }
    changed = {k: v for k, v in spec.to_dict().items() if k in taken and v != own.to_dict()[k]}
    config = {
        "ladder": ladder.name,
        "rung": rung.name,
        "steps": _plain(cfg.steps),
        "without": _plain(cfg.without),
        "reference": rung.name if rung.is_reference else None,
        "spec": spec.recorded(),
        "weights": cfg.weights,
        "recipe": asdict(recipe),
        "data": asdict(data) | ({"content": content.digest} if content else {}),
        "engine": asdict(engine),
        "wandb": asdict(wandb),
        "seed": cfg.seed,
        "study": cfg.study,
        "runs_dir": cfg.runs_dir,
        "device": cfg.device,
    }
    return Run(
        ladder=ladder,
        rung=rung,
        spec=spec,
        weights=cfg.weights,
        recipe=recipe,
        data=data,
        engine=engine,
        wandb=wandb,
        seed=cfg.seed,
        study=cfg.study,
        runs_dir=cfg.runs_dir,
        device=cfg.device,
        config=config,
        identity=what,
        config_hash=stable_hash(what),
        group_hash=stable_hash({**same, "overrides": changed}),
        content=content,
        former=former if stable_hash(former) != stable_hash(what) else None,  # 0 == 0.0, but they are written apart
    )


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _spec_of_run(rung: Rung, recipe: Recipe, data: DataConfig) -> dict[str, Any]:
    """What the recipe and the data make of a rung's spec."""
    changes: dict[str, Any] = {"drop_path": recipe.drop_path} if "drop_path" in rung.spec.field_names() else {}
    return {**changes, "image_size": data.image_size} if isinstance(rung.spec, FactorySpec) else changes


def _pick(ladder: Ladder, cfg: DictConfig) -> Rung:
    names = _plain(cfg.reference)
    names = names if isinstance(names, list) else [] if names is None else [names]
    if names:
        if any(key is not None for key in (cfg.rung, cfg.steps, cfg.without)):
            raise UserError("reference and rung/steps/without exclude each other: give one, or sweep with -m")
        if len(names) != 1:
            raise UserError(f"reference={cfg.reference}: a run trains one network; give one name, or sweep with -m")
        return ladder.reference(names[0])
    if cfg.steps is None and cfg.without is None:
        return ladder.rung(cfg.rung)
    if cfg.rung is not None:
        raise UserError("rung and steps/without exclude each other: give one of them")
    return ladder.subset(_plain(cfg.steps), _plain(cfg.without))


def _changed(recipe: Recipe, rung: Rung) -> Recipe:
    for name in rung.recipe:
        if name not in Recipe.__dataclass_fields__:
            raise unknown(f"recipe field in step {rung.name}", name, Recipe.__dataclass_fields__)
    return replace(recipe, **rung.recipe).canonical()


def check_root(cfg: DictConfig) -> None:
    """Raise UserError where a key of the root, the seed's included, is missing or not allowed."""
    for key in TrainConfig.__dataclass_fields__:
        if key not in cfg or OmegaConf.is_missing(cfg, key):
            raise UserError(f"{key} is not set: give {key}=...")
    for key in ("name", "source"):
        if OmegaConf.is_missing(cfg.data, key):
            raise UserError(f"data.{key} is not set: give data=NAME, a file of conf/data/")
    _check_keys(cfg)
    if OmegaConf.is_missing(cfg.recipe, "name"):
        raise UserError("recipe.name is not set: give recipe=NAME, a file of conf/recipe/")
    _check_seed(cfg.seed)
    if not re.fullmatch(r"[\w.+-]+", cfg.study) or cfg.study in (".", "..") or len(cfg.study.encode()) > LONGEST_NAME:
        shown = cfg.study if len(cfg.study) <= 80 else f"{cfg.study[:70]}..."
        raise UserError(
            f"study={shown!r}: must be one folder name of letters, digits, . _ + -, at most {LONGEST_NAME} bytes long"
        )


def _check_keys(cfg: DictConfig) -> None:
    """Refuse keys that nothing reads: `+recipe.weight_decy=0.2` adds one. At the root, one that others refer to may."""
    for key in map(str, cfg):
        if key not in TrainConfig.__dataclass_fields__ and not re.search(rf"\$\{{{re.escape(key)}\b", _text(cfg)):
            raise unknown("config key", key, TrainConfig.__dataclass_fields__)
    for section, kind in _SECTIONS.items():
        for key in cfg[section]:
            if key not in kind.__dataclass_fields__:
                raise unknown(f"config key of {section}", key, kind.__dataclass_fields__)


def _text(cfg: DictConfig) -> str:
    return str(OmegaConf.to_container(cfg))  # unresolved


def _check_seed(seed: int) -> None:
    if not 0 <= seed <= MAX_SEED:
        raise UserError(f"seed={seed}: must be a whole number from 0 to {MAX_SEED}")


def _check_engine(engine: EngineConfig, recipe: Recipe, wandb: WandbConfig) -> None:
    if engine.precision not in ("float32", "bf16", "fp16"):
        raise UserError(f"engine.precision={engine.precision}: allowed are float32, bf16, fp16")
    if engine.accumulate < 1 or recipe.batch_size % engine.accumulate:
        raise UserError(
            f"engine.accumulate={engine.accumulate}: must divide recipe.batch_size={recipe.batch_size} without rest"
        )
    recipe.check_pairs(recipe.batch_size // engine.accumulate)
    if engine.eval_every < 1:
        raise UserError(f"engine.eval_every={engine.eval_every}: must be 1 or more epochs")
    for key in ("log_every", "save_every"):
        if not 0 <= (seconds := getattr(engine, key)) < math.inf:
            raise UserError(f"engine.{key}={seconds}: must be seconds, a number from 0")
    if engine.threads is not None and not 1 <= engine.threads <= 4096:
        raise UserError(f"engine.threads={engine.threads}: must be 1 to 4096, or null")
    wandb.check()
