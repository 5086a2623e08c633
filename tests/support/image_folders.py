"""Owns the small image folders that tests read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ladder.training.recipe import Recipe

PLAIN = Recipe(crop="none", hflip=0.0, eval_crop_pct=1.0)  # no augmentation


def make_folder(
    root: Path,
    *,
    train: int = 6,
    test: int = 3,
    classes: tuple[str, ...] = ("ant", "bee"),
    size: tuple[int, int] = (8, 8),
    mode: str = "RGB",
    ending: str = "png",
    eval_name: str = "test",
) -> Path:
    """root/train/CLASS and root/EVAL_NAME/CLASS with `train` and `test` random images a class; returns root."""
    generator = np.random.default_rng(0)
    for split, count in (("train", train), (eval_name, test)):
        for name in classes:
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
                pixels = generator.integers(0, 256, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:03}.{ending}")
    return root
