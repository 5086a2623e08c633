"""Owns the tests of charts of long names: subsets of many steps, titles of whole sentences, words without a space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import analysis
from analysis.compare.summary import summarise
from analysis.show.charts import blocks, cost, curves, roadmap, scatter, star, style
from ladder.networks.rungs import load_ladder

Make = Callable[..., Any]
STEPS = "stage_ratio+patchify_stem+depthwise_conv+increase_width+inverted_bottleneck+kernel_7+gelu"
NAMES = (STEPS, "a title of eighty letters " * 4, "W" * 80, "i" * 400)


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_charts_of_long_names_are_drawn_within_their_width(
    make_study: Make, assert_readable: Callable[[Any], None], name: str, columns: int
) -> None:
    study = make_study()
    for seed in range(2):
        study.run("resnet", seed, 90.0 + seed)
        off = {"rung": name, "title": name, "group": name, "rung_index": None, "parent": "resnet"}
        study.run("gelu", seed, 92.0 - seed, result=off, macs=50_000_000)
    (table,) = summarise(analysis.load(study.root))
    table = replace(table, rows=tuple(row for row in table.rows if row.runs))
    drawn = [
        roadmap.draw(table, columns=columns),
        star.draw(table, columns=columns),
        scatter.draw_ladder(table, "macs", columns=columns),
        curves.draw(table, analysis.load_curves(study.root), columns=columns),
    ]
    for figure in drawn:
        if figure is not None:
            assert figure.get_size_inches()[0] == style.WIDTHS[columns]
            assert all(axes.get_position().width > 0.15 for axes in figure.axes if axes.get_xlabel())
            assert_readable(figure)


@pytest.mark.parametrize("columns", [1, 2])
def test_drawings_of_a_ladder_of_long_titles(assert_readable: Callable[[Any], None], columns: int) -> None:
    ladder = load_ladder("convnext_32")
    rungs = [replace(rung, title=name) for rung, name in zip(ladder.rungs, NAMES, strict=False)]
    assert_readable(blocks.draw("t", blocks.drawings(ladder, rungs, 32, 1), columns))
    data = cost.breakdowns(ladder, rungs, "kind", image_size=32, num_classes=10)
    figure = cost.draw("t", data, "kind", "n", columns)
    assert all(axes.get_position().width > 0.15 for axes in figure.axes)
    assert_readable(figure)


def test_a_name_is_cut_only_where_it_must_be() -> None:
    with style.context(2):
        figure = style.figure(2, 1)
        assert style.fit(figure, "gelu", 1.0, 8) == "gelu"
        cut = style.fit(figure, "W" * 80, 1.0, 8, 2)
        assert cut.endswith("…") and cut.count("\n") == 1
        assert style.text_width(figure, cut.split("\n"), 8) <= 1.0
