"""Owns the checks of the recipes: every file loads, says its sources, holds the published values; bad ones are told."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from ladder.errors import UserError
from ladder.paths import conf_dir
from ladder.training.recipe import Recipe

FILES = sorted((conf_dir() / "recipe").glob("*.yaml"))


def load(name: str) -> Recipe:
    values = OmegaConf.merge(OmegaConf.structured(Recipe), OmegaConf.load(conf_dir() / "recipe" / f"{name}.yaml"))
    recipe = OmegaConf.to_object(values)
    assert isinstance(recipe, Recipe)
    return recipe


def test_the_promised_recipes_are_there() -> None:
    promised = {
        "convnext_300ep",
        "convnext_300ep_ema",
        "torchvision_90ep",
        "convnext_finetune_384",
        "convmixer_imagenet",
        "convmixer_cifar10",
        "digits",
        "cifar",
    }
    assert promised <= {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_recipe_file_loads_and_can_be(path: Path) -> None:
    recipe = load(path.stem)
    recipe.check()
    assert recipe.name == path.stem
    assert recipe.source
    # The rate is stated for the batch it was found with, so that the recipe as it stands is applied unscaled.
    assert recipe.lr_batch_size == recipe.batch_size


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_value_has_its_source_beside_it(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    values = [line for line in lines if re.match(r"\w+:", line) and not line.startswith(("name:", "source:"))]
    assert len(values) > 15
    assert [line for line in values if not re.search(r"\s# \S", line)] == []


# arXiv:2201.03545v2, Table 5 (ImageNet-1K, T) and main.py of the official code, as reference/recipes.yaml has them.
TABLE_5 = {
    "optimizer": "adamw",
    "betas": [0.9, 0.999],
    "eps": 1e-8,
    "lr": 4e-3,
    "batch_size": 4096,
    "weight_decay": 0.05,
    "decay_1d": False,
    "epochs": 300,
    "warmup_epochs": 20,
    "warmup_lr": 0.0,
    "schedule": "cosine",
    "min_lr": 1e-6,
    "schedule_unit": "iteration",
    "layer_decay": None,
    "randaugment": "rand-m9-mstd0.5-inc1",
    "mixup": 0.8,
    "cutmix": 1.0,
    "mixup_prob": 1.0,
    "mixup_switch_prob": 0.5,
    "reprob": 0.25,
    "remode": "pixel",
    "label_smoothing": 0.1,
    "drop_path": 0.1,
    "head_init_scale": 1.0,
    "clip_grad": None,
    "ema_decay": None,
    "crop": "random_resized",
    "crop_scale": [0.08, 1.0],
    "hflip": 0.5,
    "interpolation": "bicubic",
    "eval_crop_pct": 0.875,
}
TABLE_6 = TABLE_5 | {
    "lr": 5e-5,
    "batch_size": 512,
    "weight_decay": 1e-8,
    "epochs": 30,
    "warmup_epochs": 0,
    "layer_decay": 0.7,
    "mixup": 0.0,
    "cutmix": 0.0,
    "drop_path": 0.8,
    "head_init_scale": 0.001,
    "eval_crop_pct": 1.0,
}
TORCHVISION = {
    "optimizer": "momentum",
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "decay_1d": True,
    "batch_size": 256,
    "epochs": 90,
    "schedule": "step",
    "schedule_unit": "epoch",
    "decay_epochs": 30,
    "decay_rate": 0.1,
    "warmup_epochs": 0,
    "label_smoothing": 0.0,
    "drop_path": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
    "randaugment": None,
    "color_jitter": None,
    "reprob": 0.0,
    "hflip": 0.5,
    "interpolation": "bilinear",
    "eval_crop_pct": 0.875,
}
CONVMIXER = {
    "optimizer": "adamw",
    "eps": 1e-3,
    "lr": 0.01,
    "weight_decay": 2e-5,
    "batch_size": 640,
    "epochs": 150,
    "schedule": "piecewise",
    "warmup_epochs": 0,
    "mixup": 0.5,
    "cutmix": 0.5,
    "reprob": 0.25,
    "remode": "pixel",
    "clip_grad": 1.0,
    "label_smoothing": 0.1,
    "randaugment": "rand-m9-mstd0.5-inc1",
    "crop_scale": [0.08, 1.0],
    "eval_crop_pct": 0.96,
    "ema_decay": None,
}
CONVMIXER_CIFAR10 = CONVMIXER | {
    "batch_size": 64,
    "epochs": 200,
    "weight_decay": 0.01,
    "crop_scale": [0.75, 1.0],
    "eval_crop_pct": 1.0,
}


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("convnext_300ep", TABLE_5),
        ("convnext_300ep_ema", TABLE_5 | {"ema_decay": 0.9999}),
        ("convnext_finetune_384", TABLE_6),
        ("torchvision_90ep", TORCHVISION),
        ("convmixer_imagenet", CONVMIXER),
        ("convmixer_cifar10", CONVMIXER_CIFAR10),
    ],
)
def test_a_paper_recipe_holds_the_published_values(name: str, published: dict[str, Any]) -> None:
    recipe = dataclasses.asdict(load(name))
    assert {key: recipe[key] for key in published} == published


def test_the_two_convnext_recipes_differ_in_the_average_alone() -> None:
    without, with_ema = dataclasses.asdict(load("convnext_300ep")), dataclasses.asdict(load("convnext_300ep_ema"))
    assert {key for key in without if without[key] != with_ema[key]} == {"name", "source", "ema_decay"}


def test_digits_are_not_mirrored() -> None:
    assert load("digits").hflip == 0


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ({"epochs": 0}, "whole number from 1"),
        ({"epochs": 2.5}, "whole number from 1"),
        ({"batch_size": -4}, "whole number from 1"),
        ({"lr": 0}, "above 0"),
        ({"lr": float("inf")}, "above 0"),
        ({"lr": float("nan")}, "above 0"),
        ({"lr": "fast"}, "above 0"),
        ({"lr_batch_size": 0}, "null or a whole number"),
        ({"optimizer": "adamv"}, "adamw, momentum"),
        ({"optimizer": 3}, "adamw, momentum"),
        ({"weight_decay": -1e-4}, "from 0"),
        ({"betas": [0.9]}, "two numbers"),
        ({"betas": [0.9, 1.0]}, "two numbers"),
        ({"momentum": 1.0}, "not including, 1"),
        ({"clip_grad": 0.0}, "null or a number above 0"),
        ({"layer_decay": 1.2}, "up to 1"),
        ({"schedule": "cosin"}, "cosine, step, piecewise, constant"),
        ({"schedule_unit": "day"}, "iteration, epoch"),
        ({"warmup_epochs": -1}, "from 0"),
        ({"schedule": "piecewise", "warmup_epochs": 5}, "0 with recipe.schedule=piecewise"),
        ({"min_lr": -1e-6}, "from 0"),
        ({"decay_epochs": 0}, "above 0"),
        ({"decay_rate": 0}, "above 0"),
        ({"label_smoothing": 1.0}, "not including, 1"),
        ({"drop_path": 1.0}, "not including, 1"),
        ({"mixup": -0.1}, "from 0"),
        ({"mixup_prob": 1.1}, "0 to 1"),
        ({"ema_decay": 1.0}, "null or above 0 and below 1"),
        ({"crop": "center"}, "random_resized, pad, none"),
        ({"crop_scale": [0.5, 0.1]}, "two areas"),
        ({"crop_scale": 0.5}, "two areas"),
        ({"crop_ratio": [0.0, 1.0]}, "two aspect ratios"),
        ({"crop_padding": -1}, "whole number from 0"),
        ({"hflip": 2}, "0 to 1"),
        ({"randaugment": " "}, "rand-m9-mstd0.5-inc1"),
        ({"randaugment": 9}, "rand-m9-mstd0.5-inc1"),
        ({"reprob": True}, "0 to 1"),
        ({"remode": "black"}, "pixel, rand, const"),
        ({"interpolation": "cubic"}, "bicubic, bilinear"),
        ({"eval_crop_pct": 0}, "up to 1"),
        ({"decay_1d": "yes"}, "true, false"),
    ],
    ids=str,
)
def test_a_bad_value_is_named_in_one_line_with_what_is_allowed(change: dict[str, Any], allowed: str) -> None:
    name = "warmup_epochs" if "warmup_epochs" in change else next(iter(change))
    with pytest.raises(UserError, match=rf"^recipe\.{name}=") as caught:
        dataclasses.replace(Recipe(), **change).check()
    assert allowed in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_field_but_name_and_source_is_checked() -> None:
    """A field of the wrong type altogether is refused whichever it is: a ladder file's step may set any."""
    for field in dataclasses.fields(Recipe):
        if field.name not in ("name", "source"):
            with pytest.raises(UserError, match=rf"^recipe\.{field.name}="):
                dataclasses.replace(Recipe(), **{field.name: object()}).check()


def test_optimizers_known_without_timm_are_timms() -> None:
    from timm.optim import list_optimizers

    from ladder.training.recipe import COMMON_OPTIMIZERS

    assert set(COMMON_OPTIMIZERS) <= set(list_optimizers())
