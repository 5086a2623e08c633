"""Owns the command `ladder cost`: parameters and MACs of every rung beside the paper's, without runs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import click

from analysis.show import options
from analysis.show.cells import Column, Grid, Line, macs_unit
from analysis.show.formats import markdown_grid, text_grid
from ladder.common.command import command
from ladder.common.text import safe_cell
from ladder.errors import UserError, run_cli
from ladder.networks.outline import spec_cost
from ladder.networks.rungs import Ladder, load_ladder
from ladder.networks.spec import FactorySpec
from ladder.paths import strict_json

EXAMPLES = """examples:
  ladder cost convnext_t
  ladder cost convnext_t convnext_b --format csv
  ladder cost convnext_mini --num-classes 10

MACs are multiply-accumulates of convolution and linear layers for one image: what the papers call FLOPs.
Side rungs (variants that were not adopted) stand under the rung that they hang off.
"""


@dataclass(frozen=True)
class CostRow:
    """One rung. `index` is None for a side rung; `paper_gflops` in 1e9 MACs; `difference` = ours - paper."""

    ladder: str
    index: int | None
    rung: str
    title: str
    parent: str | None
    image_size: int
    num_classes: int
    params: int
    macs: int
    paper_gflops: float | None
    difference: float | None
    note: str | None


def cost_rows(ladder: Ladder, image_size: int | None = None, num_classes: int = 1000) -> list[CostRow]:
    """The cost of every rung and side rung; no weights are allocated.

    The paper's figures stand beside ours only at the image size they were given for, the ladder's own.
    Raises UserError where images are too small for a rung.
    """
    size = image_size or ladder.image_size
    side = ladder.side_rungs
    rows = []
    for rung in (r for main in ladder.rungs for r in (main, *(s for s in side if s.parent == main.name))):
        spec = rung.spec.for_images(size)
        if isinstance(spec, FactorySpec):  # its own code refuses images in words of its own
            from ladder.networks.build import check_image_size

            check_image_size(spec, size)
        cost = spec_cost(spec, size, num_classes)
        paper = rung.paper.gflops if size == ladder.image_size else None
        difference = None if paper is None else round(cost.macs / 1e9 - paper, 6)
        note = rung.paper.macs_note if paper is not None else None
        about = (ladder.name, rung.index, rung.name, rung.title, rung.parent, size, num_classes)
        rows.append(CostRow(*about, cost.params, cost.macs, paper, difference, note))
    return rows


def _grid(ladder: Ladder, rows: Sequence[CostRow]) -> Grid:
    """The rows as a table with footnotes."""
    unit, scale = macs_unit(r.macs for r in rows)
    heads = ["params M", f"MACs {unit}"]
    if any(r.paper_gflops is not None for r in rows):
        heads += ["paper GFLOPs", "difference"]
    notes: list[str] = []
    lines = []
    for row in rows:
        cells = [f"{row.index:>2} {row.rung}" if row.index is not None else f"   └ {row.rung}"]
        cells += [f"{row.params / 1e6:.2f}", f"{row.macs / scale:.3f}"]
        if row.paper_gflops is not None and row.difference is not None:
            cells += [f"{row.paper_gflops:.2f}", f"{round(row.difference, 3) + 0.0:+.3f}"]
        if row.note:
            if row.note not in notes:
                notes.append(row.note)
            cells[-1] += f" [{notes.index(row.note) + 1}]"
        lines.append(Line((*cells, *[""] * (len(heads) + 1 - len(cells))), "side" if row.index is None else "main"))
    source = f", {ladder.source}" if ladder.source else ""
    title = f"{ladder.title} ({ladder.name}{source}), {rows[0].image_size} px, {rows[0].num_classes} classes"
    columns = (Column("rung", left=True), *map(Column, heads))
    return Grid(title, "", columns, tuple(lines), tuple(f"[{i}] {note}." for i, note in enumerate(notes, 1)))


Tables = Sequence[tuple[Ladder, Sequence[CostRow]]]


def _csv(tables: Tables) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(CostRow.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    for row in (row for _, rows in tables for row in rows):
        writer.writerow({k: safe_cell(v) if isinstance(v, str) else v for k, v in asdict(row).items()})
    return out.getvalue().rstrip()


FORMATS: dict[str, Callable[[Tables], str]] = {
    "text": lambda tables: "\n\n".join(text_grid(_grid(*table)) for table in tables),
    "json": lambda tables: strict_json([asdict(row) for _, rows in tables for row in rows], 2),
    "csv": _csv,
    "md": lambda tables: "\n\n".join(markdown_grid(_grid(*table)).rstrip() for table in tables),
}


@command("cost", examples=EXAMPLES)
@click.argument(
    "ladders",
    nargs=-1,
    required=True,
    metavar="LADDER...",
    shell_complete=options.ladders,
    help="name, or path of a YAML file",
)
@options.output_format(*FORMATS)
@click.option("--image-size", type=int, metavar="PX", help="side of the images; default: the ladder's own")
@click.option("--num-classes", type=int, default=1000, show_default=True, metavar="N", help="outputs of the network")
def main(ladders: tuple[str, ...], kind: str, image_size: int | None, num_classes: int) -> None:
    """Parameters and MACs of every rung beside the paper's."""
    if image_size is not None and image_size < 1:
        raise UserError(f"--image-size {image_size}: must be at least 1")
    loaded = [load_ladder(name) for name in dict.fromkeys(ladders)]
    print(FORMATS[kind]([(ladder, cost_rows(ladder, image_size, num_classes)) for ladder in loaded]))


if __name__ == "__main__":
    run_cli(main)
