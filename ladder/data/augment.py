"""Owns the augmentation of training batches on the device: crop, flip, RandAugment or jitter, normalise, erase."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from numpy.typing import NDArray

from ladder.data import ops
from ladder.data.ops import NUMBER, send
from ladder.data.order import Floats, Ints
from ladder.data.randaugment import RandAugment
from ladder.runs.config import DataConfig
from ladder.training.recipe import Recipe

_PLACES = 2**18  # in the pool of noise
_ATTEMPTS = 10  # at a box that fits into the image; then the whole image, or no erasing: as torchvision and timm do


def channels(values: list[float], count: int, key: str = "mean") -> tuple[float, ...]:
    """Statistics for `count` channels: as they are, one for all, or for grayscale the average of three."""
    if len(values) == count:
        return tuple(values)
    return (values[0],) * count if len(values) == 1 else (sum(values) / len(values),)


class Normalize:
    """uint8 or float pixels in 0..255 to float32 (pixels - mean) / std, in timm's arithmetic."""

    def __init__(self, data: DataConfig, device: torch.device) -> None:
        mean, std = channels(data.mean, data.in_chans), channels(data.std, data.in_chans)
        self._mean = torch.tensor([255 * value for value in mean], device=device).view(-1, 1, 1)
        self._std = torch.tensor([255 * value for value in std], device=device).view(-1, 1, 1)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        return (
            pixels.to(torch.float32, memory_format=torch.contiguous_format, copy=True).sub_(self._mean).div_(self._std)
        )


class Augment:
    """What a recipe does to a uint8 training batch of images that have their final size.

    The same steps in the same order as timm's transforms: crop, flip, RandAugment (or else jitter), normalise, erase.
    """

    def __init__(self, recipe: Recipe, data: DataConfig, seed: int, device: torch.device) -> None:
        size, mean = data.image_size, channels(data.mean, data.in_chans)
        self._crop = Crop(recipe, size, device)
        self._rand = RandAugment(recipe.randaugment, size, mean, recipe.interpolation) if recipe.randaugment else None
        self._jitter = recipe.color_jitter if not recipe.randaugment else None
        self._normalize = Normalize(data, device)
        self._erase = Erase(recipe, (data.in_chans, size, size), seed, device)
        self._interpolation = recipe.interpolation
        self._parts = [self._crop.columns, self._rand.columns if self._rand else 6, self._erase.columns]
        self.columns = sum(self._parts)  # random numbers that an image needs

    def __call__(self, pixels: torch.Tensor, uniform: Floats) -> torch.Tensor:
        """pixels: uint8 (B, C, S, S), not changed; uniform: (B, columns) in 0..1. Returns float32 (B, C, S, S)."""
        crop, color, erase = np.split(uniform, list(itertools.accumulate(self._parts))[:-1], axis=1)
        with torch.no_grad(), torch.autocast(pixels.device.type, enabled=False):
            pixels = self._crop(pixels, crop)
            if self._rand:
                pixels = pixels.to(torch.uint8, memory_format=torch.contiguous_format)
                for kind, argument in self._rand.draw(color):
                    pixels = ops.apply(pixels, kind, argument, self._rand.fill, self._interpolation)
            elif self._jitter:
                pixels = pixels.to(torch.uint8, memory_format=torch.contiguous_format)
                for kind, argument in jitter(color, self._jitter):
                    pixels = ops.apply(pixels, kind, argument, (), self._interpolation)
            return self._erase(self._normalize(pixels), erase)


def jitter(uniform: Floats, strength: float) -> list[tuple[Ints, Floats]]:
    """torchvision's ColorJitter(strength, strength, strength): brightness, contrast and saturation in any order, each
    by a factor in 1 - strength (at least 0) to 1 + strength. uniform: (B, 6)."""
    kinds = np.array([NUMBER[name] for name in ("Brightness", "Contrast", "Color")])
    order = np.argsort(uniform[:, 3:], axis=1)
    low = max(0.0, 1 - strength)
    return [(kinds[order[:, i]], low + (1 + strength - low) * uniform[:, i]) for i in range(3)]


