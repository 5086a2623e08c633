"""Owns the tests of accuracy over a number of the spec, and of what ConvMixer's ladders quote and draw."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import analysis
from analysis.compare.summary import paper_table, summarise
from analysis.show.anatomy import anatomy
from analysis.show.charts import blocks, roadmap, sizes, star
from analysis.show.collection import study_charts
from analysis.show.formats import FORMATS
from ladder.networks.rungs import load_ladder
from ladder.networks.spec import IsotropicSpec

Make = Callable[..., Any]
Readable = Callable[[Any], None]
REFERENCE = Path(analysis.__file__).parent / "read" / "reference"


def rows(name: str) -> list[dict[str, str]]:
    with open(REFERENCE / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_cifar10_ladder_quotes_the_csv_and_nothing_else() -> None:
    ladder = load_ladder("convmixer_cifar10")
    quoted = {r.name: r.paper.top1 for r in ladder.rungs if r.paper.top1 is not None}
    table = {r["setting"]: float(r["top1"]) for r in rows("convmixer_cifar10_ablation") if r["top1"][:1] != ">"}
    assert quoted == {
        "convmixer_256_8": table["baseline ConvMixer-256/8"],
        **{f"kernel_{k}": table[f"kernel {k}"] for k in (3, 5, 7)},
        **{f"patch_{p}": table[f"patch {p}"] for p in (2, 4)},
        "layer_norm": table["BatchNorm->LayerNorm"],
        "pointwise_residual": table["add residual around pointwise conv"],
        "no_randaugment": table["no RandAugment"],
        "no_random_scaling": table["no random scaling"],
        "convmixer_128_4": table["ConvMixer-128/4"],
    }
    deltas = {
        r["setting"]: float(r["delta_vs_baseline"])
        for r in rows("convmixer_cifar10_ablation")
        if r["delta_vs_baseline"]
    }
    changes = {row.rung: row.paper_change.delta for row in paper_table(ladder).rows if row.paper_change}
    assert changes["no_randaugment"] == pytest.approx(deltas["no RandAugment"])
    assert changes["kernel_3"] == pytest.approx(deltas["kernel 3"])


@pytest.mark.parametrize(("name", "file"), [("convmixer_imagenet", "convmixer_imagenet"), ("convnext_isotropic",) * 2])
def test_the_other_isotropic_ladders_quote_the_csv(name: str, file: str) -> None:
    ladder = load_ladder(name)
    quoted = {r.title.partition(",")[0]: r.paper for r in ladder.rungs if r.paper.top1 is not None}
    quoted |= {r.title: r.paper for r in ladder.references}
    table = {r.get("network") or r["model"]: r for r in rows(file)}
    assert set(quoted) == set(table)
    for title, paper in quoted.items():
        row = table[title]
        assert (paper.top1, paper.params_M) == (float(row["top1"]), float(row["params_M"])), title
        gflops = row.get("timm_gmacs") or row.get("gflops") or ""
        assert paper.gflops == (float(gflops) if gflops else None), title


def test_published_sizes_are_lines_over_kernel_and_patch() -> None:
    ladder = load_ladder("convmixer_cifar10")
    found = {p.field: p.lines for p in sizes.panels(paper_table(ladder), ladder, paper=True)}
    assert set(found) == {"kernel_size", "patch_size"}
    assert [(x, y) for x, y, _ in found["kernel_size"][0].points] == [(3, 93.61), (5, 95.11), (7, 95.72), (9, 95.88)]
    assert [(x, y) for x, y, _ in found["patch_size"][0].points] == [(1, 95.88), (2, 95.08), (4, 92.61)]
    chain = load_ladder("convnext_t")
    (kernels,) = sizes.panels(paper_table(chain), chain, paper=True)
    assert [x for x, _, _ in kernels.lines[0].points] == [3, 5, 7, 9, 11]
    assert kernels.lines[0].points[2] == (7, 80.57, 0.14)


CIFAR10 = {"name": "cifar10", "in_chans": 3}


def test_our_sizes_stand_beside_the_papers_where_the_data_is_the_same(
    make_study: Make, assert_readable: Readable
) -> None:
    study = make_study("c", ladder="convmixer_cifar10")
    for seed in (0, 1):
        for rung, top1 in (("convmixer_256_8", 90.0), ("kernel_3", 87.0), ("kernel_5", 89.0), ("patch_2", 89.5)):
            study.run(rung, seed, top1 + 0.2 * seed, data=CIFAR10)
    (table,) = summarise(analysis.load(study.root))
    (kernels,) = sizes.panels(table, study.ladder)  # of patches only two sizes are done
    ours, theirs = kernels.lines
    assert [(x, y) for x, y, _ in ours.points] == [(3, pytest.approx(87.1)), (5, pytest.approx(89.1)), (9, 90.1)]
    assert theirs.paper and [x for x, _, _ in theirs.points] == [3, 5, 7, 9]
    for columns in (1, 2):
        figure = sizes.draw(table, study.ladder, columns=columns)
        assert figure is not None
        assert_readable(figure)
        labels = figure.axes[0].get_legend_handles_labels()[1]
        assert labels == ["ours", "the paper's"] and figure.axes[0].get_ylabel() == "CIFAR-10 top-1 (%)"
    text = FORMATS["text"]([table])
    assert "GFLOPs" not in text and "compare the changes, not the values" not in text and "95.11" in text
    marks = [line.get_xdata()[0] for line in star.draw(table).axes[0].lines if line.get_marker() == "D"]
    assert marks == [pytest.approx(-2.27), pytest.approx(-0.77), pytest.approx(-0.8)]


def test_on_other_data_the_papers_values_are_no_line(make_study: Make) -> None:
    study = make_study("d", ladder="convmixer_cifar10").chain(rungs=["convmixer_256_8", "kernel_3", "kernel_5"])
    (table,) = summarise(analysis.load(study.root))
    (kernels,) = sizes.panels(table, study.ladder)
    assert [line.paper for line in kernels.lines] == [False]
    assert "the paper's top-1 is on CIFAR-10, ours on digits" in FORMATS["text"]([table])
    assert not [line for line in star.draw(table).axes[0].lines if line.get_marker() == "D"]


def test_a_grid_of_two_numbers_is_a_line_for_each_value_of_the_other(
    make_study: Make, assert_readable: Readable
) -> None:
    study = make_study("g", ladder="convmixer_grid").chain(seeds=(0, 1))
    (table,) = summarise(analysis.load(study.root))
    found = {p.field: [line.label for line in p.lines] for p in sizes.panels(table, study.ladder)}
    assert found == {
        "width": ["depth 4", "depth 8", "depth 12", "depth 16"],
        "depth": ["width 64", "width 128", "width 256", "width 512"],
    }
    for columns in (1, 2):
        assert_readable(sizes.draw(table, study.ladder, columns=columns))


def test_what_a_step_changes_in_the_recipe_is_not_taken_for_a_size() -> None:
    ladder = load_ladder("convmixer_imagenet")  # 768/32 is trained longer
    assert sizes.panels(paper_table(ladder), ladder, paper=True) == []


def test_the_anatomy_of_both_ends_of_the_bridge() -> None:
    ladder = load_ladder("isotropic_to_convmixer")
    first, last = (anatomy(ladder.rungs[i].spec, 224) for i in (0, -1))
    assert [x.text for x in first.block] == ["dw 7×7, 384", "LN", "1×1, 384→1536", "GELU", "1×1, 1536→384", "+"]
    assert [x.text for x in last.block] == ["dw 9×9, 384", "GELU", "BN", "+", "1×1, 384→384", "GELU", "BN"]
    assert [x.text for x in first.stem] == ["16×16 /16, 3→384"]
    assert [x.text for x in last.stem] == ["16×16 /16, 3→384", "GELU", "BN"]
    assert (first.depths, first.channels, first.between) == ((18,), 384, ())


def test_a_shortcut_that_leaves_within_the_block_is_marked_where_it_leaves() -> None:
    both = IsotropicSpec(residual_pointwise=True, residual_block=True, layer_scale=0.1)
    kinds = [x.kind for x in anatomy(both, 32).block]
    assert kinds == [
        *("conv", "act", "norm", "scale", "add", "fork", "conv", "act", "norm", "scale", "add", "scale", "add"),
    ]


def test_drawings_of_an_ablation_say_what_it_changes_in_the_recipe() -> None:
    ladder = load_ladder("convmixer_cifar10")
    every = {d.rung: d for d in blocks.drawings(ladder, ladder.rungs)}
    assert every["no_randaugment"].notes == ("recipe: randaugment null", "the block stays")
    assert every["patch_2"].notes == ("stem: 2×2 /2, 3→256, GELU, BN", "the block stays")
    gone = [item.layer.text for item in every["no_residual"].items if item.state == "gone"]
    assert gone == ["+"]


SWIN, OTHER = "swin_tiny_patch4_window7_224", "test_resnet"


@pytest.fixture
def beside(make_study: Make) -> Any:
    study = make_study("t", ladder="convnext_t").chain(
        rungs=["resnet50", "stage_ratio", "gelu"], data={"name": "imagenet"}
    )
    for seed in (0, 1):
        study.run(SWIN, seed, 92.0 + seed, data={"name": "imagenet"}, macs=(4.5e9).__int__())
    study.run(OTHER, 0, state="failed", error="out of memory", data={"name": "imagenet"})
    return study


def test_references_stand_below_the_ladder_beside_their_published_numbers(beside: Any) -> None:
    (table,) = summarise(analysis.load(beside.root))
    swin, other = table.rows[-2:]
    assert (swin.kind, swin.title, swin.top1.mean, swin.paper.top1, swin.change) == (
        "reference",
        "Swin-T",
        92.5,
        81.3,
        None,
    )
    assert (other.kind, other.rung, other.top1, other.states) == ("reference", OTHER, None, {"failed": 1})
    assert [r.title for r in table.references] == ["ResNet-50 (90-epoch recipe)"]  # Swin-T stands with ours
    text = FORMATS["text"]([table])
    line = next(x for x in text.splitlines() if x.startswith(SWIN))
    assert "92.50 ±0.71" in line and "81.30" in line and "4.50" in line
    assert "references, models of timm trained by the same recipe" in text
    for kind in ("md", "latex", "html", "csv", "json"):
        assert "Swin-T" in FORMATS[kind]([table]), kind


def test_charts_show_references_apart_from_the_walk(beside: Any, assert_readable: Readable) -> None:
    runs = analysis.load(beside.root)
    for _, chart in study_charts(summarise(runs), analysis.load_curves(runs)):
        figure = chart.draw(2) if chart.stem in ("roadmap", "macs", "throughput", "curves") else None
        if figure is not None:
            assert_readable(figure)
    (table,) = summarise(runs)
    bars = {bar.rung: bar for bar in roadmap.bars(table)}
    assert (bars[SWIN].kind, bars[SWIN].label, bars[SWIN].value, bars[SWIN].paper) == (
        "reference",
        "Swin-T",
        92.5,
        81.3,
    )
    assert bars[OTHER].why == "1 failed"
    assert not [bar for bar in roadmap.bars(table) if bar.label == "Swin-T" and bar.rung != SWIN]


def test_the_command_that_makes_a_study_again_names_its_references(beside: Any) -> None:
    from analysis.compare.reproduce import commands

    frame = analysis.load(beside.root)
    again = [line for line in commands(frame) if "reference=" in line]
    assert len(again) == 2 and f"reference={SWIN}" in again[0] + again[1] and "rung=" not in again[0]
