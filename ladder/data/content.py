"""Owns what a run's name says of its images beside the data set's name: a digest of what lies in the folder.

Digits, and the sets that torchvision and Hugging Face know, are what their names say. What an image folder holds only
the folder says. Two runs on different images are two runs, wherever these lie; on the same images they are one.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from ladder.data.folders import content_digest, list_images, split_folder
from ladder.errors import UserError
from ladder.runs.config import DataConfig

# Images to train and to evaluate on, and classes, of the sets that are known by name.
SIZES = {
    "imagenet": (1_281_167, 50_000, 1000),
    "cifar10": (50_000, 10_000, 10),
    "cifar100": (50_000, 10_000, 100),
    "fashion_mnist": (60_000, 10_000, 10),
    "kmnist": (60_000, 10_000, 10),
    "mnist": (60_000, 10_000, 10),
}
TORCHVISION_ROOT = "data"  # where torchvision's sets lie unless data.root says otherwise, below the working directory


@dataclass(frozen=True)
class Content:
    """What a set of images is, as far as its folder tells it."""

    digest: str | None  # None: not seen from this machine
    root: str  # where it lies
    classes: int = 0
    train: int = 0  # images
    evaluation: int | None = None  # images; None: a part of those that train is held out

    @property
    def key(self) -> str:
        """What stands for the images in a run's hash: their digest, or where this machine can't see them their path."""
        return self.digest or f"at {self.root}"


def content_of(data: DataConfig) -> Content | None:
    """The content of the data set that `data` names; None where its name says it all, or no folder is given.

    Lists the folder and asks for some 65,000 sizes a split at most, which a network disk answers one by one.

    Raises UserError for a folder that is there but can't be read, or holds no images, and for a split that isn't.
    """
    root = Path(data.root).expanduser() if data.root else None
    if data.source == "digits":
        check_splits(data)
    if data.source == "imagefolder" and root is not None:
        return folder_content(data, root)
    if data.source == "torchvision":
        return _torchvision_content(data, root or Path(TORCHVISION_ROOT))
    if data.source == "timm" and root is not None and str(data.timm_name).lower().startswith("wds/"):
        return _shards_content(root)
    return None


def folder_content(data: DataConfig, root: Path) -> Content:
    """That of root/TRAIN/CLASS/... and of the split to evaluate on, if that is another one."""
    if not root.is_dir():
        return Content(None, os.path.abspath(root))
    train = list_images(split_folder(root, data.train_split, "train_split"))
    other = None if data.holdout else list_images(split_folder(root, data.eval_split, "eval_split"))
    counts = len(train.classes), len(train), None if other is None else len(other)
    return Content(content_digest(train, other), str(root), *counts)


def check_splits(data: DataConfig) -> None:
    """Refuse the names of other splits for a set that has train and test, whatever the config calls them."""
    for key, given, own in (("train_split", data.train_split, "train"), ("eval_split", data.eval_split, "test")):
        if given not in (own, "auto"):
            raise UserError(
                f"data.{key}={given}: {data.name} has train and test only; allowed: {own}"
                " (data.holdout=0.1 evaluates on a tenth of train)"
            )


def _torchvision_content(data: DataConfig, root: Path) -> Content | None:
    """None for the set itself in torchvision's own layout, or as a folder of as many images and classes as it has."""
    train, evaluation, classes = SIZES.get(data.name, (0, 0, 0))
    if (root / data.train_split).is_dir():
        found = folder_content(data, root)
        whole = (found.classes, found.train, found.evaluation) == (classes, train, None if data.holdout else evaluation)
        return None if whole else found
    check_splits(data)
    if "cifar" not in data.name and idx_file(root, "train", "images") is not None:
        return _idx_content(root, (train, evaluation))
    return None


def idx_file(root: Path, split: str, what: str) -> Path | None:
    """The idx file of MNIST's kind that holds the images or the labels of a split, compressed or not."""
    kind = {"images": "idx3", "labels": "idx1"}[what]
    paths = (root / f"{split}-{what}-{kind}-ubyte{ending}" for ending in ("", ".gz"))
    return next((path for path in paths if path.is_file()), None)


def _idx_content(root: Path, usual: tuple[int, int]) -> Content | None:
    """None for as many images as the set has; else a digest of sizes and labels. What can't be read is told later."""
    counts: list[int] = []
    out = hashlib.sha256()
    for split in ("train", "t10k"):
        for what in ("images", "labels"):
            path = idx_file(root, split, what)
            if path is None:
                return None
            try:
                with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
                    head = file.read(16)
                    out.update(head + (file.read() if what == "labels" else b""))
            except (OSError, EOFError):
                return None
            counts.append(int.from_bytes(head[4:8], "big"))
    if (counts[0], counts[2]) == usual:
        return None
    return Content(out.hexdigest()[:16], str(root), 0, counts[0], counts[2])


def _shards_content(root: Path) -> Content:
    """That of the files that lie in a folder of shards, by name and size; an address of another host stands for it."""
    if not root.is_dir():
        return Content(None, str(root))
    try:
        with os.scandir(root) as entries:
            files = sorted((e.name, e.stat().st_size) for e in entries if e.is_file() and not e.name.startswith("."))
    except OSError as error:
        raise UserError(f"can't list data.root={root}: {error.strerror}") from None
    return Content(hashlib.sha256(repr(files).encode()).hexdigest()[:16], str(root))
