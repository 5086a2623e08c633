"""Where images come from and how they split; what a user reads where they don't."""

from __future__ import annotations

import gzip
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_folders import PLAIN, make_folder
from PIL import Image

from ladder.data import Data, open_data, sources
from ladder.data.sources import Source, open_source
from ladder.errors import UserError
from ladder.runs.config import DataConfig
from ladder.training.recipe import Recipe

CPU = torch.device("cpu")


def folder_config(root: Path | None, **changes: Any) -> DataConfig:
    settings: dict[str, Any] = {
        "name": "pets",
        "source": "imagefolder",
        "image_size": 8,
        "loader": "memory",
        "workers": 0,
    }
    return DataConfig(**settings | {"root": str(root) if root else None} | changes)


def opened(config: DataConfig, recipe: Recipe = PLAIN, micro_batch: int = 4, **more: Any) -> Data:
    return open_data(config, recipe, seed=0, micro_batch=micro_batch, device=CPU, **more)


def error(config: DataConfig, recipe: Recipe = PLAIN, **more: Any) -> str:
    """The one line that opening ends in."""
    with pytest.raises(UserError) as caught:
        list(opened(config, recipe, **more).train_batches(0))
    text = str(caught.value)
    assert "\n" not in text
    assert "Traceback" not in text
    return text


# --- digits -----------------------------------------------------------------------------------------------------------


def digits(**changes: Any) -> DataConfig:
    return DataConfig(
        **{"name": "digits", "source": "digits", "image_size": 8, "in_chans": 1, "loader": "memory"} | changes
    )


def test_digits_split_once_for_all_and_by_class() -> None:
    np.random.seed(1)
    source = open_source(digits())
    np.random.seed(2)
    again = open_source(digits())
    assert len(source.train.labels) + len(source.evaluation.labels) == 1797
    assert source.eval_split == "test"
    assert source.class_names == tuple("0123456789")
    assert np.array_equal(source.evaluation.labels, again.evaluation.labels)
    assert np.array_equal(np.array(source.train.open(5)), np.array(again.train.open(5)))
    shares = [Counter(part.labels.tolist()) for part in (source.train, source.evaluation)]
    for label in range(10):
        assert shares[1][label] / (shares[0][label] + shares[1][label]) == pytest.approx(0.2, abs=0.005)
    held = {np.array(source.evaluation.open(i)).tobytes() for i in range(len(source.evaluation.labels))}
    seen = {np.array(source.train.open(i)).tobytes() for i in range(len(source.train.labels))}
    assert not held & seen


def test_digits_are_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read from its file, and through its function where the file isn't there."""
    from sklearn.datasets import load_digits

    ours = sources._digits_table()
    bunch = load_digits()
    assert np.array_equal(ours[:, :64], bunch.data)
    assert np.array_equal(ours[:, 64], bunch.target)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_file", lambda self: False)
        assert np.array_equal(sources._digits_table(), ours)
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    assert "pip install scikit-learn" in error(digits())


def test_digits_in_colour_and_larger() -> None:
    data = opened(digits(image_size=20, in_chans=3, mean=[0.0], std=[1.0]))
    images, _ = next(data.train_batches(0))
    assert images.shape == (4, 3, 20, 20)
    assert torch.equal(images[:, 0], images[:, 2])
    assert images.min() == 0
    assert images.max() == 1


def test_a_hold_out_leaves_the_test_set_alone() -> None:
    whole, part = open_source(digits()), open_source(digits(holdout=0.1))
    assert part.eval_split == "holdout"
    assert len(part.train.labels) + len(part.evaluation.labels) == len(whole.train.labels)
    assert len(part.evaluation.labels) == pytest.approx(0.1 * len(whole.train.labels), abs=6)


