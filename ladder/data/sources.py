"""Owns what each `data.source` is: where its images come from, how they split, what the classes are called."""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ladder.data.content import TORCHVISION_ROOT, check_splits, idx_file
from ladder.data.folders import content_digest, list_images, same_classes, scan, split_folder
from ladder.data.images import ArrayImages, HeldImages, Images, ReaderImages, Subset
from ladder.data.order import hold_out
from ladder.errors import UserError, one_line, unknown
from ladder.runs.config import DataConfig


@dataclass(frozen=True)
class Source:
    """A data set, opened: what trains, what evaluates, and which split the latter is (test, val, holdout)."""

    train: Images
    evaluation: Images
    class_names: tuple[str, ...]
    eval_split: str
    content: str | None = None  # of an image folder: a digest of its files; see `ladder.data.content`


def open_source(data: DataConfig) -> Source:
    """Open the data set that `data` names. Raises UserError where it isn't there or isn't as it must be."""
    try:
        opener = _SOURCES[data.source]
    except KeyError:
        raise unknown("data.source", data.source, _SOURCES) from None
    return opener(data)


def _split(data: DataConfig, train: Images, classes: tuple[str, ...], test: Callable[[], tuple[Images, str]]) -> Source:
    """Evaluate on a held-out part of `train` where one is asked for, else on `test()`, which isn't opened otherwise.

    Of what remains `data.fraction` trains; a smaller fraction is part of a larger one.
    """
    if data.holdout:
        kept, held = hold_out(train.labels, data.holdout)
        if not len(held):
            raise UserError(f"data.holdout={data.holdout}: no class of {data.name} has two images to divide")
        evaluation: Images = Subset(train, held)
        train, split = Subset(train, kept), "holdout"
    else:
        evaluation, split = test()
    if data.fraction < 1:
        train = Subset(train, hold_out(train.labels, 1 - data.fraction)[0])
    return Source(train, evaluation, classes, "val" if split == "validation" else split)


# --- digits ---------------------------------------------------------------------------------------------------------


def _digits(data: DataConfig) -> Source:
    """scikit-learn's 1,797 digits of 8x8 pixels, unsplit: a fifth of each class is the test set."""
    check_splits(data)
    table = _digits_table()  # a row: 64 pixels of 0 to 16, label
    pixels = (table[:, :64].reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)
    images = ArrayImages(pixels, table[:, 64].astype(np.int64))
    train, test = hold_out(images.labels, 0.2)
    return _split(data, Subset(images, train), tuple("0123456789"), lambda: (Subset(images, test), "test"))


def _digits_table() -> NDArray[np.uint8]:
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise UserError("data=digits needs scikit-learn, which holds the images: pip install scikit-learn")
    path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if path.is_file():  # importing scikit-learn takes two seconds, reading this 10 ms
        return np.loadtxt(path, dtype=np.uint8, delimiter=",")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target]).astype(np.uint8)


# --- folders --------------------------------------------------------------------------------------------------------


def _imagefolder(data: DataConfig) -> Source:
    if data.root is None:
        raise UserError(f"data.root is not set; data={data.name} needs the folder that holds train/ and test/ or val/")
    return _image_folders(data, Path(data.root).expanduser())


def _image_folders(data: DataConfig, root: Path) -> Source:
    train = list_images(split_folder(root, data.train_split, "train_split"))
    other = None if data.holdout else list_images(split_folder(root, data.eval_split, "eval_split"))

    def test() -> tuple[Images, str]:
        assert other is not None
        same_classes(train.classes, other.classes, other.folder)
        return scan(other), other.folder.name

    return replace(_split(data, scan(train), train.classes, test), content=content_digest(train, other))


# --- torchvision ----------------------------------------------------------------------------------------------------

# name: class in torchvision.datasets, what its folder must hold
_TORCHVISION = {
    "cifar10": ("CIFAR10", "cifar-10-batches-py/ (unpacked cifar-10-python.tar.gz)"),
    "cifar100": ("CIFAR100", "cifar-100-python/ (unpacked cifar-100-python.tar.gz)"),
    "fashion_mnist": ("FashionMNIST", "FashionMNIST/raw/ or the files train-images-idx3-ubyte.gz, ... themselves"),
    "kmnist": ("KMNIST", "KMNIST/raw/ or the files train-images-idx3-ubyte.gz, ... themselves"),
    "mnist": ("MNIST", "MNIST/raw/ or the files train-images-idx3-ubyte.gz, ... themselves"),
}


def _torchvision(data: DataConfig) -> Source:
    """A torchvision set from its own layout, from idx files lying in `root`, or from class folders below root/train."""
    if data.name not in _TORCHVISION:
        raise unknown("torchvision data set (data.name)", data.name, _TORCHVISION)
    root = Path(data.root or TORCHVISION_ROOT).expanduser()
    if (root / data.train_split).is_dir():
        return _image_folders(data, root)
    check_splits(data)
    idx = idx_file(root, "train", "images")
    if idx is not None and data.name not in ("cifar10", "cifar100"):
        names = _class_names(data.name)
        return _split(data, _idx_images(root, "train"), names, lambda: (_idx_images(root, "t10k"), "test"))
    train, classes = _torchvision_split(data, root, train=True)
    return _split(data, train, classes, lambda: (_torchvision_split(data, root, train=False)[0], "test"))


