"""Owns the tests of the charts beside the roadmap: what is drawn is what the numbers and the networks are."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex

import analysis
from analysis.compare.summary import paper_table, summarise
from analysis.figures import main
from analysis.read import published
from analysis.show.anatomy import Layer, anatomy
from analysis.show.charts import blocks, cost, curves, roadmap, scatter, star, style
from analysis.show.charts import published as points
from analysis.show.collection import paper_charts, stems, study_charts
from ladder.errors import UserError
from ladder.networks.cost import measure_cost
from ladder.networks.rungs import load_ladder
from ladder.networks.spec import TimmSpec
from ladder.networks.zoo import build_model

Make = Callable[..., Any]
Readable = Callable[[Any], None]


def tables_of(study: Any) -> Any:
    return summarise(analysis.load(study.root))


def said(figure: Any) -> str:
    """The title and the caption of a chart, on one line."""
    return " ".join(" ".join(text.get_text() for text in figure.texts).split())


def words(layers: Any) -> list[str]:
    return [layer.text for layer in layers]


@pytest.fixture
def full(make_study: Make) -> Any:
    study = make_study().chain()
    for seed in range(2):
        study.run("kernel_9", seed, 93.0 + seed)
    study.run("kernel_11", 0, state="running", epochs_done=2)
    return study


def test_scatter_has_a_point_for_each_rung_at_its_cost_and_accuracy(full: Any) -> None:
    (table,) = tables_of(full)
    figure = scatter.draw_ladder(table, "macs")
    assert figure is not None
    axes = figure.axes[0]
    got = {
        c.get_label(): tuple(c.get_offsets()[0])
        for c in axes.collections
        if hasattr(c, "get_sizes") and c.get_sizes().size
    }
    assert got["separate downsampling conv"] == pytest.approx((35.2, 96.1), abs=0.01)
    assert len(got) == 14 and axes.get_xlabel() == "MACs (M)"
    numbers = {*map(str, range(13)), "a"}
    assert {t.get_text() for t in axes.texts} == numbers, "each point has its number, a rung beside the walk a letter"
    key = [text.get_text() for text in figure.texts]
    assert all(key[key.index(number) + 1] in got for number in numbers) and set(got) <= set(key)
    fast = scatter.draw_ladder(table, "images_per_s")
    assert fast is not None and fast.axes[0].get_xlabel() == "training throughput (images/s)"


def test_bubble_areas_are_in_proportion_to_parameters() -> None:
    points = [scatter.Point("a", 1, 80, params=1e6, series="s"), scatter.Point("b", 2, 81, params=4e6, series="s")]
    figure = scatter._draw(points, "x", "y", "t", [], 2)
    sizes = [c.get_sizes()[0] for c in figure.axes[0].collections if hasattr(c, "get_sizes") and c.get_sizes().size]
    assert sizes[1] == pytest.approx(4 * sizes[0])


def test_of_many_networks_those_are_named_that_none_beats_in_both() -> None:
    beaten = [scatter.Point(f"beaten {i}", 5 + i, 70 - i) for i in range(30)]
    front = [scatter.Point("cheap", 1, 60), scatter.Point("between", 3, 70), scatter.Point("best", 9, 80)]
    macs = scatter._draw([*beaten, *front], "x", "y", "t", [], 2)
    assert {t.get_text() for t in macs.axes[0].texts} - {""} == {"a", "b", "c"}
    assert {"cheap", "between", "best"} == {t.get_text() for t in macs.texts} - {"a", "b", "c", "."}
    speed = scatter._draw(
        [*beaten, scatter.Point("best", 9, 80), scatter.Point("fast", 50, 60)], "x", "y", "t", [], 2, -1
    )
    assert {"best", "fast"} <= {t.get_text() for t in speed.texts}


def test_a_network_has_one_colour_in_all_charts(full: Any) -> None:
    (table,) = tables_of(full)
    colours = style.of_rows(table.rows)
    bars = {bar.get_label(): bar for bar in roadmap.draw(table).axes[0].containers}
    drawn = scatter.draw_ladder(table, "macs")
    assert drawn is not None
    points = {c.get_label(): c for c in drawn.axes[0].collections}
    for row in (table.row("gelu"), table.row("resnet"), table.row("depthwise_conv")):
        bar, point = bars[row.rung].patches[0], points[row.title]
        assert to_hex(bar.get_facecolor()) == to_hex(point.get_facecolor()[0]) == colours[row.rung]


def test_titles_are_in_the_figures_only_where_they_are_asked_for(full: Any) -> None:
    (table,) = tables_of(full)
    plain = roadmap.draw(table)
    with style.titles():
        titled = roadmap.draw(table)
    assert table.title not in said(plain) and table.title in said(titled)
    assert titled.get_figheight() > plain.get_figheight()


def test_a_design_of_many_subsets_has_no_bars_and_no_curves_of_them(make_study: Make) -> None:
    study = make_study()
    free = ("stage_ratio", "patchify_stem", "depthwise_conv", "gelu", "layer_norm")
    for pair in itertools.chain(itertools.combinations(free, 2), itertools.combinations(free, 3)):
        study.run("", 0, 90.0, steps=pair)
    tables = tables_of(study)
    stems_drawn = [chart.stem for _, chart in study_charts(tables, analysis.load_curves(study.root))]
    assert "macs" in stems_drawn and not {"roadmap", "curves", "curves_loss"} & set(stems_drawn)


def test_one_evaluation_is_no_curve_and_the_last_epoch_has_a_tick(full: Any) -> None:
    (table,) = tables_of(full)
    frame = analysis.load_curves(full.root)
    assert curves.draw(table, frame[frame["epoch"] == 3]) is None
    figure = curves.draw(table, frame)
    assert figure is not None
    low, high = figure.axes[0].get_xlim()
    assert sorted(figure.axes[0].get_xticks()) == [1, 2, 3] and 0.5 < low < 1 and 3 < high < 3.5


def test_curves_are_the_mean_over_seeds_with_their_range(full: Any) -> None:
    (table,) = tables_of(full)
    frame = analysis.load_curves(full.root)
    figure = curves.draw(table, frame)
    assert figure is not None
    titles = [a.get_title(loc="left") for a in figure.axes]
    assert titles == ["macro design", "ResNeXt-ify", "inverted bottleneck", "large kernel", "micro design"]
    macro = figure.axes[0]
    lines = {line.get_label(): line for line in macro.lines}
    assert set(lines) == {"ResNet", "stage ratio 1:1:3:1", "patchify stem"}
    mine = frame[frame["rung"] == "stage_ratio"]
    wanted = mine.groupby("epoch")["top1"].mean()
    assert list(lines["stage ratio 1:1:3:1"].get_xdata()) == [1, 2, 3]
    assert list(lines["stage ratio 1:1:3:1"].get_ydata()) == pytest.approx(list(wanted))
    assert len(macro.collections) == 3  # a band each
    running = {line.get_label(): line for line in figure.axes[3].lines}["kernel size 11"]
    assert list(running.get_xdata()) == [1, 2]
    assert curves.draw(table, frame.iloc[:0]) is None


def test_seeds_of_other_epochs_are_a_line_each_and_their_mean_is_not_drawn(make_study: Make) -> None:
    study = make_study().chain(rungs=["resnet", "stage_ratio"])
    (table,) = tables_of(study)
    frame = analysis.load_curves(study.root)
    late = (frame["rung"] == "stage_ratio") & (frame["seed"] > 0) & (frame["epoch"] < 3)
    figure = curves.draw(table, frame[~late])
    assert figure is not None
    (axes,) = figure.axes
    mine = [line for line in axes.lines if line.get_color() == curves._looks(table)["stage_ratio"][0]]
    seeds = {seed: part["top1"].tolist() for seed, part in frame[~late].groupby(["rung", "seed"])}
    assert [list(line.get_ydata()) for line in mine] == [seeds["stage_ratio", seed] for seed in range(3)]
    assert len(axes.collections) == 1, "the band is that of the base, whose seeds have the same epochs"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["ResNet", "stage ratio 1:1:3:1"]
    caption = said(figure)
    assert "band: range over 3 seeds" in caption and "a line or a dot for each seed, of rungs whose seeds" in caption
    assert "thin: the rung before the group's first step" in caption


def test_captions_say_what_is_in_the_picture_and_nothing_else(make_study: Make) -> None:
    study = make_study().chain(rungs=["resnet"], top1=lambda index, seed: 0.5 * seed)
    (table,) = tables_of(study)
    bars = said(roadmap.draw(table))
    assert "axis" not in bars and "hatched" not in bars and "error bars: ± std over 3 seeds" in bars
    lines = curves.draw(table, analysis.load_curves(study.root))
    assert lines is not None and "thin" not in said(lines)
    study.chain(rungs=["stage_ratio"], top1=lambda index, seed: 50.0 + seed**2)
    study.run("kernel_9", 0, state="failed")
    (table,) = tables_of(study)
    changes = star.draw(table)
    assert changes is not None and not {"square", "hollow", "cross", "diamond"} & set(said(changes).split())
    assert "not run: patchify stem, depthwise conv" in said(roadmap.draw(table))
    assert "axis does not start at 0" in said(roadmap.draw(paper_table(load_ladder("convnext_t")), paper=True))


def test_star_chart_names_what_a_step_is_compared_to_where_it_is_not_its_neighbour(make_study: Make) -> None:
    (table,) = tables_of(make_study().chain(rungs=["resnet", "stage_ratio", "gelu"]))
    figure = star.draw(table)
    assert figure is not None
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["stage ratio 1:1:3:1", "ReLU to GELU (to stage ratio 1:1:3:1)"]


def test_star_chart_shows_each_change_its_interval_and_noise_hollow(make_study: Make) -> None:
    study = make_study()
    for seed, (a, b, c) in enumerate([(90.0, 91.0, 91.2), (90.1, 91.1, 90.9), (90.2, 91.25, 91.4)]):
        for rung, top1 in (("resnet", a), ("stage_ratio", b), ("patchify_stem", c)):
            study.run(rung, seed, top1)
    (table,) = tables_of(study)
    figure = star.draw(table)
    assert figure is not None
    axes = figure.axes[0]
    bars = {c.get_label(): c for c in axes.containers}
    assert set(bars) == {"stage_ratio", "patchify_stem"}
    for rung, container in bars.items():
        row = table.row(rung)
        marker, _, (line,) = container.lines
        assert marker.get_xdata()[0] == pytest.approx(row.change.delta)
        (low, _), (high, _) = line.get_segments()[0]
        assert (low, high) == (pytest.approx(row.change.low), pytest.approx(row.change.high))
        hollow = mpl.colors.to_hex(marker.get_markerfacecolor()) == style.PAPER
        assert hollow == row.change.within_noise
    assert {t.get_text().split(" ")[0] for t in axes.texts} == {f"{table.row(r).change.delta:+.2f}" for r in bars}


def test_star_chart_without_std_has_crosses_and_no_intervals() -> None:
    figure = star.draw(paper_table(load_ladder("convnext_b")), paper=True)
    assert figure is not None and not figure.axes[0].containers
    assert sum(line.get_marker() == "x" for line in figure.axes[0].lines) == 15


@pytest.mark.parametrize("by", ["kind", "stage"])
def test_cost_bars_add_up_to_the_cost_of_the_network(by: str) -> None:
    ladder = load_ladder("convnext_t")
    rungs = [ladder.rung(n) for n in ("resnet50", "kernel_9", "separate_downsampling")]
    data = cost.breakdowns(ladder, rungs, by, image_size=224, num_classes=1000)
    figure = cost.draw("t", data, by, "note")
    for which, axes in enumerate(figure.axes):
        ends = [
            max(p.get_x() + p.get_width() for p in axes.patches if abs(p.get_y() + 0.36 - y) < 0.1) for y in range(3)
        ]
        for rung, end in zip(rungs, ends, strict=True):
            whole = measure_cost(build_model("convnext_t", rung=rung.name), 224)
            wanted = (whole.macs / 1e9, whole.params / 1e6)[which]
            assert end == pytest.approx(wanted, rel=1e-6)


def test_cost_knows_the_kinds_and_stages_of_the_last_rung() -> None:
    ladder = load_ladder("convnext_t")
    top = [ladder.rung("separate_downsampling")]
    (kinds,) = cost.breakdowns(ladder, top, "kind", image_size=224, num_classes=1000)
    assert kinds.parts["linear"][1] == 768 * 1000 + 1000  # the classifier alone
    assert kinds.parts["depthwise conv"][1] == sum(
        d * w * 50 for d, w in zip((3, 3, 9, 3), (96, 192, 384, 768), strict=True)
    )
    (parts,) = cost.breakdowns(ladder, top, "stage", image_size=224, num_classes=1000)
    assert set(parts.parts) == {"stem", "stage 1", "stage 2", "stage 3", "stage 4", "head"}
    assert parts.parts["stem"][0] == 48 * 96 * 56 * 56


def test_anatomy_of_resnet_and_convnext_is_the_papers_figure_4() -> None:
    ladder = load_ladder("convnext_t")
    first, last = (anatomy(ladder.rung(n).spec, 224) for n in ("resnet50", "separate_downsampling"))
    assert words(first.stem) == ["7×7 /2, 3→64", "BN", "ReLU", "max pool /2"]
    assert words(first.block) == [
        *("1×1, 256→64", "BN", "ReLU", "3×3, 64→64", "BN", "ReLU", "1×1, 64→256", "BN", "+", "ReLU"),
    ]
    assert words(first.between) == ["in the first block: 3×3 /2, 128→128"]
    assert words(last.block) == ["dw 7×7, 96", "LN", "1×1, 96→384", "GELU", "1×1, 384→96", "layer scale", "+"]
    assert words(last.stem) == ["4×4 /4, 3→96", "LN"] and words(last.between) == ["LN", "2×2 /2, 96→192"]
    assert last.depths == (3, 3, 9, 3) and (first.channels, last.channels) == (256, 96)


def test_drawings_mark_what_a_step_brought_changed_and_took_away() -> None:
    ladder = load_ladder("convnext_t")
    every = {d.rung: d for d in blocks.drawings(ladder, [*ladder.rungs, *ladder.side_rungs])}

    def by_state(rung: str, state: str) -> list[str]:
        return [item.layer.text for item in every[rung].items if item.state == state]

    assert by_state("depthwise_conv", "new") == ["dw 3×3, 64"] and by_state("depthwise_conv", "gone") == []
    assert by_state("gelu", "new") == ["GELU"] * 3 and by_state("gelu", "gone") == []
    assert by_state("fewer_activations", "gone") == ["GELU"] * 2 and by_state("fewer_activations", "new") == []
    assert by_state("fewer_norms", "gone") == ["BN"] * 2
    assert by_state("layer_norm", "new") == ["LN"]
    assert by_state("kernel_9", "new") == ["dw 9×9, 96"]
    assert by_state("resnet50", "new") == []
    assert every["patchify_stem"].notes == ("stem: 4×4 /4, 3→64", "the block stays")
    assert every["stage_ratio"].notes == ("stages: 3:3:9:3", "the block stays")
    assert every["separate_downsampling"].notes == ("stem: 4×4 /4, 3→96, LN", "between stages: LN, 2×2 /2, 96→192")
    assert every["increase_width"].notes == ()


@given(st.lists(st.sampled_from("abcde"), max_size=8), st.lists(st.sampled_from("abcde"), max_size=8))
def test_comparison_keeps_the_new_block_whole(before: list[str], after: list[str]) -> None:
    make = [Layer(x, "conv") for x in before], [Layer(x, "conv") for x in after]
    items = blocks.compare(*make)
    assert [i.layer.text for i in items if i.state != "gone"] == after
    if before == after:
        assert all(i.state == "same" for i in items)


def test_published_rows_hold_nothing_from_memory_and_no_paths() -> None:
    for path in published.FOLDER.iterdir():
        text = path.read_text()
        assert "memory" not in text and not re.search(
            r"(^|[\s,\"'(])/\w+/", text
        )  # no row of recall, no machine's path


def test_published_charts_show_the_csv() -> None:
    swin_t = next(p for p in points.imagenet_points("gflops") if (p.series, p.label) == ("Swin", "T"))
    assert (swin_t.x, swin_t.top1, swin_t.params) == (4.5, 81.3, 28e6)
    assert {p.series for p in points.imagenet_points("throughput_a100_img_s")} == {"Swin", "ConvNeXt"}
    assert all(math.isfinite(p.x) for p in points.isotropic_points()) and len(points.isotropic_points()) == 6


@pytest.mark.slow
@pytest.mark.parametrize("columns", [1, 2])
def test_no_text_of_any_published_chart_is_cut_or_overlapped(assert_readable: Readable, columns: int) -> None:
    seen = set()
    others = [*paper_charts("convmixer"), *paper_charts("isotropic_to_convmixer")]
    for chart in (*paper_charts("convnext_t"), *(c for c in others if "_cost_" not in c.stem)):
        with style.context(columns):
            figure = chart.draw(columns)
            assert figure is not None
            assert_readable(figure)
        assert figure.get_size_inches()[0] == style.WIDTHS[columns]
        seen.add(chart.stem)
    assert len(seen) == 19


@pytest.mark.parametrize("columns", [1, 2])
def test_no_text_of_any_study_chart_is_cut_or_overlapped(assert_readable: Readable, full: Any, columns: int) -> None:
    runs = analysis.load(full.root)
    stems_seen = []
    for _, chart in study_charts(summarise(runs), analysis.load_curves(runs)):
        with style.context(columns):
            figure = chart.draw(columns)
            assert figure is not None
            assert_readable(figure)
        stems_seen.append(chart.stem)
    assert stems_seen == [
        *("roadmap", "changes", "sizes", "macs", "throughput", "curves", "curves_loss"),
        *("blocks", "cost_by_kind", "cost_by_stage"),
    ]


def test_a_study_with_one_run_draws_what_it_can(make_study: Make, tmp_path: Path, capsys: Any) -> None:
    study = make_study()
    study.run("gelu", 0, 91.0)
    assert main([str(study.root), "--out", str(tmp_path), "--formats", "png", "--only", "ma", "--only", "road"]) == 0
    assert [Path(p).name for p in capsys.readouterr().out.splitlines()] == ["roadmap.png"]
    with pytest.raises(UserError, match="no chart to draw with --only pie; there are: roadmap, changes"):
        main([str(study.root), "--only", "pie"])


def test_networks_with_overridden_choices_are_not_drawn_as_the_ladders(make_study: Make) -> None:
    study = make_study().chain(rungs=["resnet"], spec={"kernel_size": 5})
    names = [chart.stem for _, chart in study_charts(tables_of(study), None)]
    assert "blocks" not in names and "roadmap" in names


def test_all_that_is_published_is_every_ladder_and_convmixer() -> None:
    stems_of = {name: [chart.stem for chart in paper_charts(name)] for name in ("all", "convnext_t", "convmixer")}
    assert {*stems_of["convnext_t"], *stems_of["convmixer"], "paper_convnext_b_roadmap"} <= set(stems_of["all"])
    assert {"paper_convmixer_cifar10_sizes", "paper_convmixer_imagenet_changes"} <= set(stems_of["convmixer"])
    assert len(set(stems_of["all"])) == len(stems_of["all"])


def test_of_a_ladder_without_published_numbers_the_networks_are_drawn() -> None:
    stems_of = [chart.stem for chart in paper_charts("convnext_32")]
    assert stems_of == ["convnext_32_blocks", "convnext_32_cost_by_kind", "convnext_32_cost_by_stage"]
    with pytest.raises(UserError, match="unknown ladder 'convnext_33'; did you mean convnext_32"):
        list(paper_charts("convnext_33"))


def test_charts_of_several_tables_have_names_of_their_own(make_study: Make) -> None:
    study = make_study()
    for lr in (0.001, 0.004):
        study.chain(rungs=["resnet"], recipe={"lr": lr})
    tables = summarise(analysis.load(study.root), compare=["recipe.lr"])
    assert stems(tables) == ["convnext_32_digits_recipe.lr=0.001_", "convnext_32_digits_recipe.lr=0.004_"]
    assert stems(tables[:1]) == [""]


def test_blocks_of_timms_resnet_tell_of_its_stem_and_its_shortcut() -> None:
    ladder = load_ladder("resnet_d")
    notes = {drawing.rung: drawing.notes for drawing in blocks.drawings(ladder, ladder.rungs, 64)}
    assert any("3×3, 32→64" in note for note in notes["deep_stem"])
    assert any("avg pool /2" in note for note in notes["average_shortcut"])


def test_a_network_without_equal_blocks_has_no_drawing() -> None:
    with pytest.raises(UserError, match="no drawing of the blocks: this network has no sequence of equal blocks"):
        anatomy(TimmSpec("vgg11"), 64)


def test_costs_tenfold_apart_are_on_a_log_axis_and_all_points_within(make_study: Make) -> None:
    study = make_study()
    for rung, macs in (("resnet", 1_000_000), ("stage_ratio", 3_000_000), ("gelu", 30_000_000)):
        study.run(rung, 0, 90.0, result={"macs": macs})
    (table,) = summarise(analysis.load(study.root))
    figure = scatter.draw_ladder(table, "macs")
    assert figure is not None
    axes = figure.axes[0]
    low, high = axes.get_xlim()
    assert axes.get_xscale() == "log" and 0 < low < 1 and high > 30


@pytest.mark.parametrize("text", ["a b c d e f g h i j k l m n o p 0.", "one two three four five six noise."])
def test_no_word_stands_alone_on_a_last_line(text: str) -> None:
    for width in (0.6, 0.8, 1.0, 1.2):
        lines = style.wrap(text, width, 7.0)
        assert " ".join(lines) == text
        assert len(lines) < 2 or " " in lines[-1] or lines[-2].count(" ") <= 2


def test_a_last_line_is_no_leftover() -> None:
    text = (
        "Last epoch on the test split, recipe digits, 4 epochs of 1,438 images; error bars: ± std over 3 seeds; the "
        "axis does not start at 0."
    )
    for width in (2.0, 3.2, 4.4, 5.6, 6.8):
        lines = style.wrap(text, width, 7.0)
        assert " ".join(lines) == text and len(lines) > 1
        assert len(lines[-1]) >= max(map(len, lines)) / 5, lines
    assert style.wrap("", 3.0, 7.0) == []
