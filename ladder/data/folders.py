"""Owns image folders: root/SPLIT/CLASS/image files, and which folder is the one to evaluate on."""

from __future__ import annotations

import os
from pathlib import Path

from ladder.data.images import FileImages
from ladder.errors import UserError

# What timm reads, but for formats that Pillow opens only with plugins.
EXTENSIONS = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"))
EVAL_FOLDERS = ("test", "val", "validation")


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


def scan(folder: Path) -> tuple[FileImages, tuple[str, ...]]:
    """The images below `folder`/CLASS/ (any depth) and the class names in sorted order, which numbers the labels."""
    with os.scandir(folder) as entries:
        classes = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    if not classes:
        raise UserError(f"{folder}: no class folders; it must hold CLASS/*.jpg, a folder for each class")
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(_files(folder, name))
        if not found:
            raise UserError(f"class folder {folder / name} has no image; readable: {', '.join(sorted(EXTENSIONS))}")
        paths += found
        labels += [label] * len(found)
    return FileImages(folder, paths, labels), tuple(classes)


def _files(folder: Path, name: str) -> list[str]:
    """Image files below folder/name, relative to `folder`."""
    found: list[str] = []
    pending = [name]
    while pending:
        below = pending.pop()
        with os.scandir(folder / below) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    pending.append(f"{below}/{entry.name}")
                elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
                    found.append(f"{below}/{entry.name}")
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
