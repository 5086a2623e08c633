"""Batched augmentation: crops as Pillow makes them, flips, jitter and erasing with the odds and sizes of timm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from timm.data.loader import PrefetchLoader
from timm.data.transforms import RandomResizedCropAndInterpolation

from ladder.data import ops
from ladder.data.augment import Augment, Crop, Erase, Normalize, boxes, channels, jitter, resampling
from ladder.data.order import uniforms
from ladder.runs.config import DataConfig
from ladder.training.recipe import Recipe

CPU = torch.device("cpu")
SIZE = 16


def pictures(count: int = 64, in_chans: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, in_chans, SIZE, SIZE), dtype=torch.uint8, generator=generator)


def draws(count: int, columns: int) -> np.ndarray:
    return uniforms(0, 0, 0, count, columns)


# --- crop and flip ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filter_", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("length", "size"), [(1, 7), (3, 8), (5, 5), (9, 32), (31, 32)])
def test_resampling_is_pillows(length: int, size: int, filter_: str) -> None:
    line = np.random.default_rng(0).uniform(0, 255, length).astype(np.float32)
    image = Image.fromarray(np.tile(line, (size, 1)))
    expected = np.asarray(image.resize((size, size), Image.Resampling[filter_.upper()]))[0]
    assert np.allclose(resampling(length, size, filter_) @ line, expected, atol=1e-3)


@pytest.mark.parametrize("filter_", ["bilinear", "bicubic"])
@pytest.mark.parametrize("in_chans", [1, 3])
def test_random_resized_crop_is_pillows_of_the_same_window(filter_: str, in_chans: int) -> None:
    images = pictures(in_chans=in_chans)
    crop = Crop(Recipe(interpolation=filter_), SIZE, CPU)
    uniform = draws(len(images), crop.columns)
    height, down, width, right = crop._windows(uniform[:, 1:])
    result = crop(images, uniform)
    for i, image in enumerate(images):
        pixels = image[0] if in_chans == 1 else image.permute(1, 2, 0)
        box = SIZE - right[i], SIZE - down[i]
        part = Image.fromarray(pixels.numpy()).crop((*box, box[0] + width[i], box[1] + height[i]))
        expected = np.array(part.resize((SIZE, SIZE), Image.Resampling[filter_.upper()]))
        expected = expected[:, ::-1] if uniform[i, 0] < 0.5 else expected
        difference = result[i].numpy() - np.atleast_3d(expected).transpose(2, 0, 1)
        assert np.abs(difference).max() <= 1  # where two sums of floats round to different sides
        assert np.abs(difference).mean() < 0.02


def test_crops_have_torchvisions_sizes() -> None:
    """Area, aspect and place, against timm's own crop on the same image size."""
    count, recipe = 4000, Recipe(crop_scale=[0.2, 0.9], crop_ratio=[0.5, 2.0])
    crop = Crop(recipe, 32, CPU)
    height, down, width, right = crop._windows(draws(count, crop.columns)[:, 1:])
    canvas = Image.new("L", (32, 32))
    theirs = np.array(
        [RandomResizedCropAndInterpolation.get_params(canvas, (0.2, 0.9), (0.5, 2.0)) for _ in range(count)]
    )
    ours = np.stack([32 - down, 32 - right, height, width], axis=1)
    assert np.allclose(ours.mean(0), theirs.mean(0), atol=0.5)
    assert np.allclose(ours.std(0), theirs.std(0), atol=0.5)
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, :2] + ours[:, 2:] <= 32).all()


def test_pad_crops_are_windows_of_the_image_with_black_borders() -> None:
    images = pictures(400)
    crop = Crop(Recipe(crop="pad", crop_padding=2, hflip=0.0), SIZE, CPU)
    uniform = draws(len(images), crop.columns)
    result = crop(images, uniform)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    seen = set()
    for i in range(len(images)):
        places = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if torch.equal(padded[i, :, y : y + SIZE, x : x + SIZE].float(), result[i])
        ]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) == 25


