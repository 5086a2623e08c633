"""Owns the command `ladder preview`: a picture of what a network sees."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ladder.common.command import FILE, command
from ladder.data import open_data
from ladder.data.base import Batch
from ladder.errors import UserError, one_line, run_cli
from ladder.paths import write_atomic
from ladder.runs import completion
from ladder.runs.config import DataConfig
from ladder.training.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

_PAIRS = 4  # in a row of the picture

EXAMPLES = """examples:
  ladder preview data=digits recipe=digits
  ladder preview data=cifar10 data.root=path/to/cifar10 recipe=convnext_300ep --images 16 --out batch.png
"""


@command("preview", examples=EXAMPLES)
@click.argument(
    "overrides", nargs=-1, metavar="KEY=VALUE...", shell_complete=completion.items, help="as of ladder train"
)
@click.option("--out", type=FILE, metavar="FILE", help="PNG file; default: preview-DATA-RECIPE.png")
@click.option("--images", type=int, default=32, show_default=True, metavar="N", help="how many, an even number")
def main(overrides: tuple[str, ...], out: Path | None, images: int) -> None:
    """A training batch as a PNG, augmentation and mixup done: each image beside what the network gets of it."""
    if images < 2 or images % 2:
        raise UserError(f"--images {images}; allowed: even numbers from 2 (mixup mixes pairs)")
    data, recipe, seed = compose(overrides)
    out = out or Path(re.sub(r"[^\w.+-]", "_", f"preview-{data.name}-{recipe.name}.png"))
    if out.suffix.lower() not in (".png", ""):
        raise UserError(f"--out {out}: the picture is a PNG; give a name that ends in .png")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: no folder {out.parent}")
    figure = draw(data, recipe, seed, images)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a class named in another script
        figure.savefig(content := BytesIO(), format="png")
    try:
        write_atomic(out, content.getvalue())
    except OSError as error:
        raise UserError(f"can't write {out} ({one_line(error)})") from error
    print(out)


def compose(overrides: Sequence[str]) -> tuple[DataConfig, Recipe, int]:
    """Data, recipe and seed of the run that `overrides` describe."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    from ladder.paths import conf_dir
    from ladder.runs.hydra import explained, register_schema
    from ladder.runs.resolve import check_root

    register_schema()
    with explained(overrides):
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = hydra_compose("train", list(overrides))
        check_root(cfg)
        data, recipe = OmegaConf.to_object(cfg.data), OmegaConf.to_object(cfg.recipe)
    assert isinstance(data, DataConfig)
    assert isinstance(recipe, Recipe)
    data.check()
    recipe.check()
    return data, recipe, int(cfg.seed)


def draw(data: DataConfig, recipe: Recipe, seed: int, count: int) -> Figure:
    """The first `count` images of the first epoch, before and after augmentation."""
    import torch
    from matplotlib.figure import Figure

    from ladder.data.augment import channels
    from ladder.training.optim import make_mixup, mixup_batch

    originals, (images, labels), names = first_batch(data, recipe, seed, count)
    captions = [names[int(label)] for label in labels]
    mixed = captions
    smoothing = recipe.label_smoothing
    mixup = make_mixup(recipe, len(names), micro_batch=count)
    if mixup is not None:
        images, targets = mixup_batch(mixup, images, labels, (seed, 0, 0, 0, 0))
        mixed = [_shares(target, names, smoothing) for target in targets]
    mean, std = (torch.tensor(channels(values, data.in_chans)).view(-1, 1, 1) for values in (data.mean, data.std))
    seen = (images * std + mean).clamp(0, 1)

    rows = math.ceil(count / _PAIRS)
    height = 1.4 * rows + 0.5  # inches; half a one for the title and the first captions
    figure = Figure(figsize=(2.5 * _PAIRS, height), dpi=120)
    title = f"{data.name}, recipe {recipe.name}, seed {seed}: data set | what the network sees"
    figure.suptitle(one_line(title), fontsize=10, y=1 - 0.06 / height, va="top", parse_math=False)
    grid = figure.add_gridspec(
        rows, _PAIRS, left=0.01, right=0.99, bottom=0.01, top=1 - 0.45 / height, wspace=0.08, hspace=0.2
    )
    for place in range(count):
        pair = grid[place // _PAIRS, place % _PAIRS].subgridspec(1, 2, wspace=0.03)
        sides = [] if originals is None else [(0, originals[place] / 255.0, captions[place])]
        for column, picture, caption in [*sides, (1, seen[place], mixed[place])]:
            axes = figure.add_subplot(pair[column])
            axes.imshow(
                picture.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest"
            )
            axes.set_title(one_line(caption), fontsize=6, pad=2, parse_math=False)
            axes.set_axis_off()
    return figure


def first_batch(
    data: DataConfig, recipe: Recipe, seed: int, count: int
) -> tuple[torch.Tensor | None, Batch, tuple[str, ...]]:
    """(uint8 originals or None for a stream, training batch on the CPU, class names)."""
    import torch

    from ladder.data.augment import Augment
    from ladder.data.images import Subset
    from ladder.data.memory import decode, pillow_filter
    from ladder.data.order import permutation, uniforms
    from ladder.data.sources import is_stream, open_source

    cpu = torch.device("cpu")
    if data.loader == "timm":
        data.workers = 0
        opened = open_data(data, recipe, seed=seed, micro_batch=count, device=cpu)
        batch, names = next(opened.train_batches(0)), opened.info.class_names
        if is_stream(data):
            return None, batch, names
    source = open_source(data)
    if count > len(source.train.labels):
        raise UserError(f"--images {count}: {data.name} has {len(source.train.labels)} training images")
    chosen = Subset(source.train, permutation(seed, 0, len(source.train.labels))[:count])
    originals = decode(chosen, data.image_size, data.in_chans, pillow_filter(recipe), "decoding")
    if data.loader == "memory":  # as MemoryData does it, but for decoding all
        augment = Augment(recipe, data, seed, cpu)
        images = augment(originals, uniforms(seed, 0, 0, count, augment.columns))
        batch, names = (images, torch.from_numpy(chosen.labels)), source.class_names
    return originals, batch, names


def _shares(target: torch.Tensor, names: tuple[str, ...], smoothing: float) -> str:
    """The one or two classes that a mixed image stands for, without what label smoothing gives to all."""
    weights, classes = ((target - smoothing / len(target)) / (1 - smoothing)).topk(min(2, len(target)))
    shares = [(float(w), names[int(c)]) for w, c in zip(weights, classes, strict=True)]
    parts = [(share, name) for share, name in shares if share > 0.005]
    return " + ".join(f"{share:.2f} {name}" for share, name in parts) if len(parts) > 1 else shares[0][1]


if __name__ == "__main__":
    run_cli(main)
