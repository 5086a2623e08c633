"""Owns how a config becomes a run: everything validated, the spec complete, the folder's name computed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ladder.runs.config import (
    DATA_WITHOUT_EFFECT,
    ENGINE_WITH_EFFECT,
    DataConfig,
    EngineConfig,
    TrainConfig,
    WandbConfig,
)
from ladder.errors import UserError, unknown
from ladder.training.recipe import Recipe
from ladder.runs.folder import RunDir, former_label, label, stable_hash
from ladder.networks.rungs import Ladder, Rung
from ladder.networks.spec import Spec, TimmSpec, spec_class


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

    @property
    def label(self) -> str:
        """Rung, seed and hash: the folder's name."""
        return label(self.rung.name, self.seed, self.config_hash)

    @property
    def dir(self) -> RunDir:
        """The folder `runs_dir/study/label`."""
        return RunDir(Path(self.runs_dir) / self.study / self.label)

    def adopt(self) -> None:
        """Take over the folder that an earlier version made for this run under another name."""
        self.dir.adopt(former_label(self.rung.name, self.seed, self.config_hash))

    def with_seed(self, seed: int) -> Run:
        """The same run under another seed. Raises UserError for a negative one."""
        _check_seed(seed)
        identity = {**self.identity, "seed": seed}
        config = {**self.config, "seed": seed}
        return replace(self, seed=seed, config=config, identity=identity, config_hash=stable_hash(identity))


def resolve(cfg: DictConfig, ladder: Ladder | None = None) -> Run:
    """Validate a composed config. Raises UserError naming the first thing that is wrong.

    `ladder` is `cfg.ladder`, where the caller has made one of it before.
    """
    _check_root(cfg)
    ladder = ladder or Ladder.from_mapping(_plain(cfg.ladder))
    rung = _pick(ladder, cfg)
    overrides = {k: _plain(v) for k, v in cfg.spec.items_ex(resolve=False) if not OmegaConf.is_missing(cfg.spec, k)}
    fields = spec_class(ladder.network).field_names()
    for name in overrides:
        if name not in fields:
            raise unknown(f"spec field of {ladder.name}", name, fields)

    common: Recipe = OmegaConf.to_object(cfg.recipe)  # type: ignore[assignment]
    recipe = _changed(common, rung)
    recipe.check()
    data: DataConfig = OmegaConf.to_object(cfg.data)  # type: ignore[assignment]
    if data.source == "imagefolder" and data.name == "imagefolder" and data.root:
        # a folder's name is the data set's, wherever it lies; data.name tells two folders of one name apart
        data.name = Path(data.root).resolve().name
    data.check()
    engine: EngineConfig = OmegaConf.to_object(cfg.engine)  # type: ignore[assignment]
    wandb: WandbConfig = OmegaConf.to_object(cfg.wandb)  # type: ignore[assignment]
    _check_engine(engine, recipe, wandb)

    spec = rung.spec.replace(**_spec_changes(rung, recipe, data, overrides))
    reduction = getattr(spec, "reduction", 1)
    if data.image_size < reduction:
        raise UserError(f"data.image_size={data.image_size}: {rung.name} of {ladder.name} needs at least {reduction}")
    if isinstance(spec, TimmSpec):
        from ladder.networks.reference import check_reference  # imports torch, which the checks of rungs do without

        check_reference(spec, data.image_size, data.num_classes or 10, data.in_chans)

    plain_recipe = {k: v for k, v in asdict(common).items() if k != "source"}
    same = {
        "recipe": plain_recipe,
        "data": {k: v for k, v in asdict(data).items() if k not in DATA_WITHOUT_EFFECT},
        **{k: getattr(engine, k) for k in ENGINE_WITH_EFFECT},
    }
    if cfg.weights is not None:
        same["weights"] = _digest(cfg.weights)
    what = {**same, "ladder": ladder.name, "rung": rung.name, "spec": spec.recorded(), "seed": cfg.seed}
    what["recipe"] = {k: v for k, v in asdict(recipe).items() if k != "source"}
    config = {
        "ladder": ladder.name,
        "rung": rung.name,
        "steps": _plain(cfg.steps),
        "without": _plain(cfg.without),
        "reference": rung.name if rung.is_reference else None,
        "spec": spec.recorded(),
        "weights": cfg.weights,
        "recipe": asdict(recipe),
        "data": asdict(data),
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
        group_hash=stable_hash({**same, "overrides": overrides}),
    )


def unheeded(run: Run, overrides: Iterable[str]) -> list[str]:
    """A line for each recipe key among the overrides that the run's rung sets itself: there its own value stays."""
    given = {text.partition("=")[0].lstrip("+") for text in overrides}
    return [
        f"recipe.{key}: rung {run.rung.name} of {run.ladder.name} sets it to {'null' if value is None else value}"
        " itself, and that is what it gets"
        for key, value in run.rung.recipe.items()
        if f"recipe.{key}" in given
    ]


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _digest(weights: str) -> str:
    """Of the file's content: other start weights are another run, wherever they lie."""
    file = Path(weights) / "model.safetensors" if Path(weights).is_dir() else Path(weights)
    try:
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()[:16]
    except OSError as error:
        raise UserError(f"weights={weights}: {error.strerror}; give a run folder or a model.safetensors") from None


def _spec_changes(rung: Rung, recipe: Recipe, data: DataConfig, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What the recipe, the data and the command line make of a rung's spec."""
    fields = rung.spec.field_names()
    changes: dict[str, Any] = {"drop_path": recipe.drop_path} if "drop_path" in fields else {}
    if rung.is_reference:  # `spec.kernel_size=5` beside it is a choice of the ladder's networks
        changes["image_size"] = data.image_size
        overrides = {name: value for name, value in overrides.items() if name in fields}
    return {**changes, **overrides}


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
    return replace(recipe, **rung.recipe)


def _check_root(cfg: DictConfig) -> None:
    for key in TrainConfig.__dataclass_fields__:
        if OmegaConf.is_missing(cfg, key):
            raise UserError(f"{key} is not set: give {key}=...")
    for key in ("name", "source"):
        if OmegaConf.is_missing(cfg.data, key):
            raise UserError(f"data.{key} is not set: give data=NAME, a file of conf/data/")
    _check_seed(cfg.seed)
    if not re.fullmatch(r"[\w.+-]+", cfg.study) or cfg.study in (".", ".."):
        raise UserError(f"study={cfg.study!r}: must be one folder name of letters, digits, . _ + -")


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise UserError(f"seed={seed}: must be 0 or more")


def _check_engine(engine: EngineConfig, recipe: Recipe, wandb: WandbConfig) -> None:
    if engine.precision not in ("float32", "bf16", "fp16"):
        raise UserError(f"engine.precision={engine.precision}: allowed are float32, bf16, fp16")
    if engine.accumulate < 1 or recipe.batch_size % engine.accumulate:
        raise UserError(
            f"engine.accumulate={engine.accumulate}: must divide recipe.batch_size={recipe.batch_size} without rest"
        )
    if engine.eval_every < 1:
        raise UserError(f"engine.eval_every={engine.eval_every}: must be 1 or more epochs")
    if engine.threads is not None and engine.threads < 1:
        raise UserError(f"engine.threads={engine.threads}: must be 1 or more, or null")
    if wandb.mode not in ("online", "offline", "disabled"):
        raise UserError(f"wandb.mode={wandb.mode}: allowed are online, offline, disabled")
