"""Owns the command `ladder images`: which images one rung wins and another loses over the seeds, and their picture."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray

from analysis.show import options
from analysis.show.files import write
from ladder.common.command import FILE, command
from ladder.errors import UserError, one_line, run_cli

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.compare.answers import Answers
    from ladder.data.images import Images

EXAMPLES = """examples:
  ladder images runs/demo resnet separate_downsampling
  ladder images runs/demo 0 12 --out won.png --count 12
  ladder images runs/cifar10 0 12 --root ~/data/cifar10     where the data set lies here

An image is won where the second rung is right in more seeds than the first, lost the other way round. The picture shows
those with the largest difference; among equals those whose probability of the right class changes most.
"""
_COLUMNS = 8
_INCHES = 1.15  # a side of an image


@command("images", examples=EXAMPLES)
@click.argument("study", help="a folder of runs (runs/demo), or a packed study")
@click.argument("before", metavar="RUNG_A", help="a rung's name or number")
@click.argument("after", metavar="RUNG_B", help="the rung to set against it")
@click.option("--out", type=FILE, metavar="PNG", help="the picture (default: images-RUNG_A-RUNG_B.png)")
@click.option("--count", type=click.IntRange(1, 400), default=24, show_default=True, help="most images a half")
@click.option("--root", metavar="DIR", help="data.root, where the data set lies elsewhere than the runs had it")
@options.where()
def main(
    study: str, before: str, after: str, out: Path | None, count: int, root: str | None, where: dict[str, str]
) -> None:
    """The images that one rung gets right and the other wrong."""
    from analysis.compare.answers import load_answers

    answers = load_answers([study], where)
    before, after = answers.two(before, after)
    click.echo(words(answers, before, after))
    figure = draw(answers, before, after, answers.won(before, after), open_images(answers, root), count)
    figure.savefig(content := BytesIO(), format="png")
    target = out or Path(f"images-{before}-{after}.png")
    write(target, content.getvalue(), follow=out is not None)
    click.echo(target)


def words(answers: Answers, before: str, after: str) -> str:
    """How many images are won and lost, in all seeds and in some."""
    won, total = answers.won(before, after), len(answers.label)
    seeds = f"{len(answers.of(before))} and {len(answers.of(after))} seeds"
    return (
        f"{after} against {before}, {total:,} images, {seeds}: wins {int((won > 0).sum()):,}"
        f" ({int((won == 1).sum()):,} in every seed), loses {int((won < 0).sum()):,}"
        f" ({int((won == -1).sum()):,} in every seed), as often right {int((won == 0).sum()):,}; net"
        f" {100 * won.mean():+.2f} points"
    )


def open_images(answers: Answers, root: str | None) -> Images:
    """The evaluation split of the study's data set. Raises UserError where it isn't here, or is another one."""
    from analysis.read.configs import read_config
    from ladder.data.sources import is_stream, open_source
    from ladder.runs.config import DataConfig

    config = next((found for path in sorted(answers.table.paths) if (found := read_config(path))), None)
    values = config.get("data") if config else None
    if not isinstance(values, dict):
        raise UserError("no config.yaml of this study says which data set its images are of")
    known = {name: value for name, value in values.items() if name in DataConfig.__dataclass_fields__}
    data = DataConfig(**{**known, "download": False, **({"root": root} if root else {})})
    data.check()
    if is_stream(data):
        raise UserError(f"data set {data.name} is a stream, whose images can't be opened by number")
    try:
        images = open_source(data).evaluation
    except UserError as error:
        raise UserError(f"{error}; --root says where the data set lies on this machine") from None
    numbers = answers.of(next(iter(answers.runs)))[0].image
    if len(images.labels) != len(numbers) or not np.array_equal(images.labels[numbers], answers.label):
        raise UserError(f"the images of {data.name} here are not those that the runs saw; --root names another folder")
    return images


def draw(answers: Answers, before: str, after: str, won: NDArray[np.float64], images: Images, count: int) -> Figure:
    """Two halves: images that `after` wins, and images that it loses; above each what the two took it for."""
    from matplotlib.figure import Figure

    gain = np.mean([e.probability for e in answers.of(after)], axis=0)
    gain = gain - np.mean([e.probability for e in answers.of(before)], axis=0)
    halves = []
    for sign in (1, -1):
        order = np.lexsort((-sign * np.nan_to_num(gain), -sign * won))[:count]
        halves.append([int(i) for i in order if sign * won[i] > 0])
    rows = [math.ceil(len(half) / _COLUMNS) for half in halves]
    cell, head = _INCHES + 0.32, 0.45
    height = sum(rows) * cell + 2 * head
    figure = Figure(figsize=(_COLUMNS * (_INCHES + 0.1), height), dpi=120)
    top = height
    for half, count_rows, verb in zip(halves, rows, ("wins", "loses"), strict=True):
        total = int((won > 0).sum() if verb == "wins" else (won < 0).sum())
        text = f"{after} {verb} {total:,} images against {before}" + ("" if half else ": none")
        figure.text(0.01, (top - 0.08) / height, text, fontsize=10, va="top")
        top -= head
        for place, index in enumerate(half):
            row, column = divmod(place, _COLUMNS)
            left = (column + 0.04) / _COLUMNS
            bottom = (top - row * cell - cell + 0.02) / height
            axes = figure.add_axes((left, bottom, 0.92 / _COLUMNS, _INCHES / height))
            try:
                axes.imshow(np.asarray(images.open(index_of(answers, index))), cmap="gray", interpolation="nearest")
            except (UserError, ValueError, TypeError) as error:
                raise UserError(f"image {index}: {one_line(error)}") from None
            axes.set_axis_off()
            axes.set_title(_caption(answers, before, after, index), fontsize=5.5, pad=1.5)
        top -= count_rows * cell
    return figure


def index_of(answers: Answers, row: int) -> int:
    """The number in the evaluation split of a row of the predictions."""
    return int(answers.of(next(iter(answers.runs)))[0].image[row])


def _caption(answers: Answers, before: str, after: str, row: int) -> str:
    """The class, and below it what most seeds of each rung took the image for."""
    names = answers.class_names

    def name(number: int) -> str:
        return names[number][:14] if number < len(names) else str(number)

    said = []
    for rung in (before, after):
        votes = np.bincount([int(each.predicted[row]) for each in answers.of(rung)])
        said.append(name(int(votes.argmax())))
    return f"{name(int(answers.label[row]))}\n{said[0]} → {said[1]}"


if __name__ == "__main__":
    run_cli(main)