def _class_names(name: str) -> tuple[str, ...]:
    from torchvision import datasets

    return tuple(getattr(datasets, _TORCHVISION[name][0]).classes)


def _torchvision_split(data: DataConfig, root: Path, train: bool) -> tuple[ArrayImages, tuple[str, ...]]:
    from torchvision import datasets

    kind, holds = _TORCHVISION[data.name]
    where = f"put {holds} into {root.absolute()} or name its folder as data.root"
    try:
        found = getattr(datasets, kind)(str(root), train=train, download=data.download)
    except RuntimeError as error:  # torchvision on absent files, or a download that failed
        if data.download:
            raise UserError(f"download of {data.name} failed ({one_line(error)}); {where}") from error
        raise UserError(f"no {data.name} in {root}; {where}, or set data.download=true") from error
    except (OSError, EOFError) as error:
        verb = "download" if data.download else "reading"
        raise UserError(f"{verb} of {data.name} failed ({one_line(error)}); {where}") from error
    return ArrayImages(np.asarray(found.data), np.asarray(found.targets)), tuple(found.classes)


def _idx_images(root: Path, split: str) -> ArrayImages:
    """One split of an MNIST-like set from its two idx files, compressed or not."""
    arrays = []
    for what in ("images", "labels"):
        path = idx_file(root, split, what)
        if path is None:
            raise UserError(f"no {split}-{what} idx file in {root}, beside the others of the set")
        try:
            raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            arrays.append(_idx_array(raw))
        except (OSError, EOFError, ValueError) as error:
            raise UserError(f"{path} is not a readable idx file ({one_line(error)}); fetch it again") from error
    if len(arrays[0]) != len(arrays[1]):
        raise UserError(f"{root}: {len(arrays[0])} {split} images but {len(arrays[1])} labels; fetch the files again")
    return ArrayImages(arrays[0], arrays[1].astype(np.int64))


def _idx_array(raw: bytes) -> NDArray[np.uint8]:
    """The array of an idx file of unsigned bytes: magic 0 0 8 DIMS, big-endian sizes, values."""
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise ValueError("wrong magic number")
    header = 4 + 4 * raw[3]
    shape = tuple(np.frombuffer(raw, ">i4", raw[3], offset=4).tolist())
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


# --- timm -----------------------------------------------------------------------------------------------------------

AS_STORED = ("hfids/", "wds/")  # streams that can be had without timm's conversion; TensorFlow scales by itself
RANDOM_ACCESS, STREAMS = ("hfds",), ("hfids", "tfds", "wds")  # prefixes of timm's create_dataset


def is_stream(data: DataConfig) -> bool:
    """Whether the data set can be read only from end to end. UserError where it has no name that timm knows."""
    if data.source != "timm":
        return False
    if not data.timm_name:
        raise UserError("data.timm_name is not set; it must be a timm data set such as hfds/uoft-cs/cifar10")
    prefix = data.timm_name.partition("/")[0].lower()
    if prefix not in RANDOM_ACCESS + STREAMS:
        raise unknown("prefix of data.timm_name", prefix, sorted(RANDOM_ACCESS + STREAMS))
    return prefix in STREAMS


def timm_dataset(data: DataConfig, split: str, **more: Any) -> Any:
    """What timm's create_dataset makes of one split; UserError where it can't."""
    from timm.data import create_dataset

    mode = "L" if data.in_chans == 1 else "RGB"
    if str(data.timm_name).lower().startswith(AS_STORED):
        mode = ""  # timm would clip 16 bits to white
    settings = {"root": data.root, "split": split, "download": data.download, "input_img_mode": mode} | more
    try:
        return create_dataset(str(data.timm_name), **settings)
    except ImportError as error:
        raise UserError(f"data.timm_name={data.timm_name} needs a package: {one_line(error)}") from error
    except Exception as error:  # of many libraries, each with errors of its own
        raise UserError(f"can't open split {split} of data.timm_name={data.timm_name}: {one_line(error)}") from error


def reader_classes(reader: Any) -> tuple[str, ...]:
    """The names of a timm reader's classes in order; none where it doesn't know them."""
    index = getattr(reader, "class_to_idx", None) or {}
    return tuple(map(str, sorted(index, key=lambda key: int(index[key]))))


def _timm(data: DataConfig) -> Source:
    """A set that timm's create_dataset knows: with random access, or else a stream held in memory."""
    stream = is_stream(data)

    def split(which: str) -> tuple[Images, tuple[str, ...]]:
        dataset = timm_dataset(data, which)
        if stream:
            return HeldImages(undivided(dataset), f"{data.timm_name} {which}"), reader_classes(dataset.reader)
        return ReaderImages(dataset.reader, f"{data.timm_name} {which}"), reader_classes(dataset.reader)

    train, classes = split(data.train_split)
    names = classes or tuple(map(str, range(data.num_classes or int(train.labels.max()) + 1)))
    return _split(data, train, names, lambda: (split(data.eval_split)[0], data.eval_split))


def undivided(dataset: Any) -> Any:
    """A stream that each process reads whole. timm's divide evaluation among ranks with repeats or gaps."""
    dataset.reader.dist_rank, dataset.reader.dist_num_replicas = 0, 1
    return dataset


_SOURCES: dict[str, Callable[[DataConfig], Source]] = {
    "digits": _digits,
    "imagefolder": _imagefolder,
    "torchvision": _torchvision,
    "timm": _timm,
}
