"""Owns sets of labelled images that can be opened one by one: from files, from arrays, from a timm dataset."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ladder.data.order import Ints
from ladder.errors import UserError, one_line

# What Pillow's readers raise on files that are not images, or cut short, or absurdly large.
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


class Images(Protocol):
    """Images that can be opened by number, with an integer label each. Must pickle quickly: workers get a copy."""

    labels: Ints

    def open(self, index: int) -> Image.Image:
        """The image as stored (any size, any mode of 8 bits a channel), decoded. UserError names one that can't be."""


_REFUSED = {
    "I": "32-bit integers, whose range nothing says",
    "F": "floats, whose range nothing says",
    "LAB": "LAB colours, which Pillow does not turn into RGB",
}


def eight_bit(image: Image.Image) -> Image.Image:
    """An image of 16 bits a channel scaled to 8, 0..65535 to 0..255 (Pillow's `convert` clips it to white).

    Others come back as they are. Orientation by EXIF and transparency are left as torchvision and timm leave them.

    Raises:
        ValueError: on pixels without a range to scale by (floats, 32-bit integers), and on LAB.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):  # they hold 16 bits
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray(((values * 255 + 32767) // 65535).clip(0, 255).astype(np.uint8))
    if image.mode in _REFUSED:
        raise ValueError(f"its pixels are {_REFUSED[image.mode]}; save it with 8 or 16 bits a channel")
    return image


def decoded(image: Image.Image, in_chans: int) -> Image.Image:
    """The image as mode L (in_chans 1) or RGB (3); itself where it is so already (`convert` would copy it)."""
    mode = "L" if in_chans == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


class FileImages:
    """Image files. Paths are kept as one block of bytes in a tensor, which workers share instead of copying."""

    def __init__(self, root: Path, paths: Sequence[str], labels: Sequence[int]) -> None:
        """`paths` are relative to `root`."""
        encoded = [path.encode("utf-8", "surrogateescape") for path in paths]
        self._root = str(root)
        self._ends = torch.from_numpy(np.cumsum([0] + [len(e) for e in encoded], dtype=np.int64))
        self._bytes = torch.frombuffer(bytearray(b"".join(encoded)), dtype=torch.uint8)
        self.labels: Ints = np.array(labels, dtype=np.int64)

    def path(self, index: int) -> str:
        """Where an image lies."""
        name = self._bytes.numpy()[self._ends[index] : self._ends[index + 1]].tobytes()
        return os.path.join(self._root, name.decode("utf-8", "surrogateescape"))

    def open(self, index: int) -> Image.Image:
        path = self.path(index)
        try:
            with Image.open(path) as image:
                image.load()
                return eight_bit(image)
        except _UNREADABLE as error:
            raise UserError(f"can't decode image {path} ({one_line(error)}); replace or remove the file") from error


class ArrayImages:
    """Images of one size in memory, uint8: (N, H, W) grayscale or (N, H, W, 3) colour."""

    def __init__(self, pixels: NDArray[np.uint8], labels: Ints) -> None:
        self._pixels = torch.from_numpy(np.array(pixels, order="C"))  # a tensor: workers share it
        self.labels: Ints = np.array(labels, dtype=np.int64)

    def open(self, index: int) -> Image.Image:
        return Image.fromarray(self._pixels[index].numpy().copy())  # a view would dangle once workers share the tensor


class ReaderImages:
    """The images of a timm reader with random access (`hfds/`)."""

    def __init__(self, reader: Any, name: str) -> None:
        self._reader, self._name = reader, name
        self.labels: Ints = np.fromiter((int(label) for label in reader.iter_targets()), dtype=np.int64)

    def open(self, index: int) -> Image.Image:
        stream, _ = self._reader[index]
        try:
            with stream, Image.open(stream) as image:
                image.load()
                return eight_bit(image)
        except _UNREADABLE as error:
            raise UserError(f"can't decode image {index} of {self._name} ({one_line(error)})") from error


class HeldImages:
    """Opened images, held in memory: what a stream gives, from end to end."""

    def __init__(self, pairs: Iterable[tuple[Image.Image, Any]], name: str) -> None:
        try:
            images, labels = zip(*((eight_bit(image), label) for image, label in pairs), strict=True)
        except ValueError as error:
            raise UserError(f"can't read {name} ({one_line(error)})") from error
        self._images: list[Image.Image] = list(images)
        self.labels: Ints = np.array(labels, dtype=np.int64)

    def open(self, index: int) -> Image.Image:
        return self._images[index]


class Subset:
    """Some of the images of a set, in the order of `indices`."""

    def __init__(self, images: Images, indices: Ints) -> None:
        self._images, self._indices = images, indices
        self.labels: Ints = images.labels[indices]

    def open(self, index: int) -> Image.Image:
        return self._images.open(int(self._indices[index]))