def test_flip_mirrors_its_share_exactly() -> None:
    images = pictures(2000)
    crop = Crop(Recipe(crop="none", hflip=0.3), SIZE, CPU)
    result = crop(images, draws(len(images), crop.columns)).to(torch.uint8)
    mirrored = torch.tensor([torch.equal(a, b.flip(-1)) for a, b in zip(result, images, strict=True)])
    same = torch.tensor([torch.equal(a, b) for a, b in zip(result, images, strict=True)])
    assert (mirrored ^ same).all()
    assert mirrored.float().mean() == pytest.approx(0.3, abs=0.03)


@given(st.integers(2, 64), st.floats(0.01, 1), st.floats(0, 1), st.floats(0.2, 1), st.booleans(), st.integers(0, 99))
def test_boxes_fit_and_have_their_area(
    size: int, low: float, spread: float, ratio: float, strict: bool, seed: int
) -> None:
    area, ratios = [low, low + (1 - low) * spread], [ratio, 1 / ratio]
    width, height, fits = boxes(uniforms(seed, 0, 0, 30, 20), size, area, ratios, strict)
    limit = size - 1 if strict else size
    assert (np.maximum(width, height)[fits] <= limit).all()
    slack = (width + height)[fits] / 2 + 1  # of rounding both sides
    assert ((width * height)[fits] <= area[1] * size**2 + slack).all()
    assert (((width + 1) * (height + 1))[fits] >= area[0] * size**2).all()


# --- jitter ----------------------------------------------------------------------------------------------------------


def test_jitter_draws_each_factor_once_in_any_order() -> None:
    steps = jitter(draws(3000, 6), 0.4)
    kinds = np.stack([kind for kind, _ in steps])
    names = {ops.NUMBER[name] for name in ("Brightness", "Contrast", "Color")}
    assert all(set(column) == names for column in kinds.T)
    assert len({tuple(column) for column in kinds.T}) == 6
    for number in names:
        factors = np.concatenate([argument[kind == number] for kind, argument in steps])
        assert factors.min() == pytest.approx(0.6, abs=0.01)
        assert factors.max() == pytest.approx(1.4, abs=0.01)
        assert factors.mean() == pytest.approx(1, abs=0.02)
    assert min(argument.min() for _, argument in jitter(draws(3000, 6), 1.5)) >= 0


def test_jitter_is_off_where_randaugment_is_on() -> None:
    both = Augment(Recipe(color_jitter=0.4, randaugment="rand-m0-p0"), DataConfig(image_size=SIZE), 0, CPU)
    neither = Augment(Recipe(), DataConfig(image_size=SIZE), 0, CPU)
    uniform = draws(64, both.columns)
    crop = neither._crop.columns
    assert torch.equal(both(pictures(), uniform), neither(pictures(), np.hstack([uniform[:, :crop], uniform[:, -30:]])))


# --- normalise and erase ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_chans", [1, 3])
def test_normalised_as_timm_does(in_chans: int) -> None:
    data = DataConfig(in_chans=in_chans, mean=[0.3, 0.4, 0.6], std=[0.1, 0.2, 0.3])
    images, labels = pictures(in_chans=in_chans), torch.zeros(64, dtype=torch.long)
    mean, std = channels(data.mean, in_chans), channels(data.std, in_chans)
    loader = PrefetchLoader([(images, labels)], mean, std, in_chans, CPU)  # type: ignore[arg-type]
    ((expected, _),) = loader
    assert torch.equal(Normalize(data, CPU)(images), expected)


def test_statistics_fit_the_channels() -> None:
    assert channels([0.1, 0.2, 0.6], 3) == (0.1, 0.2, 0.6)
    assert channels([0.1, 0.2, 0.6], 1) == pytest.approx((0.3,))
    assert channels([0.5], 3) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("mode", ["pixel", "rand", "const"])
