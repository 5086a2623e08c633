"""Owns RandAugment: drawing it for whole batches, and keeping timm's own within what Pillow allows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ladder.data.ops import NOTHING, NUMBER
from ladder.data.order import Floats, Ints
from ladder.errors import UserError, one_line

_MAX = 10.0  # timm's magnitude scale ends here, unless `mmax` moves the end


def timm_policy(text: str, size: int, mean: tuple[float, ...], interpolation: str) -> Any:
    """timm's RandAugment object for a string such as rand-m9-mstd0.5-inc1, as timm's transforms would make it.

    UserError for a string that timm doesn't read.
    """
    from timm.data.auto_augment import rand_augment_transform
    from timm.data.transforms import str_to_pil_interp

    hparams = {
        "translate_const": int(size * 0.45),
        "img_mean": tuple(min(255, round(255 * value)) for value in mean),
        "interpolation": str_to_pil_interp(interpolation),
    }
    try:
        return rand_augment_transform(text, hparams)
    except (AssertionError, ValueError) as error:
        raise UserError(
            f"recipe.randaugment={text}: {one_line(error)}; allowed: timm's strings such as rand-m9-mstd0.5-inc1"
        ) from error


# --- for batches -----------------------------------------------------------------------------------------------------


def _signed(scale: float) -> Callable[[Floats, Floats], Floats]:
    return lambda level, sign: level * scale * sign


def _increasing(level: Floats, sign: Floats) -> Floats:
    return np.maximum(0.1, 1 + 0.9 * level * sign)


def _plain(level: Floats, _: Floats) -> Floats:
    return 1.8 * level + 0.1


def _bits(kept: Callable[[Floats], Floats]) -> Callable[[Floats, Floats], Floats]:
    return lambda level, _: np.clip(kept(np.trunc(level * 4)), 1, 8)


# timm's name: operation, its argument from the level (magnitude / 10) and a sign
_ARGUMENTS: dict[str, tuple[str, Callable[[Floats, Floats], Floats]]] = {
    "AutoContrast": ("AutoContrast", lambda level, _: level),
    "Equalize": ("Equalize", lambda level, _: level),
    "Invert": ("Invert", lambda level, _: level),
    "Rotate": ("Rotate", _signed(30)),
    "Posterize": ("Posterize", _bits(lambda bits: bits)),
    "PosterizeIncreasing": ("Posterize", _bits(lambda bits: 4 - bits)),
    "PosterizeOriginal": ("Posterize", _bits(lambda bits: 4 + bits)),
    "Solarize": ("Solarize", lambda level, _: np.minimum(256, np.trunc(level * 256))),
    "SolarizeIncreasing": ("Solarize", lambda level, _: 256 - np.minimum(256, np.trunc(level * 256))),
    "SolarizeAdd": ("SolarizeAdd", lambda level, _: np.minimum(128, np.trunc(level * 110))),
    "Color": ("Color", _plain),
    "ColorIncreasing": ("Color", _increasing),
    "Contrast": ("Contrast", _plain),
    "ContrastIncreasing": ("Contrast", _increasing),
    "Brightness": ("Brightness", _plain),
    "BrightnessIncreasing": ("Brightness", _increasing),
    "Sharpness": ("Sharpness", _plain),
    "SharpnessIncreasing": ("Sharpness", _increasing),
    "ShearX": ("ShearX", _signed(0.3)),
    "ShearY": ("ShearY", _signed(0.3)),
    "Desaturate": ("Color", lambda level, _: 1 - np.clip(0.5 + 0.5 * level, 0.5, 1)),
}


class RandAugment:
    """timm's RandAugment, drawn for a batch at once: for each of its layers an operation and argument for each image.

    Operations, probabilities, magnitudes and weights are read from timm's own object. Differences from timm: the
    random numbers are others; posterize keeps 1 bit where timm asks for none (see `bounded`); what `ops.apply` says.
    """

    def __init__(self, text: str, size: int, mean: tuple[float, ...], interpolation: str) -> None:
        """`size` in pixels, `mean` of the channels in 0..1. UserError: the string asks for more."""
        if not text.startswith("rand"):
            raise UserError(f"recipe.randaugment={text}: data.loader=memory can do rand-... only; use data.loader=timm")
        policy = timm_policy(text, size, mean, interpolation)
        arguments = dict(_ARGUMENTS)
        for axis in "XY":
            arguments[f"Translate{axis}"] = (f"Translate{axis}", _signed(policy.ops[0].hparams["translate_const"]))
            arguments[f"Translate{axis}Rel"] = (f"Translate{axis}", _signed(0.45 * size))
        unknown = [op.name for op in policy.ops if op.name not in arguments]
        if unknown:
            raise UserError(
                f"recipe.randaugment={text}: data.loader=memory has no {', '.join(unknown)}; use data.loader=timm"
            )
        op = policy.ops[0]  # all have the same settings
        self._prob, self._magnitude, self._std = op.prob, op.magnitude, op.magnitude_std
        self._max = op.magnitude_max or _MAX
        self._arguments = [arguments[op.name] for op in policy.ops]
        self._weights, self.layers = policy.choice_weights, policy.num_layers
        self.fill = op.hparams["img_mean"]
        self._draws = len(policy.ops) if self._weights is not None else self.layers
        self.columns = self._draws + 4 * self.layers  # random numbers that an image needs

    def draw(self, uniform: Floats) -> list[tuple[Ints, Floats]]:
        """(kind, argument) of each layer, as `ops.apply` takes them, from random numbers (B, columns)."""
        if self._weights is None:
            choice = (uniform[:, : self.layers] * len(self._arguments)).astype(np.int64)
        else:  # without replacement: the largest of log weight + Gumbel noise are such a sample
            keys = np.log(self._weights) - np.log(-np.log(uniform[:, : self._draws] + 1e-12))
            choice = np.argsort(-keys, axis=1)[:, : self.layers]
        rest = uniform[:, self._draws :].reshape(len(uniform), self.layers, 4)
        return [self._layer(choice[:, layer], rest[:, layer]) for layer in range(self.layers)]

    def _layer(self, choice: Ints, uniform: Floats) -> tuple[Ints, Floats]:
        applied, first, second, sign = uniform.T
        if self._std == float("inf"):
            magnitude = self._magnitude * first
        else:  # Box-Muller
            normal = np.sqrt(-2 * np.log(1 - first)) * np.cos(2 * np.pi * second)
            magnitude = self._magnitude + self._std * normal
        level = np.clip(magnitude, 0, self._max) / _MAX
        signs = np.where(sign < 0.5, -1.0, 1.0)
        kind, argument = np.full(len(choice), NOTHING), np.zeros(len(choice))
        for number, (name, of_level) in enumerate(self._arguments):
            chosen = np.flatnonzero((choice == number) & (applied < self._prob))
            kind[chosen] = NUMBER[name]
            argument[chosen] = of_level(level[chosen], signs[chosen])
        return kind, argument


# --- for timm's own, in worker processes -----------------------------------------------------------------------------


def bounded(transform: Any) -> Any:
    """Keep timm's posterize at 1 bit or more, in place, in any policy below `transform`; returns `transform`.

    timm's posterize asks for 0 bits where the magnitude reaches its end (10), which a recipe's rand-m9-mstd0.5-inc1
    draws every few hundred images; Pillow before 13 made such an image black, Pillow 13 refuses. With `mmax` above
    10 it asks for less than 0, which no Pillow takes. Nothing else is changed and no random number is drawn.
    """
    for op in _operations(transform):
        if op.name.startswith("Posterize") and not isinstance(op.level_fn, partial):
            op.level_fn = partial(_at_least_one_bit, op.level_fn)
    return transform


def _operations(transform: Any) -> list[Any]:
    """The AugmentOps of a transform: of a Compose, a RandAugment or AugMix (ops), an AutoAugment (policy)."""
    if hasattr(transform, "level_fn"):
        return [transform]
    parts = (
        getattr(transform, "transforms", None) or getattr(transform, "ops", None) or getattr(transform, "policy", None)
    )
    return [op for part in parts or () for op in (_operations(part) if not isinstance(part, list) else part)]


def _at_least_one_bit(level_fn: Callable[..., tuple[int, ...]], level: float, hparams: Any) -> tuple[int, ...]:
    return (max(1, level_fn(level, hparams)[0]),)
