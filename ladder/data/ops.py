"""Owns the image operations of RandAugment and colour jitter, on uint8 batches, one operation per image.

Which image gets which operation is known on the host, so images are grouped there and each group costs a few kernels:
nothing is computed for images that don't want it, and nothing is read back from the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ladder.data.order import Floats, Ints

NOTHING = -1
# Operations, and what the argument of each is. The pointwise ones come first: `apply` relies on it.
POINTWISE = (
    "Invert",  # -
    "Posterize",  # bits kept, 1 to 8
    "Solarize",  # pixels from here on are inverted, 0 to 256
    "SolarizeAdd",  # added to pixels below 128
    "Brightness",  # factor; here and below 1 changes nothing
    "AutoContrast",  # -
    "Equalize",  # -
    "Contrast",  # factor
)
GEOMETRIC = (
    "ShearX",  # pixels to the side per pixel downwards
    "ShearY",
    "TranslateX",  # pixels that the window moves, so the picture moves the other way
    "TranslateY",
    "Rotate",  # degrees, counter-clockwise
)
KINDS = (*POINTWISE, "Color", "Sharpness", *GEOMETRIC)
NUMBER = {kind: number for number, kind in enumerate(KINDS)}


def send(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """A host array as a tensor on `device`, without waiting for what the device is doing."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def apply(pixels: torch.Tensor, kind: Ints, argument: Floats, fill: Sequence[int], mode: str) -> torch.Tensor:
    """Image i of `pixels` after operation `kind[i]` with `argument[i]`.

    pixels: uint8 (B, C, S, S), C 1 or 3, not changed; kind: a number of KINDS or NOTHING, (B,); argument: (B,). `fill`
    (C values) colours what a geometric operation brings in from outside, `mode` (bicubic, bilinear) is its filter. The
    results are Pillow's, but for bicubic geometric ones: the slope of torch's cubic is -0.75, that of Pillow's -1, so
    Pillow's edges are a little steeper.
    """
    if pixels.shape[1] == 1:
        kind = np.where(kind == NUMBER["Color"], NOTHING, kind)  # gray has no colour to change
    order = np.argsort(kind, kind="stable")
    index = send(np.stack([order, np.argsort(order)]), pixels.device)
    kind, argument = kind[order], argument[order]
    pixels = pixels.index_select(0, index[0])
    bounds = np.searchsorted(kind, np.arange(len(KINDS) + 1))
    parts = [pixels[: bounds[0]]]
    for first, last, change in (
        (POINTWISE[0], POINTWISE[-1], _pointwise),
        ("Color", "Color", _color),
        ("Sharpness", "Sharpness", _sharpness),
        (GEOMETRIC[0], GEOMETRIC[-1], partial(_warp, fill=fill, mode=mode)),
    ):
        group = slice(bounds[NUMBER[first]], bounds[NUMBER[last] + 1])
        if group.stop > group.start:
            parts.append(change(pixels[group], kind[group], argument[group]))
    return torch.cat(parts).index_select(0, index[1])


# --- pointwise: a table of 256 values for each image and channel -----------------------------------------------------

_RAMP = np.arange(256)
_TABLES: dict[str, Callable[[Floats], NDArray[Any]]] = {  # argument (n, 1) -> table (n, 256), from the host
    "Invert": lambda a: np.broadcast_to(255 - _RAMP, (len(a), 256)),
    "Posterize": lambda a: _RAMP & -(1 << (8 - a.astype(np.int64))),
    "Solarize": lambda a: np.where(a > _RAMP, _RAMP, 255 - _RAMP),
    "SolarizeAdd": lambda a: np.where(_RAMP < 128, np.minimum(_RAMP + a.astype(np.int64), 255), _RAMP),
    "Brightness": lambda a: np.clip(_RAMP.astype(np.float32) * a.astype(np.float32), 0, 255),
}


def _pointwise(pixels: torch.Tensor, kind: Ints, argument: Floats) -> torch.Tensor:
    """Images sorted by kind, each through its table."""
    channels, device = pixels.shape[1], pixels.device
    flat = pixels.flatten(2).long()
    bounds = np.searchsorted(kind, np.arange(len(POINTWISE) + 1))
    groups = {name: slice(*bounds[number : number + 2]) for number, name in enumerate(POINTWISE)}
    fixed = np.concatenate([table(argument[groups[name], None]).astype(np.uint8) for name, table in _TABLES.items()])
    tables = [send(fixed, device)[:, None].expand(-1, channels, -1)]
    for name, table in (("AutoContrast", _stretched), ("Equalize", _equalized)):
        group = groups[name]
        if group.stop > group.start:
            tables.append(table(flat[group]))
    group = groups["Contrast"]
    if group.stop > group.start:
        mean = (_gray(pixels[group].float()).mean((2, 3)) + 0.5).floor()[:, None]
        ramp = torch.arange(256, dtype=torch.float32, device=device)
        tables.append(_blend(mean, ramp, argument[group, None, None]).expand(-1, channels, -1))
    result: torch.Tensor = torch.cat(tables).gather(2, flat)
    return result.view_as(pixels)


