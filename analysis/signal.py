"""Owns the command `ladder signal`: how large the signal is that each untrained rung passes on, and its gradients."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from analysis.show import options
from analysis.show.cells import Column, Grid, Line
from analysis.show.formats import markdown_grid, text_grid
from ladder.common.command import FOLDER, command
from ladder.errors import UserError, run_cli
from ladder.networks.rungs import Ladder, Rung, load_ladder
from ladder.paths import strict_json

if TYPE_CHECKING:
    from ladder.networks.signal import Signal

EXAMPLES = """examples:
  ladder signal convnext_mini
  ladder signal convnext_32 convnext_mini --subsets 50 --out docs/signal

Standard deviation of what each part puts out at the start of training, on normal noise, and norm of the gradient by its
parameters. With --subsets also of networks with random subsets of the steps; --out draws all as signal.png.
"""


@dataclass(frozen=True)
class Row:
    """One network; `index` is None for a random subset of the steps. The first of `parts` is the stem."""

    ladder: str
    index: int | None
    rung: str
    parts: tuple[Signal, ...]


def random_subsets(ladder: Ladder, count: int, seed: int = 0) -> list[Rung]:
    """Different networks, each step there or not with equal chances. Raises UserError where there are not so many."""
    names = [step.name for step in ladder.steps]
    if count > 2 ** len(names):
        raise UserError(f"--subsets {count}: {ladder.name} has {2 ** len(names)}")
    chances = random.Random(seed)
    found: dict[tuple[str, ...], None] = {}
    while len(found) < count:
        found[tuple(name for name in names if chances.random() < 0.5)] = None
    return [ladder.subset(steps) for steps in found]


def signal_rows(ladder: Ladder, image_size: int | None = None, subsets: int = 0, seed: int = 0) -> Iterator[Row]:
    """The signal of every rung, then of random subsets. Raises UserError where images are too small for one."""
    import torch

    from ladder.networks.base import Net
    from ladder.networks.build import build_net, check_image_size
    from ladder.networks.signal import measure_signal

    if ladder.network in ("timm", "call"):
        raise UserError(
            f"ladder signal follows the blocks of our own networks; {ladder.name} has network: {ladder.network}"
        )
    size = image_size or ladder.image_size
    with torch.random.fork_rng(devices=[]):
        for rung in (*ladder.rungs, *random_subsets(ladder, subsets, seed)):
            check_image_size(rung.spec, size)
            torch.manual_seed(seed)
            net = cast(Net, build_net(rung.spec, num_classes=10))
            yield Row(ladder.name, rung.index, rung.name, tuple(measure_signal(net, size, seed=seed)))


def _grid(ladder: Ladder, rows: list[Row]) -> Grid:
    """Rungs as rows; subsets as the least and the largest value of each column."""
    parts = [part.part for part in rows[0].parts]
    heads = [*parts, *(f"grad {part}" for part in parts)]
    main = [row for row in rows if row.index is not None]
    lines = [Line((f"{r.index:>2} {r.rung}", *map(_short, _values(r))), "main") for r in main]
    if rest := [_values(row) for row in rows if row.index is None]:
        for word, pick in (("least", min), ("most", max)):
            cells = (_short(pick(column)) for column in zip(*rest, strict=True))
            lines.append(Line((f"{word} of {len(rest)} subsets", *cells), "side"))
    columns = (Column("rung", left=True), *map(Column, heads))
    title = f"{ladder.title} ({ladder.name}): std of what each part puts out, and norm of its gradient, at the start"
    return Grid(title, "", columns, tuple(lines), ())


def _values(row: Row) -> list[float]:
    return [part.std for part in row.parts] + [part.gradient for part in row.parts]


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:,.0f}"


Tables = list[tuple[Ladder, list[Row]]]


def _records(tables: Tables) -> Iterable[dict[str, object]]:
    return (asdict(row) for _, rows in tables for row in rows)


FORMATS: dict[str, Callable[[Tables], str]] = {
    "text": lambda tables: "\n\n".join(text_grid(_grid(*table)) for table in tables),
    "md": lambda tables: "\n\n".join(markdown_grid(_grid(*table)).rstrip() for table in tables),
    "json": lambda tables: strict_json(list(_records(tables)), 2),
}


@command("signal", examples=EXAMPLES)
@click.argument(
    "ladders",
    nargs=-1,
    required=True,
    metavar="LADDER...",
    shell_complete=options.ladders,
    help="name, or path of a YAML file",
)
@options.output_format(*FORMATS)
@click.option(
    "--image-size", type=click.IntRange(1), metavar="PX", help="side of the images; default: the ladder's own"
)
@click.option(
    "--subsets", type=click.IntRange(0), default=0, metavar="N", help="so many random subsets of the steps too"
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="of weights, images and subsets")
@click.option("--out", type=FOLDER, metavar="DIR", help="draw a chart there: signal.png")
def main(
    ladders: tuple[str, ...], kind: str, image_size: int | None, subsets: int, seed: int, out: Path | None
) -> None:
    """The size of activations and gradients in every rung before training."""
    loaded = [load_ladder(name) for name in dict.fromkeys(ladders)]
    tables = [(ladder, list(signal_rows(ladder, image_size, subsets, seed))) for ladder in loaded]
    print(FORMATS[kind](tables))
    if out is not None:
        from analysis.show.charts import signal, style

        style.save(signal.draw(tables), out / "signal", ("png",))


if __name__ == "__main__":
    run_cli(main)