def test_erasing(mode: str) -> None:
    count, size = 3000, 32
    erase = Erase(Recipe(reprob=0.25, remode=mode), (3, size, size), 0, CPU)
    images = torch.full((count, 3, size, size), 9.0)
    result = erase(images.clone(), draws(count, erase.columns))
    changed = result != 9.0
    area = changed.any(1).float().mean((1, 2))
    assert (area > 0).float().mean() == pytest.approx(0.25, abs=0.025)
    assert area[area > 0].min() >= 0.02 - 0.01  # sides are rounded
    assert area.max() <= 1 / 3 + 0.03
    assert area[area > 0].mean() == pytest.approx((0.02 + 1 / 3) / 2, abs=0.02)
    for image, mask in zip(result, changed.all(1), strict=True):
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        if not len(rows):
            continue
        assert len(rows) * len(columns) == mask.sum()  # one box
        assert rows[-1] - rows[0] + 1 == len(rows)
        assert max(len(rows), len(columns)) < size
        assert max(len(rows) / len(columns), len(columns) / len(rows)) < 1 / 0.3 + 1.2
        if mode != "pixel":
            box = image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert torch.equal(box, box[:, :1, :1].expand_as(box))
    values = result[changed]
    assert values.mean() == pytest.approx(0, abs=0.15)
    assert values.std() == pytest.approx(0 if mode == "const" else 1, abs=0.15)


@pytest.mark.parametrize("mode", ["pixel", "rand", "const"])
def test_a_gpu_would_erase_the_same(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    erase = Erase(Recipe(reprob=0.5, remode=mode), (3, SIZE, SIZE), 0, CPU)
    images, uniform = torch.full((200, 3, SIZE, SIZE), 9.0), draws(200, erase.columns)
    expected = erase(images.clone(), uniform)
    monkeypatch.setattr(Erase, "_by_box", Erase._at_once)
    assert torch.equal(erase(images.clone(), uniform), expected)
    assert not torch.equal(images, expected)


def test_erased_noise_differs_from_image_to_image() -> None:
    erase = Erase(Recipe(reprob=1.0), (3, SIZE, SIZE), 0, CPU)
    result = erase(torch.zeros(50, 3, SIZE, SIZE), draws(50, erase.columns))
    assert len({float(image.sum()) for image in result}) == 50


# --- all together ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_chans", [1, 3])
@pytest.mark.parametrize("crop", ["random_resized", "pad", "none"])
@pytest.mark.parametrize("color", [{"randaugment": "rand-m9-mstd0.5-inc1"}, {"color_jitter": 0.4}, {}])
def test_any_recipe_gives_finite_images_and_leaves_its_input(in_chans: int, crop: str, color: dict) -> None:
    data = DataConfig(image_size=SIZE, in_chans=in_chans)
    augment = Augment(Recipe(crop=crop, reprob=0.5, **color), data, 0, CPU)
    images = pictures(in_chans=in_chans)
    before = images.clone()
    result = augment(images, draws(len(images), augment.columns))
    assert result.shape == images.shape
    assert result.dtype == torch.float32
    assert result.is_contiguous()
    assert torch.isfinite(result).all()
    assert torch.equal(images, before)
    assert torch.equal(result, augment(images, draws(len(images), augment.columns)))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_autocast_around_the_loader_changes_nothing(half: torch.dtype) -> None:
    augment = Augment(Recipe(randaugment="rand-m9-mstd0.5-inc1"), DataConfig(image_size=SIZE), 0, CPU)
    images = pictures()
    expected = augment(images, draws(64, augment.columns))
    with torch.autocast("cpu", half):
        assert torch.equal(augment(images, draws(64, augment.columns)), expected)


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    """One batch or two halves: the same images. So accumulation steps and ranks change nothing."""
    augment = Augment(Recipe(reprob=0.5, randaugment="rand-m9-mstd0.5-inc1"), DataConfig(image_size=SIZE), 0, CPU)
    images, uniform = pictures(), draws(64, augment.columns)
    halves = [augment(images[part], uniform[part]) for part in (slice(0, 20), slice(20, 64))]
    assert torch.allclose(augment(images, uniform), torch.cat(halves), atol=0.05)
    assert (augment(images, uniform) != torch.cat(halves)).float().mean() < 0.001
