"""Batched operations: what Pillow makes of the same images, one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment as timm_ops

from ladder.data import ops

SIZE, COUNT = 16, 48
Fill = tuple[int, ...]
FILL = (120, 110, 30)

# Our operation: timm's function on a Pillow image, arguments to try
FACTORS = np.array([0.0, 0.1, 0.5, 0.99, 1.0, 1.01, 1.37, 1.9])
POINTWISE: dict[str, tuple[Callable[..., Image.Image], np.ndarray[Any, Any]]] = {
    "Invert": (lambda image, _: timm_ops.invert(image), np.zeros(1)),
    "Posterize": (lambda image, bits: timm_ops.posterize(image, int(bits)), np.arange(1, 9)),
    "Solarize": (timm_ops.solarize, np.array([0, 1, 100, 255, 256])),
    "SolarizeAdd": (lambda image, add: timm_ops.solarize_add(image, int(add)), np.array([0, 1, 50, 110, 128])),
    "Brightness": (timm_ops.brightness, FACTORS),
    "AutoContrast": (lambda image, _: timm_ops.auto_contrast(image), np.zeros(1)),
    "Equalize": (lambda image, _: timm_ops.equalize(image), np.zeros(1)),
    "Contrast": (timm_ops.contrast, FACTORS),
    "Color": (timm_ops.color, FACTORS),
    "Sharpness": (timm_ops.sharpness, FACTORS),
}
GEOMETRIC: dict[str, tuple[Callable[..., Image.Image], np.ndarray[Any, Any]]] = {
    "ShearX": (timm_ops.shear_x, np.array([-0.3, -0.07, 0.3])),
    "ShearY": (timm_ops.shear_y, np.array([-0.3, -0.07, 0.3])),
    "TranslateX": (timm_ops.translate_x_abs, np.array([-7.2, -2.0, 0.4, 7.2])),
    "TranslateY": (timm_ops.translate_y_abs, np.array([-7.2, -2.0, 0.4, 7.2])),
    "Rotate": (timm_ops.rotate, np.array([-30.0, -11.0, 3.0, 30.0])),
}


def pictures(channels: int) -> torch.Tensor:
    """Smooth, noisy, dim and flat images: uint8 (COUNT, channels, SIZE, SIZE)."""
    generator = np.random.default_rng(channels)
    coarse = torch.from_numpy(generator.uniform(0, 255, (COUNT, channels, 4, 4)))
    images = torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic").clamp(0, 255).to(torch.uint8)
    images[::4] = torch.from_numpy(generator.integers(0, 256, (COUNT // 4, channels, SIZE, SIZE), dtype=np.uint8))
    images[1::4] = images[1::4] // 3 + 50
    images[2] = 7
    return images


def one_by_one(images: torch.Tensor, do: Callable[[Image.Image, float], Image.Image], argument: Any) -> torch.Tensor:
    made = []
    for image, value in zip(images, argument, strict=True):
        pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        result = np.array(do(Image.fromarray(pixels.numpy()), float(value)))
        made.append(torch.from_numpy(result.reshape(SIZE, SIZE, -1)).permute(2, 0, 1))
    return torch.stack(made)


def ours(name: str, images: torch.Tensor, argument: Any, mode: str = "bilinear") -> torch.Tensor:
    kind = np.full(len(images), ops.NUMBER[name])
    return ops.apply(images.clone(), kind, np.asarray(argument, dtype=float), FILL[: images.shape[1]], mode)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", POINTWISE)
def test_equals_pillow(name: str, channels: int) -> None:
    do, values = POINTWISE[name]
    images, argument = pictures(channels), np.resize(values, COUNT)
    assert torch.equal(ours(name, images, argument), one_by_one(images, do, argument))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_geometry_equals_pillow(name: str, channels: int) -> None:
    do, values = GEOMETRIC[name]
    images, argument = pictures(channels), np.resize(values, COUNT)

    def difference(mode: str) -> torch.Tensor:
        settings = {"fillcolor": FILL[:channels], "resample": Image.Resampling[mode.upper()]}
        expected = one_by_one(images, lambda image, value: do(image, value, **settings), argument)
        return (ours(name, images, argument, mode).int() - expected.int()).abs()

    assert difference("bilinear").max() <= 1
    assert difference("bilinear").float().mean() < 0.03
    # torch's cubic is not Pillow's: noise differs, but nothing moves
    assert difference("bicubic")[1::4].float().mean() < 1.5


def test_every_image_gets_its_own_operation() -> None:
    images = pictures(3)
    generator = np.random.default_rng(0)
    kind = generator.permutation(np.resize(np.arange(-1, len(ops.KINDS)), COUNT))
    argument = generator.uniform(1, 1.9, COUNT)
    result = ops.apply(images.clone(), kind, argument, FILL, "bilinear")
    for i in range(COUNT):
        if kind[i] == ops.NOTHING:
            assert torch.equal(result[i], images[i])
        else:
            alone = ours(ops.KINDS[kind[i]], images[i : i + 1], argument[i : i + 1])
            assert torch.equal(result[i], alone[0]), ops.KINDS[kind[i]]


NEUTRAL = {"Posterize": 8, "Solarize": 256, "Brightness": 1, "Contrast": 1, "Color": 1, "Sharpness": 1}


@pytest.mark.parametrize("name", sorted(set(ops.KINDS) - {"Invert", "AutoContrast", "Equalize"}))
def test_a_neutral_argument_changes_nothing(name: str) -> None:
    images = pictures(3)
    assert torch.equal(ours(name, images, np.full(COUNT, NEUTRAL.get(name, 0.0)), "bicubic"), images)


def test_nothing_to_do() -> None:
    images = pictures(3)
    nothing = np.full(COUNT, ops.NOTHING)
    assert torch.equal(ops.apply(images.clone(), nothing, np.zeros(COUNT), FILL, "bilinear"), images)
