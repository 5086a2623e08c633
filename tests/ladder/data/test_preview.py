"""The picture of a training batch, and the files of conf/data/ that it and every run start from."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from image_folders import make_folder
from PIL import Image

from ladder.data import open_data, preview
from ladder.errors import UserError
from ladder.paths import conf_dir
from ladder.runs.config import DataConfig
from ladder.training.recipe import Recipe

CPU = torch.device("cpu")
NAMES = sorted(path.stem for path in (conf_dir() / "data").glob("*.yaml"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("images"), train=8, size=(24, 16), classes=("ant", "bee", "cow"))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["preview", *arguments])
    return preview.main(arguments)


def test_a_picture(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "batch.png"
    arguments = ("data=imagefolder", f"data.root={root}", "data.image_size=16", "--images", "4", "--out", str(out))
    assert run(monkeypatch, *arguments, "recipe=convnext_300ep") == 0
    assert capsys.readouterr().out.strip() == str(out)
    image = Image.open(out)
    assert min(image.size) > 200
    assert len(np.unique(np.asarray(image.convert("L")))) > 50


@pytest.mark.parametrize("loader", ["memory", "timm"])
def test_it_shows_what_training_sees_first(root: Path, loader: str) -> None:
    data = DataConfig(name="pets", source="imagefolder", root=str(root), image_size=16, loader=loader, workers=0)
    recipe = Recipe(reprob=0.5, randaugment="rand-m9-mstd0.5-inc1")
    originals, (images, labels), names = preview.first_batch(data, recipe, 3, 6)
    opened = open_data(data, recipe, seed=3, micro_batch=6, device=CPU)
    expected, expected_labels = next(opened.train_batches(0))
    assert torch.equal(images, expected)
    assert torch.equal(labels, expected_labels)
    assert names == ("ant", "bee", "cow")
    plain = Recipe(crop="none", hflip=0.0)
    bare, _ = next(open_data(data, plain, seed=3, micro_batch=6, device=CPU).train_batches(0))
    mean, std = torch.tensor(data.mean).view(-1, 1, 1), torch.tensor(data.std).view(-1, 1, 1)
    assert originals is not None
    assert torch.equal(((bare * std + mean) * 255).round().to(torch.uint8), originals)


def test_captions_are_shares_without_smoothing() -> None:
    names = ("ant", "bee", "cow")
    assert preview._shares(torch.tensor([0.7 * 0.9, 0.3 * 0.9, 0.0]) + 0.1 / 3, names, 0.1) == "0.70 ant + 0.30 bee"
    assert preview._shares(torch.tensor([0.0, 0.9, 0.0]) + 0.1 / 3, names, 0.1) == "bee"


def test_captions_of_two_classes_and_of_one() -> None:
    assert preview._shares(torch.tensor([0.7 * 0.9, 0.3 * 0.9]) + 0.1 / 2, ("ant", "bee"), 0.1) == "0.70 ant + 0.30 bee"
    assert preview._shares(torch.tensor([0.2, 0.8]), ("ant", "bee"), 0.0) == "0.80 bee + 0.20 ant"
    assert preview._shares(torch.tensor([1.0]), ("ant",), 0.0) == "ant"


@pytest.mark.filterwarnings("ignore:Glyph")
def test_class_names_that_matplotlib_would_take_for_formulas(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("$x_{$", "日本\n"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / split / name / "0.png")
    data = DataConfig(name="own", source="imagefolder", root=str(tmp_path), image_size=8, loader="memory")
    figure = preview.draw(data, Recipe(crop="none", mixup=0.8), seed=0, count=2)
    figure.savefig(BytesIO(), format="png")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["data=digitz"], "did you mean digits?"),
        (["data=digits", "data.mean=[]"], "data.mean=[]; allowed: one number"),
        (["data=digits", "data.mean=[{a: 1}]"], "data.mean=[{'a': 1}]; allowed: one number"),
        (["data=digits", "data.std=[[1]]"], "data.std=[[1]]; allowed: one number"),
        (["data=digits", "data.image_size=0"], "data.image_size=0; allowed: 1 to 4096"),
        (["data=digits", "data.loader=x"], "unknown data.loader 'x'; allowed: memory, timm"),
        (["data=digits", "--out", "x.pdf"], "a name that ends in .png"),
        (["data.rot=x"], "did you mean root?"),
        (["recipe.hflip=2"], "recipe.hflip=2"),
        (["~seed"], "seed is not set: give seed=..."),
        (["seed=-1"], "seed=-1"),
        (["--images", "3"], "--images 3; allowed: even numbers"),
        (["--out", "/nowhere/at/all.png"], "no folder /nowhere/at"),
        (["data=cifar10", "data.root=/nowhere"], "/nowhere"),
        (["data=digits", "--images", "2000"], "1438 training images"),
    ],
)
def test_mistakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], says: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        run(monkeypatch, *arguments)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


# --- conf/data/ ----------------------------------------------------------------------------------------------------


def test_the_data_sets_of_the_readme_are_there() -> None:
    assert {"digits", "fashion_mnist", "cifar10", "cifar100", "imagefolder", "imagenet", "timm"} <= set(NAMES)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"digits"}))
def test_each_says_what_it_needs(name: str, tmp_path: Path) -> None:
    """Composed with its defaults and nothing there: one line that names the key or the folder."""
    data, recipe, _ = preview.compose([f"data={name}"])
    assert data.name == name
    assert len(data.mean) == len(data.std)
    assert len(data.mean) == data.in_chans
    if name in ("cifar10", "cifar100", "fashion_mnist"):
        data.root = str(tmp_path)
    with pytest.raises(UserError, match=rf"data\.root is not set|data\.timm_name is not set|{tmp_path}"):
        open_data(data, recipe, seed=0, micro_batch=2, device=CPU)


def test_digits_are_there_and_normalised() -> None:
    data, _, seed = preview.compose(["data=digits", "seed=4"])
    assert seed == 4
    opened = open_data(data, Recipe(crop="none", hflip=0), seed=0, micro_batch=1438, device=CPU)
    images, _ = next(opened.train_batches(0))
    assert images.mean() == pytest.approx(0, abs=0.02)
    assert images.std() == pytest.approx(1, abs=0.02)
