"""Owns image folders: root/SPLIT/CLASS/image files, which folder is the one to evaluate on, what tells two apart.

Imports no torch: a launcher lists folders too, to say which run is which.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ladder.errors import UserError

if TYPE_CHECKING:
    from ladder.data.images import FileImages

# What timm reads, but for formats that Pillow opens only with plugins.
EXTENSIONS = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"))
EVAL_FOLDERS = ("test", "val", "validation")
THREADS = 16  # listing is waiting, on a network disk
SIZED = 2**16  # files of a split whose sizes are asked for, spread evenly over it: on a network disk each is a question


def split_folder(root: Path, split: str, key: str) -> Path:
    """The folder of one split; `auto` takes the first of test, val, validation that exists."""
    if not root.is_dir():
        raise UserError(f"data.root={root}: no such folder; it must hold train/CLASS/*.jpg and test/ or val/")
    found = [name for name in (EVAL_FOLDERS if split == "auto" else (split,)) if (root / name).is_dir()]
    if not found:
        wanted = "/, ".join(EVAL_FOLDERS) if split == "auto" else split
        there = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
        raise UserError(
            f"data.{key}={split}: no folder {wanted}/ in {root}; folders there: {', '.join(there) or 'none'}"
        )
    return root / found[0]


@dataclass(frozen=True)
class Listing:
    """The image files of one split, as a listing of its folders gives them."""

    folder: Path
    classes: tuple[str, ...]  # sorted: their places are the labels
    files: tuple[tuple[str, ...], ...]  # of each class, relative to `folder`, sorted

    def __len__(self) -> int:
        return sum(map(len, self.files))

    @cached_property
    def digest(self) -> str:
        """Of class names, of each file's name and of sizes (of all files up to SIZED, else of as many of them)."""
        names = [name for files in self.files for name in files]
        step = max(1, -(-len(names) // SIZED))
        out = hashlib.sha256()
        for name, files in zip(self.classes, self.files, strict=True):
            out.update(b"\0".join((os.fsencode(name), b"%d" % len(files), *map(os.fsencode, files), b"")))
        with ThreadPoolExecutor(THREADS) as pool:
            paths = [os.path.join(self.folder, name) for name in names[::step]]
            sizes = pool.map(_sizes, [paths[i : i + 1024] for i in range(0, len(paths), 1024)])
            out.update(",".join(str(size) for part in sizes for size in part).encode())
        return out.hexdigest()[:16]


def _sizes(paths: Iterable[str]) -> list[int]:
    out = []
    for path in paths:
        try:
            out.append(os.stat(path).st_size)
        except OSError:  # a dangling link: told where the image is opened
            out.append(-1)
    return out


def content_digest(train: Listing, evaluation: Listing | None) -> str:
    """One digest of the images that train and of those that evaluate (None: held out of the former)."""
    return hashlib.sha256(f"{train.digest} {evaluation and evaluation.digest}".encode()).hexdigest()[:16]


def list_images(folder: Path) -> Listing:
    """The images below `folder`/CLASS/ (any depth). Raises UserError where there are none, or they can't be listed."""
    classes = sorted(entry.name for entry in _entries(folder) if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise UserError(f"{folder}: no class folders; it must hold CLASS/*.jpg, a folder for each class")
    with ThreadPoolExecutor(THREADS) as pool:
        files = tuple(pool.map(lambda name: tuple(sorted(_files(folder, name))), classes))
    for name, found in zip(classes, files, strict=True):
        if not found:
            raise UserError(f"class folder {folder / name} has no image; readable: {', '.join(sorted(EXTENSIONS))}")
    return Listing(folder, tuple(classes), files)


def scan(listing: Listing) -> FileImages:
    """The images of a listing, which can be opened; the place of a class is its label."""
    from ladder.data.images import FileImages

    labels = [label for label, files in enumerate(listing.files) for _ in files]
    return FileImages(listing.folder, [name for files in listing.files for name in files], labels)


def _entries(folder: Path) -> Sequence[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise UserError(f"can't list the image folder {folder}: {error.strerror}") from None


def _files(folder: Path, name: str) -> list[str]:
    """Image files below folder/name, relative to `folder`."""
    found: list[str] = []
    pending = [(name, frozenset((os.path.realpath(folder / name),)))]  # and the folders that links led there by
    while pending:
        below, trail = pending.pop()
        for entry in _entries(folder / below):
            if entry.name.startswith("."):
                continue
            path = f"{below}/{entry.name}"
            if entry.is_dir():
                onward = trail
                if entry.is_symlink():
                    real = os.path.realpath(folder / path)
                    if real in trail or Path(os.path.realpath(folder / below)).is_relative_to(real):
                        raise UserError(f"{folder / path} is a link to a folder that holds it: remove it")
                    onward = trail | {real}
                pending.append((path, onward))
            elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
                found.append(path)
    return found


def same_classes(train: tuple[str, ...], other: tuple[str, ...], folder: Path) -> None:
    """Raise UserError where a split doesn't have the classes of the training set."""
    missing, extra = sorted(set(train) - set(other)), sorted(set(other) - set(train))
    if missing or extra:
        parts = [
            f"{word} {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
            for word, names in (("lacks", missing), ("has beside them", extra))
            if names
        ]
        raise UserError(f"{folder} must hold the {len(train)} classes of train/: it {' and '.join(parts)}")
