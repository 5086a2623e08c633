"""Owns the tests of the roadmap chart and of the command that writes charts."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

import analysis
from analysis.compare.summary import paper_table, summarise
from analysis.figures import main
from analysis.show.charts import roadmap, style
from analysis.show.collection import paper_charts
from ladder.errors import UserError
from ladder.networks.rungs import load_ladder

Make = Callable[..., Any]
Readable = Callable[[Any], None]
REFERENCE = Path(analysis.__file__).parent / "read" / "reference" / "convnext_roadmap.csv"


def drawn_ends(axes: Any) -> dict[str, float]:
    """Right end of every bar, by its rung."""
    return {bar.get_label(): bar[0].get_x() + bar[0].get_width() for bar in containers(axes)}


def containers(axes: Any) -> list[Any]:
    return [c for c in axes.containers if isinstance(c, mpl.container.BarContainer)]


@pytest.mark.parametrize(("ladder", "regime"), [("convnext_t", "ResNet-50"), ("convnext_b", "ResNet-200")])
def test_published_chart_shows_the_published_csv(ladder: str, regime: str) -> None:
    with open(REFERENCE, newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["regime"].startswith(regime)]
    chain = [r for r in rows if int(r["rung_order"]) > 0]  # 0: the original recipe, not in Figure 2
    assert len(chain) == 17  # 13 rungs, 3 variants, Swin
    table = paper_table(load_ladder(ladder))
    bars = roadmap.bars(table, paper=True)
    assert [bar.value for bar in bars] == [float(r["top1_mean"]) for r in chain]
    assert [bar.std for bar in bars] == [float(r["top1_std"]) if r["top1_std"] else None for r in chain]
    assert [bar.macs for bar in bars] == [float(r["gflops"]) for r in chain]
    figure = roadmap.draw(table, paper=True)
    ends = drawn_ends(figure.axes[0])
    for bar in bars[:-1]:
        assert ends[bar.rung] == pytest.approx(bar.value)
    assert ends["_reference"] == pytest.approx(bars[-1].value)


def test_macs_that_are_doubted_are_shown_as_counted_beside_the_printed_ones() -> None:
    chart = next(c for c in paper_charts("convnext_t") if c.stem == "paper_convnext_t_roadmap")
    figure = chart.draw(2)
    assert figure is not None
    shown = {line.get_label(): line.get_xdata()[0] for line in figure.axes[1].lines}
    assert (shown["layer_norm"], shown["separate_downsampling"]) == pytest.approx((4.146, 4.456), abs=5e-4)
    assert shown["gelu"] == 4.15
    assert [t.get_text() for t in figure.axes[1].texts if "*" in t.get_text()] == ["4.1*", "4.5*"]
    assert "*: MACs as counted, printed are 4.46 and 4.49" in " ".join(
        " ".join(t.get_text() for t in figure.texts).split()
    )


def test_bars_are_our_means_in_the_papers_order_with_variants_hatched(make_study: Make) -> None:
    study = make_study().chain()
    for rung, top1 in (("kernel_5", 92.0), ("kernel_9", 93.0)):
        for seed in range(2):
            study.run(rung, seed, top1 + seed)
    study.run("kernel_11", 0, state="failed", error="x")
    (table,) = summarise(analysis.load(study.root))
    figure = roadmap.draw(table)
    axes, macs = figure.axes
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert labels[6:11] == ["move up depthwise conv", *(f"kernel size {k}" for k in (5, 7, 9, 11))]
    ends = drawn_ends(axes)
    for row in table.rows:
        if row.top1:
            assert ends[row.rung] == pytest.approx(row.top1.mean)
    hatched = {bar.get_label() for bar in containers(axes) if bar[0].get_hatch()}
    assert hatched == {"kernel_5", "kernel_9"}
    texts = [t.get_text().strip() for t in axes.texts]
    assert "1 failed" in texts and "92.5" in texts
    errors = [c for c in axes.containers if c not in containers(axes)]
    assert len(errors) == 15
    assert [t.get_text() for t in macs.texts] == ["35.2"] * 15 and macs.get_title() == "MACs (M)"
    groups = {t.get_text().replace("\n", " ") for t in figure.texts}
    assert {"macro design", "ResNeXt-ify", "inverted bottleneck", "large kernel", "micro design"} <= groups


def test_one_seed_has_no_error_bar_and_another_data_set_no_imagenet_reference(make_study: Make) -> None:
    study = make_study("t", ladder="convnext_t").chain(seeds=[0])
    (table,) = summarise(analysis.load(study.root))
    bars = roadmap.bars(table)
    assert all(bar.std is None and bar.paper is None and bar.kind != "reference" for bar in bars)
    imagenet = make_study("i", ladder="convnext_t").chain(seeds=[0], data={"name": "imagenet"})
    bars = roadmap.bars(summarise(analysis.load(imagenet.root))[0])
    assert [bar.paper for bar in bars][:2] == [78.82, 79.36]


def test_both_regimes_in_one_chart() -> None:
    t, b = (paper_table(load_ladder(name)) for name in ("convnext_t", "convnext_b"))
    bars = roadmap.bars(t, paper=True, behind=b)
    assert (bars[0].label, bars[0].value, bars[0].behind) == ("ResNet-50 / 200", 78.82, 81.14)
    assert (bars[-1].label, bars[-1].value, bars[-1].behind) == ("Swin-T / B", 81.30, 83.50)
    assert all(bar.behind is not None for bar in bars)


@pytest.mark.parametrize("columns", [1, 2])
def test_nothing_is_cut_off_and_no_labels_overlap(make_study: Make, assert_readable: Readable, columns: int) -> None:
    study = make_study("t", ladder="convnext_t").chain(data={"name": "imagenet"})
    tables = summarise(analysis.load(study.root))
    t, b = (paper_table(load_ladder(name)) for name in ("convnext_t", "convnext_b"))
    for figure in (
        roadmap.draw(tables[0], columns=columns),
        roadmap.draw(t, paper=True, behind=b, columns=columns),
        roadmap.draw(b, paper=True, columns=columns),
    ):
        assert figure.get_size_inches()[0] == style.WIDTHS[columns]
        assert_readable(figure)


def test_drawing_leaves_matplotlib_as_it_was(make_study: Make, tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    before = dict(mpl.rcParams)
    study = make_study().chain(seeds=[0])
    main([str(study.root), "--out", str(tmp_path), "--formats", "png"])
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []


def test_a_notebooks_own_style_does_not_change_the_chart(make_study: Make, tmp_path: Path) -> None:
    study = make_study().chain(seeds=[0])
    main([str(study.root), "--out", str(tmp_path / "a"), "--formats", "svg", "--only", "roadmap"])
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "axes.grid": True}):
        main([str(study.root), "--out", str(tmp_path / "b"), "--formats", "svg", "--only", "roadmap"])
    for name in ("a", "b"):
        assert (tmp_path / name / "roadmap.svg").exists()
    assert (tmp_path / "a" / "roadmap.svg").read_bytes() == (tmp_path / "b" / "roadmap.svg").read_bytes()


def test_command_prints_the_paths_that_it_wrote(make_study: Make, capsys: Any) -> None:
    study = make_study().chain(seeds=[0])
    assert main([str(study.root), "--only", "roadmap", "--only", "curves"]) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert study.root / "figures" / "roadmap.svg" in paths
    magic = {".svg": b"<?xml", ".pdf": b"%PDF", ".png": b"\x89PNG"}
    for path in paths:
        assert path.read_bytes().startswith(magic[path.suffix])
    assert {p.suffix for p in paths} == set(magic)


def test_paper_charts_need_no_run(tmp_path: Path, capsys: Any) -> None:
    assert main(["--paper", "convnext_t", "--out", str(tmp_path), "--formats", "svg", "--only", "roadmap"]) == 0
    names = {Path(line).name for line in capsys.readouterr().out.splitlines()}
    assert names == {"paper_convnext_t_roadmap.svg", "paper_convnext_t_and_convnext_b_roadmap.svg"}
    assert names == {p.name for p in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], r"give a study folder, such as runs/demo, or --paper LADDER"),
        (["--paper", "convnext_tt"], r"unknown ladder 'convnext_tt'; did you mean convnext_t"),
        (["--paper", "convnext_t", "--formats", "svg,jpg"], r"unknown format 'jpg'; .*allowed: svg, pdf, png"),
        (["--paper", "convnext_t", "--formats", ","], r"--formats is empty"),
        (["--paper", "convnext_t", "--out", "/dev/null/x"], r"can't write /dev/null/x/.*: /dev/null/x is not a folder"),
        (["nowhere/at/all"], r"no study folder nowhere/at/all"),
    ],
)
def test_wrong_options_are_one_line(options: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(options)
