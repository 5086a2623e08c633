"""RandAugment: timm's operations, magnitudes and odds in batches; timm's own within what Pillow allows."""

from __future__ import annotations

import copy
import random
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment as timm_ops

from ladder.data import ops
from ladder.data.order import seed_global, uniforms
from ladder.data.randaugment import RandAugment, bounded, timm_policy
from ladder.data.transforms import train_transform
from ladder.errors import UserError
from ladder.runs.config import DataConfig
from ladder.training.recipe import Recipe

MEAN = (0.49, 0.48, 0.45)
PAPER = "rand-m9-mstd0.5-inc1"


def drawn(text: str, rows: int = 20000) -> list[tuple[np.ndarray, np.ndarray]]:
    policy = RandAugment(text, 32, MEAN, "bilinear")
    return policy.draw(uniforms(0, 0, 0, rows, policy.columns))


@pytest.mark.parametrize("increasing", [0, 1])
@pytest.mark.parametrize("magnitude", range(11))
def test_arguments_are_timms(magnitude: int, increasing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"rand-m{magnitude}-inc{increasing}-p1-n1"
    theirs: dict[str, set[float]] = {}
    for coin in (0.0, 1.0):
        monkeypatch.setattr(timm_ops.random, "random", lambda coin=coin: coin)
        for op in bounded(timm_policy(text, 32, MEAN, "bilinear")).ops:
            arguments = op.level_fn(magnitude, op.hparams) if op.level_fn else (0.0,)
            name = op.name.removesuffix("Increasing").removesuffix("Rel")
            value = float(arguments[0]) * (32 if op.name.endswith("Rel") else 1)
            theirs.setdefault(name, set()).add(round(value, 4))
    ((kind, argument),) = drawn(text)
    for name, expected in theirs.items():
        values = set(argument[kind == ops.NUMBER[name]].round(4).tolist())
        if name in ("AutoContrast", "Equalize", "Invert"):  # take none
            assert values
        else:
            assert values == expected, name


def test_operations_and_odds() -> None:
    layers = drawn(PAPER)
    assert len(layers) == 2
    for kind, _ in layers:
        counts = Counter(kind.tolist())
        assert counts[ops.NOTHING] / len(kind) == pytest.approx(0.5, abs=0.02)
        for number in range(len(ops.KINDS)):
            assert counts[number] / len(kind) == pytest.approx(0.5 / 15, abs=0.006)
    (first, _), (second, _) = layers
    assert np.mean((first >= 0) & (second >= 0)) == pytest.approx(0.25, abs=0.02)  # layers don't know of each other


def test_magnitudes_are_normal_and_clipped() -> None:
    ((kind, argument),) = drawn("rand-m5-mstd0.5-p1-n1-inc1", 60000)
    level = np.abs(argument[kind == ops.NUMBER["Rotate"]]) / 3
    assert level.mean() == pytest.approx(5, abs=0.05)
    assert level.std() == pytest.approx(0.5, abs=0.03)
    ((kind, argument),) = drawn("rand-m9-mstd3-p1-n1-inc1", 60000)
    level = argument[kind == ops.NUMBER["Rotate"]] / 3
    assert np.abs(level).max() == pytest.approx(10)
    assert np.mean(level > 0) == pytest.approx(0.5, abs=0.03)
    ((kind, argument),) = drawn("rand-m8-mstd101-p1-n1-inc1", 60000)  # uniform in 0 to 8
    level = np.abs(argument[kind == ops.NUMBER["Rotate"]]) / 3
    assert level.max() == pytest.approx(8, abs=0.05)
    assert level.mean() == pytest.approx(4, abs=0.15)


def test_zero_magnitude_changes_only_what_has_none() -> None:
    images = torch.randint(0, 256, (500, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ((kind, argument),) = drawn("rand-m0-p1-n1-inc1", 500)
    result = ops.apply(images.clone(), kind, argument, (0, 0, 0), "bicubic")
    changed = {ops.KINDS[k] for k, a, b in zip(kind, result, images, strict=True) if not torch.equal(a, b)}
    assert changed == {"AutoContrast", "Equalize", "Invert", "Posterize"}  # 4 bits at the least


def test_weighted_choice_follows_the_weights() -> None:
    text = "rand-m9-n1-p1-inc1-tweights"
    ((kind, _),) = drawn(text)
    policy = timm_policy(text, 32, MEAN, "bilinear")
    for op, weight in zip(policy.ops, policy.choice_weights, strict=True):
        name = op.name.removesuffix("Increasing").removesuffix("Rel")
        assert np.mean(kind == ops.NUMBER[name]) == pytest.approx(weight, abs=0.015)
    first, second = (kind for kind, _ in drawn("rand-m9-n2-p1-inc1-tweights"))
    assert not np.any(first == second)  # without replacement


@pytest.mark.parametrize("text", ["rand-m9-x3", "randm", "rand-m1.5"])
@pytest.mark.parametrize("loader", ["memory", "timm"])
def test_a_string_that_is_none(text: str, loader: str) -> None:
    def use() -> object:
        if loader == "memory":
            return RandAugment(text, 32, MEAN, "bilinear")
        return train_transform(Recipe(randaugment=text), DataConfig(image_size=32))

    with pytest.raises(UserError, match=r"recipe.randaugment=rand.*allowed: timm's strings such as rand-m9"):
        use()


@pytest.mark.parametrize("text", ["v0", "augmix-m3", "rand-m9-t3a"])
def test_what_batches_can_not_do_names_the_other_loader(text: str) -> None:
    with pytest.raises(UserError, match=r"data\.loader=timm"):
        RandAugment(text, 32, MEAN, "bilinear")


# --- timm's own ------------------------------------------------------------------------------------------------------


@pytest.fixture
def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8))


POLICIES = [PAPER, "rand-m10", "rand-m15-mmax20-inc1", "rand-m9-mstd101-inc1", "rand-m10-tweights-inc1"]
POLICIES += ["v0", "original", "augmix-m10", "rand-m10-inc1-t3aw"]


@pytest.mark.parametrize("text", POLICIES)
def test_extremes_of_every_policy_pass_through_pillow(text: str, photo: Image.Image) -> None:
    transform = train_transform(Recipe(randaugment=text), DataConfig(image_size=12))
    policy = transform.transforms[-1]  # type: ignore[attr-defined]
    operations = [op for part in getattr(policy, "ops", None) or policy.policy for op in np.atleast_1d(part)]
    assert len(operations) >= 10
    for op in operations:
        op.prob, op.magnitude_std = 1.0, 0.0
        for magnitude in (0, op.magnitude_max or 10):
            op.magnitude = magnitude
            assert op(photo).size == photo.size


def test_only_posterize_is_bounded_and_nothing_else_changes(photo: Image.Image) -> None:
    """Draw for draw the same images, but where a posterize would have asked for no bits."""
    plain = timm_policy("rand-m9-mstd0.5-inc1", 12, MEAN, "bicubic")
    bound = bounded(copy.deepcopy(plain))
    for theirs, mine in zip(plain.ops, bound.ops, strict=True):
        for magnitude in (0.0, 3.0, 9.0, 9.9, 10.0):
            for op in (theirs, mine):
                op.prob, op.magnitude, op.magnitude_std = 1.0, magnitude, 0.0
            if theirs.name == "PosterizeIncreasing" and magnitude == 10:
                assert np.array_equal(mine(photo), timm_ops.posterize(photo, 1))
                continue
            seed_global(5)
            expected, after = np.array(theirs(photo)), random.random()
            seed_global(5)
            assert np.array_equal(mine(photo), expected)
            assert random.random() == after


def test_bounding_twice_is_bounding_once() -> None:
    policy = bounded(bounded(timm_policy(PAPER, 12, MEAN, "bicubic")))
    (op,) = (op for op in policy.ops if op.name == "PosterizeIncreasing")
    assert op.level_fn(10, {}) == (1,)
    assert op.level_fn(0, {}) == (4,)