class Crop:
    """Crop and horizontal flip as two small matrices for each image: result = rows @ image @ columns.

    random_resized: torchvision's RandomResizedCrop with Pillow's filters. pad: black borders, then a crop of the
    image's size. none: only the flip.
    """

    def __init__(self, recipe: Recipe, size: int, device: torch.device) -> None:
        self._size, self._device, self._flip = size, device, recipe.hflip
        self._kind, self._scale, self._ratio = recipe.crop, recipe.crop_scale, recipe.crop_ratio
        self._pad = recipe.crop_padding if recipe.crop == "pad" else 0
        resized = recipe.crop == "random_resized"
        self.columns = 1 + (2 * _ATTEMPTS + 2 if resized else 2)
        lengths = range(size + 1) if resized else (size,)
        # Row i of table[flip, length] says what each pixel of a window adds to pixel i of the result. The zeros around
        # it make room to slide: a view that starts `size - start` further on is the matrix for a window at `start`.
        span = 2 * size + self._pad
        table = torch.zeros(2, len(lengths), size, span)
        for number, length in enumerate(lengths):
            if length:
                table[0, number, :, size : size + length] = torch.from_numpy(
                    resampling(length, size, recipe.interpolation)
                )
        table[1] = table[0].flip(1)
        strides = (len(lengths) * size * span, size * span, 1, span, 1)
        shape = (2, len(lengths), size + self._pad + 1, size, size)
        self._table = table.to(device).as_strided(shape, strides)

    def __call__(self, pixels: torch.Tensor, uniform: Floats) -> torch.Tensor:
        """Float (B, C, S, S) of whole numbers in 0..255; its memory may be in another order."""
        count, channels_, size = pixels.shape[0], pixels.shape[1], self._size
        flip = (uniform[:, 0] < self._flip).astype(np.int64)
        plan = send(np.stack([flip, *self._windows(uniform[:, 1:])]), self._device)
        rows = self._table[torch.zeros_like(plan[0]), plan[1], plan[2]]  # (B, out, in)
        columns = self._table[plan[0], plan[3], plan[4]]
        wide = torch.bmm(pixels.float().view(count, channels_ * size, size), columns.transpose(1, 2))
        wide = self._whole(wide.view(count, channels_, size, size)).transpose(1, 2)
        high = torch.bmm(rows, wide.reshape(count, size, channels_ * size))
        return self._whole(high.view(count, size, channels_, size)).transpose(1, 2)

    def _whole(self, pixels: torch.Tensor) -> torch.Tensor:
        """Whole numbers in 0..255, as Pillow makes them after each axis; a mere window has no others."""
        return pixels if self._kind != "random_resized" else pixels.add_(0.5).floor_().clamp_(0, 255)

    def _windows(self, uniform: Floats) -> tuple[Ints, Ints, Ints, Ints]:
        """(length, slide) of the rows, then of the columns: indices into the table, each (B,)."""
        size = self._size
        if self._kind != "random_resized":
            none = np.zeros(len(uniform), dtype=np.int64)
            start = np.floor(uniform * (2 * self._pad + 1)).astype(np.int64) - self._pad
            return none, size - start[:, 0], none, size - start[:, 1]
        width, height, fits = boxes(uniform[:, : 2 * _ATTEMPTS], size, self._scale, self._ratio)
        width, height = np.where(fits, width, size), np.where(fits, height, size)
        top = np.floor(uniform[:, -2] * (size - height + 1)).astype(np.int64)
        left = np.floor(uniform[:, -1] * (size - width + 1)).astype(np.int64)
        return height, size - top, width, size - left


def boxes(
    uniform: Floats, size: int, area: list[float], ratio: list[float], strict: bool = False
) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """Boxes of random area and shape in a square of `size` pixels: (width, height, fits), each (B,).

    Area is uniform in `area` (parts of the image), width / height log-uniform in `ratio`. The first of ten that fits
    (`strict`: that is smaller on both sides) is taken. uniform: (B, 20).
    """
    areas, ratios = uniform[:, :_ATTEMPTS], uniform[:, _ATTEMPTS:]
    target = (area[0] + (area[1] - area[0]) * areas) * size * size
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = np.exp(low + (high - low) * ratios)
    width, height = np.rint(np.sqrt(target * shape)).astype(np.int64), np.rint(np.sqrt(target / shape)).astype(np.int64)
    good = np.maximum(width, height) <= (size - 1 if strict else size)
    first = np.argmax(good, axis=1)[:, None]
    return tuple(np.take_along_axis(array, first, 1)[:, 0] for array in (width, height, good))  # type: ignore[return-value]


