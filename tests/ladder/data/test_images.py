"""How stored pixels become what a network sees: modes of more than 8 bits, EXIF, transparency."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_folders import PLAIN
from PIL import Image
from torchvision.datasets.folder import default_loader

from ladder.data import open_data
from ladder.data.images import FileImages, HeldImages, ReaderImages, decoded, eight_bit
from ladder.errors import UserError
from ladder.runs.config import DataConfig

GREYS = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)


def stored(path: Path, image: Image.Image | bytes, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(image, bytes):
        path.write_bytes(image)
    else:
        image.save(path, **more)
    return path


def opened(path: Path) -> Image.Image:
    return FileImages(path.parent, [path.name], [0]).open(0)


def big_endian() -> Image.Image:
    return Image.frombytes("I;16B", (8, 8), GREYS.astype(">u2").tobytes())


@pytest.mark.parametrize("in_chans", [1, 3])
@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("16.png", Image.fromarray(GREYS)),
        ("16.tif", Image.fromarray(GREYS)),
        ("16b.tif", big_endian()),
        ("16.pgm", b"P5 8 8 65535\n" + GREYS.astype(">u2").tobytes()),
    ],
)
def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, name: str, image: Any, in_chans: int) -> None:
    seen = np.asarray(decoded(opened(stored(tmp_path / name, image)), in_chans))
    expected = (GREYS / 257).round().astype(np.uint8)
    assert seen.min() == 0 and seen.max() == 255 and len(np.unique(seen)) == 64
    assert np.array_equal(seen if in_chans == 1 else seen[..., 1], expected)


def test_a_pgm_of_ten_bits_has_its_own_range(tmp_path: Path) -> None:
    pixels = np.array([[0, 341], [682, 1023]])
    path = stored(tmp_path / "10.pgm", b"P5 2 2 1023\n" + pixels.astype(">u2").tobytes())
    assert np.asarray(opened(path)).tolist() == [[0, 85], [170, 255]]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (Image.fromarray(GREYS.astype(np.int32)), "32-bit integers, whose range nothing says"),
        (Image.fromarray((GREYS / 65535).astype(np.float32)), "floats, whose range nothing says"),
        (Image.new("LAB", (8, 8)), "LAB colours"),
    ],
)
def test_pixels_without_a_range_are_refused_by_name(tmp_path: Path, image: Image.Image, words: str) -> None:
    path = stored(tmp_path / "odd.tif", image)
    with pytest.raises(UserError) as caught:
        opened(path)
    assert words in str(caught.value) and str(path) in str(caught.value) and "8 or 16 bits" in str(caught.value)
    with pytest.raises(UserError, match="hfids/x train"):
        HeldImages([(image, 0)], "hfids/x train")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_eight_bits_stay_as_they_are(mode: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)).convert("RGB")
    image = image.convert("RGBA").convert(mode) if mode in ("LA", "PA") else image.convert(mode)
    assert eight_bit(image) is image
    assert decoded(image, 3).mode == "RGB" and decoded(image, 1).mode == "L"


def turned_by_exif() -> Image.Image:
    image = Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12))
    exif = image.getexif()
    exif[0x0112] = 6  # to be shown a quarter turned
    image.info["exif"] = exif.tobytes()
    return image


def transparent() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    pixels[..., 3] = np.where(np.indices((8, 8)).sum(0) % 2, 255, 0)
    return Image.fromarray(pixels)


def transparent_palette() -> Image.Image:
    image = transparent().convert("RGB").quantize(8)
    image.info["transparency"] = 3
    return image


@pytest.mark.parametrize("make", [turned_by_exif, transparent, transparent_palette])
def test_exif_and_transparency_are_as_torchvision_and_timm_have_them(tmp_path: Path, make: Any) -> None:
    """Neither turns an image by its EXIF tag, and both drop the alpha channel: published accuracies are of that."""
    from timm.data import ImageDataset

    image = make()
    path = stored(tmp_path / "class" / "image.png", image, exif=image.info.get("exif", b""))
    ours = np.asarray(decoded(opened(path), 3))
    assert np.array_equal(ours, np.asarray(default_loader(str(path))))
    assert np.array_equal(ours, np.asarray(ImageDataset(str(tmp_path), reader="folder")[0][0]))


@pytest.mark.parametrize("loader", ["memory", "timm"])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_two_classes_told_by_brightness_in_sixteen_bits(tmp_path: Path, loader: str, ending: str) -> None:
    for split in ("train", "test"):
        for name, value in (("dark", 2000), ("light", 60000)):
            for number in range(2):
                image = Image.fromarray(np.full((8, 8), value + number, np.uint16))
                stored(tmp_path / split / name / f"{number}.{ending}", image)
    settings = {"name": "x", "source": "imagefolder", "image_size": 8, "in_chans": 1, "workers": 0}
    config = DataConfig(**settings, mean=[0.0], std=[1.0], loader=loader, root=str(tmp_path))
    data = open_data(config, PLAIN, seed=0, micro_batch=4, device=torch.device("cpu"))
    for images, labels in (*data.train_batches(0), *data.eval_batches()):
        assert torch.allclose(images.mean((1, 2, 3)), torch.where(labels == 0, 8 / 255, 233 / 255), atol=1e-3)


def test_a_reader_of_encoded_files_scales_as_well() -> None:
    class Reader:
        def iter_targets(self) -> list[int]:
            return [0]

        def __getitem__(self, index: int) -> tuple[io.BytesIO, int]:
            file = io.BytesIO()
            Image.fromarray(GREYS).save(file, "png")
            file.seek(0)
            return file, 0

    assert np.asarray(ReaderImages(Reader(), "hfds/x train").open(0)).max() == 255
    assert len(np.unique(np.asarray(ReaderImages(Reader(), "x").open(0)))) == 64
