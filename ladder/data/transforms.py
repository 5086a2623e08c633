"""Owns what worker processes do to an image: timm's transforms, as a recipe asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image
from timm.data import create_transform
from timm.data.transforms import str_to_interp_mode
from torchvision import transforms

from ladder.data.augment import channels
from ladder.data.randaugment import bounded
from ladder.errors import UserError, one_line
from ladder.runs.config import DataConfig
from ladder.training.recipe import Recipe

Transform = Callable[[Image.Image], Image.Image]


def train_transform(recipe: Recipe, data: DataConfig) -> Transform:
    """Crop, flip, RandAugment (any timm policy) or jitter. Draws from the global generators of Python, NumPy, torch."""
    size = data.image_size
    try:
        crop_flip, color, _ = create_transform(
            size,
            is_training=True,
            scale=(recipe.crop_scale[0], recipe.crop_scale[1]),
            ratio=(recipe.crop_ratio[0], recipe.crop_ratio[1]),
            hflip=recipe.hflip,
            color_jitter=recipe.color_jitter or None,  # type: ignore[arg-type]  # None is none
            auto_augment=recipe.randaugment,
            interpolation=recipe.interpolation,
            mean=channels(data.mean, data.in_chans),
            std=channels(data.std, data.in_chans),
            use_prefetcher=True,  # stays uint8: normalised on the device
            separate=True,
        )
    except (AssertionError, ValueError, KeyError) as error:
        raise UserError(
            f"recipe.randaugment={recipe.randaugment}: {one_line(error)}; "
            "allowed: timm's strings such as rand-m9-mstd0.5-inc1"
        ) from error
    if recipe.crop != "random_resized":
        fit = [transforms.Resize(size, str_to_interp_mode(recipe.interpolation)), transforms.CenterCrop(size)]
        crop = [transforms.RandomCrop(size, padding=recipe.crop_padding)] if recipe.crop == "pad" else []
        crop_flip.transforms[:1] = [*fit, *crop]
    return bounded(transforms.Compose([*crop_flip.transforms, *color.transforms]))  # type: ignore[no-any-return]


def eval_transform(recipe: Recipe, data: DataConfig, final: bool) -> Transform:
    """timm's evaluation: the shorter side to image_size / eval_crop_pct, then the centre. `final`: images have their
    final size and stay as they are."""
    made: Any = create_transform(
        data.image_size,
        is_training=False,
        crop_pct=1.0 if final else recipe.eval_crop_pct,
        interpolation=recipe.interpolation,
        use_prefetcher=True,
    )
    return transforms.Compose(made.transforms[:-1])  # type: ignore[no-any-return]  # the last makes a tensor