def test_a_fraction_trains_on_some_images_of_every_class_and_evaluates_on_the_same() -> None:
    whole, half, third = (open_source(digits(fraction=part)) for part in (1.0, 0.5, 0.3))
    counts = np.bincount(whole.train.labels)
    assert np.bincount(half.train.labels) == pytest.approx(counts / 2, abs=0.51)
    assert np.bincount(third.train.labels) == pytest.approx(counts * 0.3, abs=0.51)
    assert half.evaluation.labels.tolist() == whole.evaluation.labels.tolist()

    def pixels(source: Source) -> set[bytes]:
        return {source.train.open(i).tobytes() for i in range(len(source.train.labels))}

    assert pixels(third) < pixels(half) < pixels(whole)
    both = open_source(digits(fraction=0.5, holdout=0.2))
    assert len(both.train.labels) == pytest.approx(0.4 * len(whole.train.labels), abs=6)
    assert both.eval_split == "holdout"


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder(tmp_path: Path) -> None:
    root = make_folder(tmp_path, train=5, test=2, classes=("dog", "cat"))
    (root / "train" / "cat" / "deep").mkdir()
    shutil.copy(root / "train" / "cat" / "000.png", root / "train" / "cat" / "deep" / "upper.PNG")
    (root / "train" / "cat" / "notes.txt").write_text("no image")
    (root / "train" / ".hidden").mkdir()
    info = opened(folder_config(root)).info
    assert info.class_names == ("cat", "dog")
    assert (info.num_classes, info.train_size, info.eval_size, info.eval_split) == (2, 11, 4, "test")
    source = open_source(folder_config(root))
    assert source.train.labels.tolist() == [0] * 6 + [1] * 5


@pytest.mark.parametrize(("there", "split"), [("test", "test"), ("val", "val"), ("validation", "val")])
def test_auto_finds_the_folder_to_evaluate_on(tmp_path: Path, there: str, split: str) -> None:
    root = make_folder(tmp_path, eval_name=there)
    assert opened(folder_config(root, eval_split="auto")).info.eval_split == split


def test_a_hold_out_needs_no_other_folder(tmp_path: Path) -> None:
    root = make_folder(tmp_path, train=10)
    shutil.rmtree(root / "test")
    info = opened(folder_config(root, holdout=0.2)).info
    assert (info.train_size, info.eval_size, info.eval_split) == (16, 4, "holdout")


def test_more_classes_than_found_are_allowed(tmp_path: Path) -> None:
    assert opened(folder_config(make_folder(tmp_path), num_classes=7)).info.num_classes == 7


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("in_chans", [1, 3])
@pytest.mark.parametrize("loader", ["memory", "timm"])
def test_modes_and_sizes_are_converted(tmp_path: Path, mode: str, in_chans: int, loader: str) -> None:
    root = make_folder(tmp_path, mode=mode, size=(30, 20), ending="jpg")
    data = opened(folder_config(root, in_chans=in_chans, image_size=12, loader=loader), Recipe())
    for batches in (data.train_batches(0), data.eval_batches()):
        for images, _ in batches:
            assert images.shape[1:] == (in_chans, 12, 12)


def test_the_shorter_side_is_resized_and_the_centre_taken(tmp_path: Path) -> None:
    root = make_folder(tmp_path, size=(40, 20))
    source = open_source(folder_config(root))
    image = source.evaluation.open(0).resize((20, 10), Image.Resampling.BICUBIC).crop((5, 0, 15, 10))
    data = opened(folder_config(root, image_size=10, mean=[0.0], std=[1.0]))
    images, _ = next(data.eval_batches())
    assert np.array_equal((images[0] * 255).round().permute(1, 2, 0).numpy(), np.array(image))