def resampling(length: int, size: int, filter_: str) -> NDArray[np.float32]:
    """Pillow's resize from `length` to `size` pixels (length <= size) as a matrix (size, length)."""
    centre = (np.arange(size)[:, None] + 0.5) * (length / size) - 0.5
    distance = np.abs(np.arange(length)[None] - centre)
    if filter_ == "bilinear":
        weight = np.maximum(0, 1 - distance)
    else:  # cubic with slope -0.5
        near = 1.5 * distance**3 - 2.5 * distance**2 + 1
        far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
        weight = np.where(distance < 1, near, np.where(distance < 2, far, 0))
    result: NDArray[np.float32] = (weight / weight.sum(1, keepdims=True)).astype(np.float32)
    return result


class Erase:
    """Random erasing of normalised images as timm does it: with probability `reprob` one box of 2 % to a third of the
    image and sides of ratio 0.3 to 1 / 0.3. It is filled with noise of mean 0 and variance 1 for each value (pixel) or
    each channel (rand), or with 0 (const). Noise comes from a fixed pool, at a place that the image draws.
    """

    _AREA, _RATIO = [0.02, 1 / 3], [0.3, 1 / 0.3]

    def __init__(self, recipe: Recipe, shape: tuple[int, int, int], seed: int, device: torch.device) -> None:
        self._prob, self._mode, self._shape, self._device = recipe.reprob, recipe.remode, shape, device
        self.columns = 1 + 2 * _ATTEMPTS + 3
        values = math.prod(shape)
        if self._prob and self._mode != "const":
            generator = torch.Generator().manual_seed(seed % 2**63)
            pool = torch.randn(_PLACES + values, generator=generator).to(device)
            self._noise = pool.as_strided((_PLACES, values), (1, 1))  # row i: the numbers from place i on

    def __call__(self, images: torch.Tensor, uniform: Floats) -> torch.Tensor:
        """images: float32 (B, C, S, S), erased in place; uniform: (B, columns)."""
        if not self._prob:
            return images
        size = self._shape[-1]
        width, height, fits = boxes(uniform[:, 1 : 1 + 2 * _ATTEMPTS], size, self._AREA, self._RATIO, strict=True)
        chosen = np.flatnonzero((uniform[:, 0] < self._prob) & fits)
        if not len(chosen):
            return images
        width, height, (y, x, place) = width[chosen], height[chosen], uniform[chosen, -3:].T
        top = np.floor(y * (size - height + 1)).astype(np.int64)
        left = np.floor(x * (size - width + 1)).astype(np.int64)
        start = (place * _PLACES).astype(np.int64)
        plan = np.stack([chosen, start, top, top + height, left, left + width])
        return self._by_box(images, plan) if self._device.type == "cpu" else self._at_once(images, plan)

    def _by_box(self, images: torch.Tensor, plan: Ints) -> torch.Tensor:
        """Box by box: touches least."""
        shape = self._shape if self._mode == "pixel" else (self._shape[0], 1, 1)
        for i, start, top, bottom, left, right in plan.T.tolist():
            box = images[i, :, top:bottom, left:right]
            if self._mode == "const":
                box.zero_()
            else:
                noise = self._noise[start, : math.prod(shape)].view(shape)
                box.copy_(noise[:, top:bottom, left:right] if self._mode == "pixel" else noise)
        return images

    def _at_once(self, images: torch.Tensor, plan: Ints) -> torch.Tensor:
        """The same in a few kernels, whatever the number of boxes."""
        index, start, top, bottom, left, right = send(plan, self._device)[:, :, None]
        line = torch.arange(self._shape[-1], device=self._device)
        rows, columns = (line >= top) & (line < bottom), (line >= left) & (line < right)
        box = rows[:, None, :, None] & columns[:, None, None, :]
        if self._mode == "const":
            noise = torch.zeros(1, device=self._device)
        else:
            shape = self._shape if self._mode == "pixel" else (self._shape[0], 1, 1)
            noise = self._noise[:, : math.prod(shape)].index_select(0, start[:, 0]).view(-1, *shape)
        chosen = images.index_select(0, index[:, 0])
        return images.index_copy_(0, index[:, 0], torch.where(box, noise, chosen))