def _stretched(flat: torch.Tensor) -> torch.Tensor:
    """Tables that map the darkest pixel to 0 and the lightest to 255, each channel by itself."""
    low, high = (bound.double()[..., None] for bound in flat.aminmax(dim=2))
    ramp = torch.arange(256, dtype=torch.float64, device=flat.device)
    scale = torch.full_like(low, 255) / (high - low)  # infinite where the channel is flat, and replaced there
    stretched = (ramp * scale + -low * scale).clamp(0, 255)
    return torch.where(high > low, stretched, ramp).to(torch.uint8)


def _equalized(flat: torch.Tensor) -> torch.Tensor:
    """Tables that make the histogram even, in Pillow's whole-number arithmetic."""
    values = torch.arange(256, device=flat.device)
    counts = torch.zeros(*flat.shape[:2], 256, dtype=torch.int64, device=flat.device)
    counts.scatter_add_(2, flat, torch.ones_like(flat))
    lightest = counts.gather(2, flat.amax(2, keepdim=True))
    step = (flat.shape[2] - lightest) // 255  # 0 too where a channel has one value
    below = counts.cumsum(2) - counts
    table = (step // 2 + below) // step.clamp(min=1)
    return torch.where(step > 0, table.clamp(max=255), values).to(torch.uint8)


# --- blends with a degenerate image ----------------------------------------------------------------------------------


def _color(pixels: torch.Tensor, _: Ints, factor: Floats) -> torch.Tensor:
    image = pixels.float()
    return _blend(_gray(image), image, factor[:, None, None, None])


def _sharpness(pixels: torch.Tensor, _: Ints, factor: Floats) -> torch.Tensor:
    image = pixels.float()
    return _blend(_smooth(image), image, factor[:, None, None, None])


def _blend(degenerate: torch.Tensor, image: torch.Tensor, factor: Floats) -> torch.Tensor:
    """From `degenerate` (factor 0) through `image` (1) and beyond, as uint8; both hold whole numbers."""
    by = send(factor.astype(np.float32), image.device)
    return (degenerate + by * (image - degenerate)).clamp_(0, 255).to(torch.uint8)


def _gray(image: torch.Tensor) -> torch.Tensor:
    """ITU-R 601 luma, rounded, (B, 1, H, W); exact in float32."""
    if image.shape[1] == 1:
        return image
    red, green, blue = image.split(1, dim=1)
    luma: torch.Tensor = (19595 * red + 38470 * green + 7471 * blue + 32768) / 65536
    return luma.floor()


def _smooth(image: torch.Tensor) -> torch.Tensor:
    """3x3 mean with the centre weighing 5 of 13, rounded; the outermost pixels stay."""
    rows = image[:, :, :-2] + image[:, :, 1:-1] + image[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = image.clone()
    inner = smooth[:, :, 1:-1, 1:-1]
    inner.copy_(((total + 4 * inner + 6.5) / 13).floor())
    return smooth


# --- geometric -------------------------------------------------------------------------------------------------------


def _warp(pixels: torch.Tensor, kind: Ints, argument: Floats, *, fill: Sequence[int], mode: str) -> torch.Tensor:
    """Images seen through an affine window each."""
    size, device = pixels.shape[-1], pixels.device
    matrix = send(_matrices(kind, argument, size), device)[..., None, None]  # (n, 2, 3, 1, 1)
    centre = (torch.arange(size, device=device) * 2 + 1) / size - 1  # of pixels, in -1..1 from edge to edge
    place = matrix[:, :, 0] * centre + matrix[:, :, 1] * centre[:, None] + matrix[:, :, 2]  # (n, 2, S, S): x, y
    inside = ((place >= -1) & (place < 1)).all(1, keepdim=True)
    warped = functional.grid_sample(pixels.float(), place.permute(0, 2, 3, 1), mode, "border", align_corners=False)
    warped = (warped + 1e-3).clamp_(0, 255).to(torch.uint8)  # Pillow truncates; 1e-3: 99.9999 is 100
    return torch.where(inside, warped, torch.tensor(fill, dtype=torch.uint8, device=device).view(-1, 1, 1))


def _matrices(kind: Ints, argument: Floats, size: int) -> NDArray[np.float32]:
    """From a place in the result to a place in the image, both in -1..1 from edge to edge: (n, 2, 3)."""

    def of(name: str) -> Floats:
        return np.where(kind == NUMBER[name], argument, 0.0)

    angle = np.radians(of("Rotate"))
    shear_x, shear_y = of("ShearX"), of("ShearY")
    matrix = np.empty((len(kind), 2, 3), dtype=np.float32)
    matrix[:, 0, 0] = matrix[:, 1, 1] = np.cos(angle)
    matrix[:, 0, 1] = shear_x - np.sin(angle)
    matrix[:, 1, 0] = shear_y + np.sin(angle)
    # Pillow shears about the corner, rotates about the centre
    matrix[:, 0, 2] = shear_x + 2 * of("TranslateX") / size
    matrix[:, 1, 2] = shear_y + 2 * of("TranslateY") / size
    return matrix
