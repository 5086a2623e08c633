"""Owns which charts there are: for a study, and for the published numbers; each with the stem of its file name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from ladder.common.streams import say
from ladder.errors import UserError, unknown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.compare.effect_answer import Answer
    from analysis.compare.summary import Table
    from ladder.networks.rungs import Ladder, Rung

PARTNERS = {"convnext_t": "convnext_b"}  # Figure 2 shows both regimes in one
CONVMIXER = "convmixer"  # all its ladders
ALL = "all"
CSS_DPI = 96  # of a browser
MOST_SUBSETS = 12  # of a design: more names of several steps each, as bars or curves, tell nobody anything


@dataclass(frozen=True)
class Chart:
    """A chart to be drawn: the stem of its file, what it shows in words, how to draw it (columns to Figure)."""

    stem: str
    title: str
    draw: Callable[[int], Figure | None]

    def _repr_png_(self) -> tuple[bytes, dict[str, int]] | None:
        """The chart in a notebook, as wide as it is on paper; nothing where there is nothing to show."""
        from io import BytesIO

        from analysis.show.charts.style import DPI, context

        figure = self.draw(2)
        if figure is None:
            return None
        with context(2):
            figure.savefig(content := BytesIO(), format="png", dpi=DPI)
        return content.getvalue(), {"width": round(figure.get_figwidth() * CSS_DPI)}


def paper_charts(name: str, interval: str = "all") -> Iterator[Chart]:
    """Every chart that can be drawn without runs: of a ladder, of `convmixer` (its ladders), or of `all`.

    The networks of a ladder that quotes no published numbers are drawn all the same.

    Raises:
        UserError: on an unknown name.
    """
    from ladder.networks.rungs import list_ladders, load_ladder

    if name == ALL:
        for ladder in map(load_ladder, list_ladders()):
            if _is_published(ladder):
                yield from _ladder_paper(ladder, interval)
        yield from _convnext_paper()
        yield from _convmixer_paper()
        return
    if name == CONVMIXER:
        for ladder in map(load_ladder, list_ladders()):
            if ladder.name.startswith(CONVMIXER) and _is_published(ladder):
                yield from _ladder_paper(ladder, interval)
        yield from _convmixer_paper()
        return
    if name not in list_ladders() and not name.endswith((".yaml", ".yml")):
        raise unknown("ladder", name, [*list_ladders(), CONVMIXER, ALL])
    ladder = load_ladder(name)
    yield from _ladder_paper(ladder, interval)
    if ladder.name in (*PARTNERS, *PARTNERS.values(), "convnext_isotropic"):
        yield from _convnext_paper()
    if ladder.name == "convmixer_imagenet":
        yield from _convmixer_paper()


def effect_charts(answer: Answer, stem: str = "") -> Iterator[Chart]:
    """The charts of `ladder effects`, those that there is something to show of."""
    from analysis.show.charts import effects

    yield Chart(f"{stem}effects", "What each step is worth, on average", partial(effects.draw_effects, answer))
    if answer.interactions:
        yield Chart(f"{stem}interactions", "Interactions of two steps", partial(effects.draw_interactions, answer))
    if answer.fit.freedom >= 1:
        yield Chart(f"{stem}half_normal", "Effects beside noise", partial(effects.draw_half_normal, answer))
    if answer.shares:
        yield Chart(f"{stem}shapley", "Shapley values", partial(effects.draw_shapley, answer))


def _is_published(ladder: Ladder) -> bool:
    return any(rung.paper.top1 is not None for rung in ladder.rungs)


def _ladder_paper(ladder: Ladder, interval: str) -> Iterator[Chart]:
    from analysis.compare.summary import paper_table
    from analysis.show.charts import roadmap, scatter, sizes, star
    from ladder.networks.rungs import load_ladder

    stem = f"paper_{ladder.name}"
    classes = {"cifar10": 10}.get(ladder.paper_data, 1000)
    if not _is_published(ladder):
        yield from network_charts(f"{ladder.name}_", ladder, ladder.rungs, ladder.image_size, classes, 3)
        return
    table = paper_table(ladder, interval)

    def draw_macs(columns: int) -> Figure | None:
        return scatter.draw_ladder(_counted(table, ladder), "macs", paper=True, columns=columns)

    def draw_roadmap(columns: int, behind: Table | None = None) -> Figure:
        doubted = [rung for rung in (*ladder.rungs, *ladder.side_rungs) if rung.paper.macs_note]
        return roadmap.draw(_counted(table, ladder, doubted), paper=True, behind=behind, columns=columns)

    if ladder.kind == "chain":
        yield Chart(f"{stem}_roadmap", "The roadmap, published numbers", draw_roadmap)
        if partner := PARTNERS.get(ladder.name):
            both = partial(draw_roadmap, behind=paper_table(load_ladder(partner)))
            yield Chart(f"{stem}_and_{partner}_roadmap", "Both regimes, published numbers", both)
    yield Chart(f"{stem}_changes", "What each step changed", lambda c: star.draw(table, paper=True, columns=c))
    if sizes.panels(table, ladder, paper=True):
        draw_sizes = partial(sizes.draw, table, ladder, paper=True)
        yield Chart(f"{stem}_sizes", "Top-1 over sizes", lambda c: draw_sizes(columns=c))
    if scatter.rung_points(table, "macs", paper=True):
        yield Chart(f"{stem}_macs", "Top-1 over MACs", draw_macs)
    yield from network_charts(f"{stem}_", ladder, ladder.rungs, ladder.image_size, classes, 3)


def _counted(table: Table, ladder: Ladder, rungs: Sequence[Rung] | None = None) -> Table:
    """The published table with our count of MACs and parameters, of `rungs` or all; the paper prints few of them."""
    from analysis.show.charts.cost import breakdowns

    size = {"image_size": ladder.image_size, "num_classes": {"cifar10": 10}.get(ladder.paper_data, 1000)}
    data = breakdowns(ladder, [*ladder.rungs, *ladder.side_rungs] if rungs is None else rungs, "kind", **size)
    costs = {one.rung: [sum(kind) for kind in zip(*one.parts.values(), strict=True)] for one in data}
    rows = (
        replace(row, macs=costs[row.rung][0], params=costs[row.rung][1]) if row.rung in costs else row
        for row in table.rows
    )
    return replace(table, rows=tuple(rows))


def network_charts(
    stem: str, ladder: Ladder, rungs: Sequence[Rung], image_size: int, num_classes: int, in_chans: int
) -> Iterator[Chart]:
    """Block drawings and cost breakdowns: from the specs alone."""
    from analysis.show.charts import blocks, cost
    from ladder.networks.spec import FactorySpec

    def draw_blocks(columns: int) -> Figure | None:
        try:
            drawings = blocks.drawings(ladder, rungs, image_size, in_chans)
        except UserError as error:
            if not isinstance(rungs[0].spec, FactorySpec):
                raise
            say(f"note: {ladder.name}_blocks is left out: {error}", error=True)
            return None
        return blocks.draw(f"{ladder.title}: the blocks", drawings, columns)

    def draw_cost(by: str, columns: int) -> Figure:
        size = {"image_size": image_size, "num_classes": num_classes, "in_chans": in_chans}
        data = cost.breakdowns(ladder, rungs, by, **size)
        note = f"One image of {image_size} px, {num_classes} classes. MACs: convolution and linear layers."
        words = "kind of layer" if by == "kind" else "stage"
        return cost.draw(f"{ladder.title}: cost by {words}", data, by, note, columns)

    yield Chart(f"{stem}blocks", "The blocks, rung by rung", draw_blocks)
    yield Chart(f"{stem}cost_by_kind", "Cost by kind of layer", lambda c: draw_cost("kind", c))
    yield Chart(f"{stem}cost_by_stage", "Cost by stage", lambda c: draw_cost("stage", c))


def _convnext_paper() -> Iterator[Chart]:
    from analysis.show.charts import published as points
    from analysis.show.charts import scatter

    one = "Published: arXiv:2201.03545v2, Table 1 (ImageNet-1K, no pre-training; 224 px unless said)"
    two = "Published: arXiv:2201.03545v2, Table 2; ConvNeXt-S has 78.7 in the official repository"
    fast = "Published: arXiv:2201.03545v2, Table 12 (A100, inference; 224 px unless said)"
    families = scatter.draw_families
    yield Chart(
        *("paper_imagenet_macs", "Families over MACs"),
        lambda c: families(points.imagenet_points("gflops"), "MACs (G)", "ImageNet-1K: top-1 over MACs", [one], c),
    )
    yield Chart(
        *("paper_imagenet_throughput", "Families over throughput"),
        lambda c: families(
            points.imagenet_points("throughput_a100_img_s"),
            "A100 throughput (images/s)",
            "ImageNet-1K: top-1 over measured throughput",
            [fast],
            c,
        ),
    )
    yield Chart(
        *("paper_isotropic", "Isotropic models"),
        lambda c: families(points.isotropic_points(), "MACs (G)", "Isotropic ConvNeXt beside ViT", [two], c),
    )


def _convmixer_paper() -> Iterator[Chart]:
    from analysis.show.charts import published as points
    from analysis.show.charts import scatter

    quoted = "Published: arXiv:2201.09792, Table 1, as quoted in public sources; resolution 224 px"
    yield Chart(
        *("paper_convmixer_families", "ConvMixer and others"),
        lambda c: scatter.draw_families(
            points.convmixer_points(), "parameters (M)", "ImageNet-1K: top-1 over parameters", [quoted], c
        ),
    )


def study_charts(tables: Sequence[Table], curves: pd.DataFrame | None) -> Iterator[tuple[Table, Chart]]:
    """Every chart of the tables of a study; those without data draw nothing."""
    from analysis.compare.overrides import ladder_of
    from analysis.show.charts import curves as training
    from analysis.show.charts import roadmap, scatter, sizes, star

    for stem, table in zip(stems(tables), tables, strict=True):
        charts = [
            Chart(f"{stem}roadmap", "The ladder", partial(_named, roadmap.draw, table)),
            Chart(f"{stem}changes", "What each step changed", partial(_named, star.draw, table)),
            Chart(f"{stem}macs", "Top-1 over MACs", partial(_named, scatter.draw_ladder, table, "macs")),
            Chart(f"{stem}throughput", "Top-1 over speed", partial(_named, scatter.draw_ladder, table, "images_per_s")),
        ]
        ladder = ladder_of(table.ladder, table.paths)
        if ladder is not None and not table.overridden and sizes.panels(table, ladder):
            charts.insert(2, Chart(f"{stem}sizes", "Top-1 over sizes", partial(_named, sizes.draw, table, ladder)))
        if sum(row.kind == "subset" for row in table.shown) > MOST_SUBSETS:
            charts = [chart for chart in charts if not chart.stem.endswith("roadmap")]
        elif curves is not None:
            for column, name in (("top1", "curves"), ("train_loss", "curves_loss")):
                draw = partial(_named, training.draw, table, curves_of(table, curves), column)
                charts.append(Chart(f"{stem}{name}", f"Training curves: {training.WHAT[column]}", draw))
        yield from ((table, chart) for chart in charts)
        yield from ((table, chart) for chart in _study_networks(stem, table))


def _named(draw: Callable[..., Figure | None], *args: object) -> Figure | None:
    *rest, columns = args
    return draw(*rest, columns=columns)


def curves_of(table: Table, curves: pd.DataFrame) -> pd.DataFrame:
    """The epochs of the runs that a table is made of, each with the rung of its row."""
    mine = curves[curves["path"].isin(list(table.paths))]
    return mine.assign(rung=mine["path"].map(dict(table.paths)))


def _study_networks(stem: str, table: Table) -> Iterator[Chart]:
    from analysis.compare.overrides import ladder_of

    ladder = ladder_of(table.ladder, table.paths)
    if ladder is None or table.overridden:
        return
    if ladder.network == "call":
        say(f"note: {ladder.name}: no drawing of blocks and their cost, as a study's code is not run", error=True)
        return
    shown = {row.rung for row in table.rows}
    rungs = [r for r in (*ladder.rungs, *ladder.side_rungs) if r.name in shown]
    order = [row.rung for row in table.rows]
    rungs.sort(key=lambda r: order.index(r.name))
    yield from network_charts(
        *(stem, ladder, rungs, table.image_size or ladder.image_size),
        *(table.num_classes or 1000, table.in_chans or 3),
    )


def stems(tables: Sequence[Table]) -> list[str]:
    """The start of the file names of each table: nothing for a single one, else what tells them apart."""
    if len(tables) == 1:
        return [""]
    out: list[str] = []
    for number, table in enumerate(tables):
        choice = "".join(f"_{k}={v}" for k, v in table.choice.items())
        name = "".join(c if c.isalnum() or c in "._=-" else "-" for c in f"{table.ladder}_{table.data}{choice}_")
        out.append(name if name not in out else f"{name}{number}_")
    return out


def check_formats(formats: Sequence[str], allowed: Sequence[str]) -> None:
    """Raise UserError for a format that figures are not written in, or for none."""
    if not formats:
        raise UserError(f"--formats is empty: give any of {', '.join(allowed)}")
    for kind in formats:
        if kind not in allowed:
            raise unknown("format", kind, allowed)