def test_a_missing_root(tmp_path: Path) -> None:
    assert "data.root is not set" in error(folder_config(None))
    text = error(folder_config(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in text
    assert "train/CLASS" in text


def test_a_missing_split(tmp_path: Path) -> None:
    root = make_folder(tmp_path)
    shutil.move(root / "train", root / "training")
    text = error(folder_config(root))
    assert "no folder train/" in text
    assert str(root) in text
    assert "training" in text
    shutil.move(root / "training", root / "train")
    assert "no folder val/" in error(folder_config(root, eval_split="val"))
    shutil.rmtree(root / "test")
    assert "test/, val/, validation/" in error(folder_config(root, eval_split="auto"))


def test_no_classes_and_an_empty_class(tmp_path: Path) -> None:
    root = make_folder(tmp_path)
    (root / "train" / "cow").mkdir()
    text = error(folder_config(root))
    assert str(root / "train" / "cow") in text
    assert "has no image" in text
    shutil.rmtree(root / "train")
    (root / "train").mkdir()
    assert "no class folders" in error(folder_config(root))


def test_other_classes_in_the_test_set(tmp_path: Path) -> None:
    root = make_folder(tmp_path)
    shutil.move(root / "test" / "bee", root / "test" / "wasp")
    text = error(folder_config(root))
    assert "lacks bee" in text
    assert "wasp" in text
    assert str(root / "test") in text


@pytest.mark.parametrize("loader", ["memory", "timm"])
@pytest.mark.parametrize("damage", ["garbage", "cut", "empty"])
def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path, loader: str, damage: str) -> None:
    root = make_folder(tmp_path, ending="jpg", size=(64, 64))
    bad = root / "train" / "bee" / "002.jpg"
    content = bad.read_bytes()
    bad.write_bytes({"garbage": b"not an image", "cut": content[: len(content) // 2], "empty": b""}[damage])
    text = error(folder_config(root, loader=loader), micro_batch=12)
    assert str(bad) in text
    assert "can't decode" in text


def test_an_undecodable_image_in_a_worker_process(tmp_path: Path) -> None:
    root = make_folder(tmp_path)
    bad = root / "train" / "bee" / "002.png"
    bad.write_bytes(b"not an image")
    assert str(bad) in error(folder_config(root, loader="timm", workers=1), micro_batch=12)


# --- values that can't be ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"source": "imagefodler"}, "did you mean imagefolder?"),
        ({"loader": "ram"}, "unknown data.loader 'ram'"),
        ({"in_chans": 2}, "allowed: 1 (grayscale), 3 (colour)"),
        ({"image_size": 0}, "data.image_size=0"),
        ({"holdout": 0.95}, "data.holdout=0.95"),
        ({"holdout": -0.1}, "data.holdout=-0.1"),
        ({"fraction": 0.0}, "data.fraction=0.0"),
        ({"fraction": 1.5}, "data.fraction=1.5"),
        ({"num_classes": 1}, "data.num_classes=1 but pets has 2 classes"),
        ({"num_classes": 0}, "data.num_classes=0"),
        ({"workers": -1}, "data.workers=-1"),
        ({"mean": [0.1, 0.2]}, "data.mean=[0.1, 0.2]"),
        ({"std": [0.0]}, "data.std=[0.0]"),
    ],
)
def test_values_that_cannot_be(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    assert says in error(folder_config(make_folder(tmp_path), **changes))


def test_a_global_batch_larger_than_the_set(tmp_path: Path) -> None:
    root = make_folder(tmp_path, train=6)
    assert opened(folder_config(root), micro_batch=3, accumulate=2, world=2).steps_per_epoch == 1
    text = error(folder_config(root), micro_batch=4, accumulate=2, world=2)
    assert "16 images" in text
    assert "12 training images" in text


def test_a_hold_out_of_single_images(tmp_path: Path) -> None:
    assert "no class of pets has two images" in error(folder_config(make_folder(tmp_path, train=1), holdout=0.5))


# --- torchvision ------------------------------------------------------------------------------------------------------


def torchvision_config(name: str, root: Path, **changes: Any) -> DataConfig:
    settings: dict[str, Any] = {"source": "torchvision", "image_size": 28, "loader": "memory"}
    return DataConfig(name=name, root=str(root), **settings | changes)


def write_idx(folder: Path, split: str, count: int, compress: bool) -> np.ndarray[Any, Any]:
    images = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)
    for what, array, kind in (("images", images, 3), ("labels", labels, 1)):
        raw = bytes([0, 0, 8, kind]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()
        path = folder / f"{split}-{what}-idx{kind}-ubyte{'.gz' if compress else ''}"
        path.write_bytes(gzip.compress(raw) if compress else raw)
    return images


@pytest.mark.parametrize(("compress", "below"), [(True, ""), (False, ""), (False, "FashionMNIST/raw")])
def test_fashion_mnist_from_idx_files(tmp_path: Path, compress: bool, below: str) -> None:
    folder = tmp_path / below
    folder.mkdir(parents=True, exist_ok=True)
    train, test = write_idx(folder, "train", 30, compress), write_idx(folder, "t10k", 20, compress)
    source = open_source(torchvision_config("fashion_mnist", tmp_path, in_chans=1))
    assert source.class_names[:2] == ("T-shirt/top", "Trouser")
    assert np.array_equal(np.array(source.train.open(7)), train[7])
    assert np.array_equal(np.array(source.evaluation.open(19)), test[19])
    assert source.train.labels.tolist() == [i % 10 for i in range(30)]


def test_damaged_idx_files(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", 30, True)
    write_idx(tmp_path, "t10k", 20, True)
    config = torchvision_config("fashion_mnist", tmp_path, in_chans=1)
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    good = labels.read_bytes()
    for bad in (good[:-9], b"text", gzip.compress(b"text")):
        labels.write_bytes(bad)
        assert str(labels) in error(config)
    labels.unlink()
    assert "no t10k-labels" in error(config)
    write_idx(tmp_path, "t10k", 10, True)
    shutil.copy(tmp_path / "train-images-idx3-ubyte.gz", tmp_path / "t10k-images-idx3-ubyte.gz")
    assert "30 t10k images but 10 labels" in error(config)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion_mnist"])
def test_absent_torchvision_sets_say_where_to_put_the_files(tmp_path: Path, name: str) -> None:
    text = error(torchvision_config(name, tmp_path))
    assert str(tmp_path) in text
    assert "data.download=true" in text
    assert {"cifar10": "cifar-10-batches-py/", "cifar100": "cifar-100-python/", "fashion_mnist": "idx3"}[name] in text


def test_a_download_without_a_network_says_where_to_put_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from urllib.error import URLError

    from torchvision.datasets import cifar

    def no_network(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(cifar, "download_and_extract_archive", no_network)
    text = error(torchvision_config("cifar10", tmp_path, download=True))
    assert "download of cifar10 failed" in text
    assert "Name or service not known" in text
    assert str(tmp_path) in text


def test_a_torchvision_set_from_class_folders(tmp_path: Path) -> None:
    root = make_folder(tmp_path)
    assert opened(torchvision_config("cifar10", root)).info.train_size == 12


def test_an_unknown_torchvision_set(tmp_path: Path) -> None:
    assert "did you mean cifar10 or cifar100?" in error(torchvision_config("cifar1", tmp_path))


# --- timm -------------------------------------------------------------------------------------------------------------


def test_timm_sets_need_their_name_and_their_package() -> None:
    config = DataConfig(name="timm", source="timm", image_size=8, loader="memory")
    assert "data.timm_name is not set" in error(config)
    config.timm_name = "hfsd/some/set"
    assert "allowed: hfds, hfids, tfds, wds" in error(config)


def test_opening_leaves_the_global_random_state(tmp_path: Path) -> None:
    root = make_folder(tmp_path)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    opened(folder_config(root, holdout=0.3))
    opened(digits())
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_links_in_an_image_folder(tmp_path: Path) -> None:
    """One to elsewhere is followed; one back to where it lies, or round in a ring, has no end."""
    root = make_folder(tmp_path / "set", train=4, classes=("ant", "bee"))
    ant = root / "train" / "ant"
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "9.png").write_bytes(next(ant.glob("*")).read_bytes())
    (ant / "more").symlink_to(tmp_path / "more")
    data = DataConfig(name="own", source="imagefolder", root=str(root))
    before = len(open_source(data).train.labels)
    for link, target in ((ant / "loop", ".."), (ant / "self", "."), (tmp_path / "more" / "back", ant)):
        link.symlink_to(target)
        with pytest.raises(UserError, match="is a link to a folder that holds it"):
            open_source(data)
        link.unlink()
    assert len(open_source(data).train.labels) == before
