"""Owns the tests of tables: numbers, refusals, what is said to be missing, and that every format reads back."""

from __future__ import annotations

import csv
import io
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import analysis
from analysis.compare.summary import Table, paper_table, summarise
from analysis.show.escape import beyond_pdftex, tex
from analysis.show.formats import FORMATS, latex
from analysis.table import main
from ladder.errors import UserError
from ladder.networks.rungs import load_ladder
from ladder.runs.study import remember

Make = Callable[..., Any]
IMAGENET = {"name": "imagenet", "image_size": 224, "in_chans": 3}


def only(study: Any, **options: Any) -> Table:
    (table,) = summarise(analysis.load(study.root), **options)
    return table


def csv_rows(*tables: Table) -> dict[str, dict[str, str]]:
    return {row["rung"]: row for row in csv.DictReader(io.StringIO(FORMATS["csv"](tables)))}


def test_numbers_against_hand_computation(make_study: Make) -> None:
    study = make_study().chain(rungs=[])
    before = {0: 90.0, 1: 90.4, 2: 90.1}
    after = {0: 91.0, 1: 90.9, 2: 91.3}
    for seed in before:
        study.run("resnet", seed, before[seed])
        study.run("stage_ratio", seed, after[seed], params=1_234_000, macs=30_000_000)
    row = only(study).row("stage_ratio")
    assert row is not None and row.top1 is not None and row.change is not None
    assert row.top1.mean == pytest.approx(91.0667, abs=1e-4)
    assert row.top1.std == pytest.approx(statistics.stdev(after.values()))
    differences = [1.0, 0.5, 1.2]
    half = 4.302653 * statistics.stdev(differences) / 3**0.5  # t of 2 degrees of freedom at 97.5%
    assert (row.change.delta, row.change.half) == (pytest.approx(0.9), pytest.approx(half, abs=1e-5))
    assert row.change.within_noise is False and row.change.method == "paired"
    assert (row.params, row.macs, row.images_per_s) == (1_234_000, 30_000_000, 901)
    text = FORMATS["text"]([only(study)])
    assert "91.07 ±0.21" in text and "+0.90 ±0.90" in text and "1.23    30.0" in text


def test_the_headline_is_the_last_epoch_and_says_so(make_study: Make) -> None:
    study = make_study()
    study.run("resnet", 0, 90.0, best={"top1": 99.0, "epoch": 1})
    text = FORMATS["text"]([only(study)])
    assert "90.00" in text and "99.00" not in text
    assert (
        "top-1 of the last epoch on the test split (360 images), recipe tiny, 3 epochs of 1,437 images, batch 64, 32 px"
        in text
    )


def test_rungs_in_ladder_order_and_side_rungs_under_their_parent_against_it(make_study: Make) -> None:
    study = make_study().chain()
    for seed in range(3):
        study.run("kernel_9", seed, 95.0 + seed / 10)
    table = only(study)
    names = [row.rung for row in table.rows]
    main_names = [r.name for r in load_ladder("convnext_32").rungs]
    at = names.index("move_up_depthwise")
    assert names[at + 1] == "kernel_9" and [n for n in names if n != "kernel_9"] == main_names
    side, parent = table.row("kernel_9"), table.row("move_up_depthwise")
    assert side is not None and parent is not None and side.against == "move_up_depthwise"
    assert side.change is not None and side.change.delta == pytest.approx(95.1 - 93.1)
    assert "└ kernel_9 (side)" in FORMATS["text"]([table])


def test_paper_columns_and_the_papers_steps_marked_alike(make_study: Make) -> None:
    study = make_study("t", ladder="convnext_t").chain(data=IMAGENET, rungs=["resnet50", "stage_ratio"])
    rows = csv_rows(only(study))
    assert (rows["stage_ratio"]["paper_top1"], rows["stage_ratio"]["paper_change"]) == ("79.36", "0.54")
    assert rows["stage_ratio"]["paper_within_noise"] == "False"
    assert rows["patchify_stem"]["paper_within_noise"] == "True"
    assert rows["kernel_9"]["paper_gflops"] == "4.21"
    text = FORMATS["text"]([only(study, complete=True)])
    assert "4.46 [1]" in text and "[1] Table 10 prints 4.46" in text and "Swin-T" in text
    assert "compare the changes" not in text  # ours is on the paper's data set


def test_the_papers_numbers_beside_another_data_set_carry_a_warning(make_study: Make) -> None:
    study = make_study("t", ladder="convnext_t").chain(rungs=["resnet50"])
    assert "the paper's top-1 is on ImageNet, ours on digits" in FORMATS["text"]([only(study)])


def test_ladder_b_gives_no_std_so_no_interval_and_no_mark() -> None:
    rows = csv_rows(paper_table(load_ladder("convnext_b")))
    assert all(row["paper_change_low"] == "" and row["paper_within_noise"] == "" for row in rows.values())
    with pytest.raises(UserError, match="convnext_32 quotes no published top-1"):
        paper_table(load_ladder("convnext_32"))


def test_one_seed_has_a_change_but_no_std_and_no_interval(make_study: Make) -> None:
    table = only(make_study().chain(seeds=[0]))
    text = FORMATS["text"]([table])
    assert "no std and no interval where a rung has one seed" in text
    assert "±" not in text.split("---")[-1].splitlines()[0] and "+0.50\n" not in text
    assert "nan" not in text.lower()
    row = json.loads(FORMATS["json"]([table]))["tables"][0]["rows"][1]
    assert row["top1"]["std"] is None and row["change"]["low"] is None and row["change"]["delta"] == pytest.approx(0.5)


def test_a_half_finished_study_says_what_is_missing(make_study: Make) -> None:
    study = make_study().chain(rungs=["resnet", "stage_ratio"])
    study.run("patchify_stem", 0, 91.0)
    study.run("patchify_stem", 1, state="failed", error="loss is not\nfinite at step 3")
    study.run("depthwise_conv", 0, state="running")
    text = " ".join(FORMATS["text"]([only(study)]).split())
    assert "7 of 9 runs done (1 failed, 1 running)" in text
    assert "failed: patchify_stem seed 1: loss is not finite at step 3" in text
    assert "not run: increase_width, inverted_bottleneck" in text
    assert "3 not launched, by the seeds of the other rungs: patchify_stem seed 2, depthwise_conv seed 1" in text
    assert " 1/2 " in text and " 0/1 " in text


def test_what_a_study_was_asked_for_counts_also_while_it_runs(make_study: Make) -> None:
    study = make_study().chain(rungs=["resnet", "stage_ratio"])
    names = [path.name for path in study.root.iterdir()]
    remember(study.root, "ladder train -m", [*names, "gelu-s0-00000000", "gelu-s1-00000000"])
    remember(study.root, "ladder train -m again", ["gelu-s1-00000000"])
    assert "6 of 8 runs done (2 pending)" in only(study).notes
    assert "2 of 2 runs done" in only(study, where={"seed": "0"}).notes, "what has no folder has no seed"
    study.run("gelu", 0, 91.0)
    remember(study.root, "ladder train -m", [*names, "gelu-s1-00000000"])
    assert [note for note in only(study).notes if "gelu" in note] == [
        "1 not launched, by the seeds of the other rungs: gelu seed 2"
    ], "seed 1 is pending"


def test_a_run_whose_figures_are_not_those_of_a_trained_network_is_marked(make_study: Make) -> None:
    study = make_study().chain(rungs=["resnet", "stage_ratio"])
    study.run("patchify_stem", 0, 10.5)  # of 10 classes; its training loss is 0.2
    text = " ".join(FORMATS["text"]([only(study)]).split())
    assert "2 patchify_stem ! 10.50" in text and "1 stage_ratio 90.4" in text
    assert "! patchify_stem seed 0: top-1 10.50 is that of guessing among 10 classes, though the training loss" in text
    short = make_study("short").chain(rungs=["resnet"], recipe={"warmup_epochs": 3})
    assert "! resnet seed 2: it ended within its warm-up of 3 epochs" in " ".join(only(short).notes)


def test_a_change_is_to_the_nearest_trained_rung_before_and_names_it(make_study: Make) -> None:
    study = make_study("t", ladder="convnext_t")
    study.chain(rungs=["resnet50", "stage_ratio", "increase_width", "move_up_depthwise"], data=IMAGENET)
    study.run("patchify_stem", 0, state="failed", data=IMAGENET)
    study.run("kernel_9", 0, 95.0, data=IMAGENET)
    table = only(study)
    to = {row.rung: row.against for row in table.rows if row.change}
    assert to == {
        **{"stage_ratio": "resnet50", "increase_width": "stage_ratio"},
        **{"move_up_depthwise": "increase_width", "kernel_9": "move_up_depthwise"},
    }
    width = table.row("increase_width")
    assert width is not None and width.change is not None and width.paper_change is not None
    assert width.change.delta == pytest.approx(1.7)
    assert width.paper_change.delta == pytest.approx(80.50 - 79.36)  # Table 10, between the same two rungs
    text = FORMATS["text"]([table])
    lines = {line.split()[1]: line for line in text.splitlines() if line[:2].strip().isdigit()}
    assert " stage_ratio " in lines["increase_width"] and " increase_width " in lines["move_up_depthwise"]
    assert lines["stage_ratio"].count("resnet50") == 0  # a neighbour goes without saying
    assert "or where that was not trained to the nearest one before it" in " ".join(text.split())
    assert "patchify_stem" in lines, "a rung with a failed run is shown"
    assert "depthwise_conv" not in lines and "not run: depthwise_conv, inverted_bottleneck, kernel_7" in text
    assert csv_rows(table)["increase_width"]["change_to"] == "stage_ratio"
    (whole,) = summarise(analysis.load(study.root), complete=True)
    assert len(FORMATS["md"]([whole]).splitlines()) > len(FORMATS["md"]([table]).splitlines()) + 8


def test_intervals_hold_at_once_unless_asked_for_each(make_study: Make, capsys: Any) -> None:
    noise = [[0.0, 0.3, -0.2], [0.1, -0.3, 0.2], [-0.2, 0.1, 0.3], [0.2, 0.2, -0.3]]
    names = ["resnet", "stage_ratio", "patchify_stem", "depthwise_conv"]
    study = make_study().chain(rungs=names, top1=lambda index, seed: 90 + noise[index][seed])
    halves = {}
    for kind in ("all", "each"):
        assert main([str(study.root), "--interval", kind, "--format", "json"]) == 0
        (table,) = json.loads(capsys.readouterr().out)["tables"]
        assert (table["interval"], table["model"]["degrees_of_freedom"]) == (kind, pytest.approx(6))
        halves[kind] = table["rows"][1]["change"]["high"] - table["rows"][1]["change"]["delta"]
    assert halves["each"] == pytest.approx(2.446912 * table["model"]["std"] * (2 / 3) ** 0.5)  # t of 6 degrees
    assert 1.2 < halves["all"] / halves["each"] < 1.5
    with pytest.raises(UserError, match="unknown interval 'some'"):
        only(study, interval="some")


def test_runs_that_do_not_differ_give_no_zero_interval(make_study: Make) -> None:
    study = make_study().chain(rungs=["resnet", "stage_ratio"], seeds=[0, 1], top1=lambda index, seed: 90 + index / 3.6)
    table = only(study)
    row = table.rows[1]
    assert row.change is not None and row.change.half == pytest.approx(100 / 360) and row.change.within_noise is True
    assert "no interval is narrower than one of the 360 images, ±0.28" in " ".join(FORMATS["text"]([table]).split())


def test_a_rung_that_collapsed_is_told_and_judged_apart(make_study: Make) -> None:
    study = make_study().chain(top1=lambda index, seed: 90 + index + 0.2 * ((index * 7 + seed * 5) % 3))
    for seed, top1 in enumerate((10.0, 96.0, 55.0)):
        study.run("kernel_9", seed, top1)
    table = only(study)
    changes = {row.rung: row.change for row in table.rows if row.change}
    assert changes["kernel_9"].method == "welch" and changes["kernel_9"].half > 20
    assert changes["gelu"].method == "paired" and changes["gelu"].half < 1
    text = " ".join(FORMATS["text"]([table]).split())
    assert "kernel_9 ±43.02: its spread is not that of the others, so changes to and from there" in text


def test_rungs_of_one_seed_are_judged_by_the_others(make_study: Make) -> None:
    study = make_study().chain(rungs=["resnet", "stage_ratio", "patchify_stem"], top1=lambda i, s: 90 + i + (i * s) % 2)
    study.run("depthwise_conv", 0, 95.0)
    table = only(study)
    row = table.row("depthwise_conv")
    assert row is not None and row.change is not None and row.change.within_noise is not None
    text = " ".join(FORMATS["text"]([table]).split())
    assert "no std where a rung has one seed; the interval of its change is by the spread of all runs" in text
    assert "changes are within seeds: where rungs have different ones" in text


def test_without_a_finished_run_there_is_nothing_to_tabulate(make_study: Make) -> None:
    study = make_study()
    with pytest.raises(UserError, match=r"no run is done yet \(no run at all\)"):
        only(study)
    study.run("gelu", 0, state="running")
    with pytest.raises(UserError, match=r"no run is done yet \(1 running\)"):
        only(study)


def test_code_of_several_commits_and_devices_is_told(make_study: Make) -> None:
    study = make_study().chain(rungs=["resnet"])
    study.run("gelu", 0, 91.0, git_commit="b" * 40, git_dirty=True, device="NVIDIA H100")
    text = FORMATS["text"]([only(study)])
    assert "code of several commits: aaaaaaaaaa (3 runs), bbbbbbbbbb (1 run)" in text
    assert "1 run trained with uncommitted changes" in text
    assert "several devices, so images/s are not comparable: NVIDIA H100, cpu" in text


def test_a_step_that_trains_longer_is_told(make_study: Make) -> None:
    study = make_study()
    study.run("resnet", 0)
    study.run("stage_ratio", 0, epochs=300)
    notes = only(study).notes
    assert "epochs: 3, but 300 for stage_ratio" in notes
    assert not any(note.startswith("batch") for note in notes)


def test_runs_that_differ_in_more_than_rung_and_seed_are_refused(make_study: Make) -> None:
    study = make_study().chain(rungs=["resnet"]).chain(rungs=["gelu"], recipe={"lr": 0.001, "mixup": 0.8})
    with pytest.raises(UserError) as error:
        only(study)
    message = str(error.value)
    assert "recipe.lr (0.001, 0.004)" in message and "recipe.mixup (0.8, 0)" in message
    assert "--compare recipe.lr" in message and "--where recipe.lr=0.001" in message and "\n" not in message
    assert "spec" not in message and "seed (" not in message


def test_compare_makes_a_table_for_each_value_in_order(make_study: Make) -> None:
    study = make_study()
    for lr in (0.01, 0.004, 0.001):
        study.chain(rungs=["resnet"], recipe={"lr": lr}, top1=lambda index, seed, lr=lr: 90 + 100 * lr)
    study.run("gelu", 0, state="failed", recipe={"lr": 0.01})
    tables = summarise(analysis.load(study.root), compare=["recipe.lr"])
    assert [t.choice["recipe.lr"] for t in tables] == [0.001, 0.004, 0.01]
    assert [t.rows[0].top1.mean for t in tables if t.rows[0].top1] == [pytest.approx(90 + x) for x in (0.1, 0.4, 1.0)]
    assert "3 of 4 runs done (1 failed)" in tables[2].notes and "3 of 3 runs done" in tables[0].notes
    kept = only(study, where={"recipe.lr": "4e-3"})
    assert kept.rows[0].top1 == tables[1].rows[0].top1
    with pytest.raises(UserError, match=r"unknown config key 'recipe.lrr'; did you mean recipe.lr"):
        only(study, compare=["recipe.lrr"])
    with pytest.raises(UserError, match=r"no run with recipe.lr=5 is done yet"):
        only(study, where={"recipe.lr": "5"})


def test_a_drop_path_beside_the_recipes_is_a_difference(make_study: Make) -> None:
    study = make_study().chain(rungs=["resnet", "gelu"], recipe={"drop_path": 0.1})
    assert not any("drop_path" in note for note in only(study).notes), "the recipe gave it"
    study.run("gelu", 3, 95.0, recipe={"drop_path": 0.1}, spec={"drop_path": 0.3})
    with pytest.raises(UserError, match=r"of rung gelu differ in spec.drop_path \(0.1, 0.3\)"):
        only(study)


def test_two_networks_under_one_rungs_name_are_refused_and_one_is_told(make_study: Make) -> None:
    study = make_study().chain(rungs=["resnet", "gelu"], spec={"kernel_size": 9})
    assert "spec.kernel_size=9 instead of the ladder's value in gelu, resnet" in only(study).notes
    study.run("gelu", 3, 95.0)
    with pytest.raises(UserError, match=r"of rung gelu differ in spec.kernel_size \(9, 7\)"):
        only(study)
    parts = summarise(analysis.load(study.root), compare=["spec.kernel_size"])
    assert [t.choice["spec.kernel_size"] for t in parts] == [9, "the rung's own"], "resnet has no plain runs"


def test_several_ladders_and_data_sets_are_a_table_each(make_study: Make) -> None:
    study = make_study().chain(rungs=["resnet", "gelu"])
    study.chain(rungs=["resnet"], data={"name": "cifar10"})
    other = make_study("other", ladder="convnext_t").chain(rungs=["gelu"])
    tables = summarise(analysis.load([study.root, other.root]))
    assert [(t.ladder, t.data) for t in tables] == [
        *(("convnext_32", "cifar10"), ("convnext_32", "digits"), ("convnext_t", "digits")),
    ]
    text = FORMATS["text"](tables)
    assert text.count("top-1 of the last epoch") == 3


def test_the_same_run_in_two_studies_counts_once(make_study: Make) -> None:
    one, two = make_study("one").chain(rungs=["resnet"]), make_study("two").chain(rungs=["resnet"])
    (table,) = summarise(analysis.load([one.root, two.root]))
    assert table.rows[0].top1 is not None and table.rows[0].top1.n == 3
    assert "in more than one of the studies, counted once: 3" in table.notes


def test_a_ladder_that_is_not_installed_is_laid_out_from_its_runs(make_study: Make) -> None:
    study = make_study().chain(rungs=["resnet", "stage_ratio", "move_up_depthwise"], ladder="mine")
    study.run("kernel_9", 0, 91.0, ladder="mine")
    for path in study.root.glob("*/status.json"):
        path.write_text(path.read_text().replace("convnext_32", "mine"))
    table = only(study)
    assert [row.rung for row in table.rows] == ["resnet", "stage_ratio", "move_up_depthwise", "kernel_9"]
    assert any("ladder mine is not installed here" in note for note in table.notes)


def test_in_a_star_every_change_is_to_the_base(make_study: Make) -> None:
    study = make_study()
    for place, rung in enumerate(["resnet", "gelu", "kernel_7"]):
        fields = {"ladder": "mine", "kind": "star", "rung_index": place, "parent": "resnet" if place else None}
        for seed in range(3):
            study.run(rung, seed, 90.0 + place + 0.1 * seed, **fields)
    table = only(study)
    assert [row.rung for row in table.rows] == ["resnet", "gelu", "kernel_7"] and table.kind == "star"
    assert [round(row.change.delta, 6) for row in table.rows if row.change] == [1.0, 2.0]
    assert "change: to the base;" in FORMATS["text"]([table])


def test_a_subset_of_the_steps_stands_below_the_ladder(make_study: Make) -> None:
    study = make_study().chain(rungs=["resnet"])
    study.run("gelu", 0, 92.0, result={"rung": "gelu+layer_norm", "rung_index": None, "parent": None, "title": "x"})
    status = next(study.root.glob("gelu*/status.json"))
    status.write_text(status.read_text().replace('"gelu"', '"gelu+layer_norm"'))
    row = only(study).rows[-1]
    assert (row.rung, row.kind, row.change) == ("gelu+layer_norm", "subset", None)


class Cells(HTMLParser):
    """The cells of every table row of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.inside = True
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


def test_every_format_holds_the_same_numbers(make_study: Make) -> None:
    study = make_study("t", ladder="convnext_t").chain(data=IMAGENET)
    study.run("kernel_5", 0, 93.0, data=IMAGENET)
    table = only(study, complete=True)
    rows = csv_rows(table)
    values = json.loads(FORMATS["json"]([table]))["tables"][0]
    assert [r["rung"] for r in values["rows"]] == list(rows)
    for record in values["rows"]:
        line = rows[record["rung"]]
        if record["top1"]:
            assert float(line["top1"]) == pytest.approx(record["top1"]["mean"])
            assert int(line["seeds"]) == record["top1"]["n"] == len(record["top1"]["by_seed"])
        if record["change"] and record["change"]["low"] is not None:
            assert float(line["change_low"]) == pytest.approx(record["change"]["low"], abs=1e-5)
    page, md = Cells(), FORMATS["md"]([table])
    page.feed(FORMATS["html"]([table]))
    body = [cells for cells in page.rows if len(cells) == 10][1:]
    pipes = [
        [c.strip() for c in line.replace("\\~", "~").strip("|").split("|")]
        for line in md.splitlines()
        if line.startswith("|")
    ][2:]
    assert len(body) == len(pipes) == len(table.rows) + len(table.references)
    for ours, theirs in zip(body, pipes, strict=True):
        assert [c.strip() for c in ours[1:]] == theirs[1:]
    gelu = next(cells for cells in body if "GELU" in cells[0])
    assert gelu[1] == f"{float(rows['gelu']['top1']):.2f} ±{float(rows['gelu']['top1_std']):.2f}"


def test_html_is_one_file_that_asks_nothing_of_the_network(make_study: Make) -> None:
    page = FORMATS["html"]([only(make_study().chain(rungs=["resnet"]))])
    assert page.startswith("<!doctype html>") and "http" not in page and "<script" not in page


def test_tex_escapes_what_latex_would_trip_over() -> None:
    assert tex("a_b & 50% #1 {x} ~ ^ \\ $ *") == (
        "a\\_b \\& 50\\% \\#1 \\{x\\} $\\sim$ \\textasciicircum{} \\textbackslash{} \\$ {*}"
    )
    assert tex("+0.50 ±0.10") == "$+$0.50 $\\pm$0.10" and tex("[1]") == "{[}1{]}"


def test_tex_keeps_letters_and_signs_of_all_the_world() -> None:
    assert tex("e\u0301 ō ẋ ǻ ß") == "é ō \\.{x} \\'{\\r{a}} ß"
    assert tex("α Λ Α ς →") == "$\\alpha$ $\\Lambda$ $\\mathrm{A}$ $\\varsigma$ $\\rightarrow$"
    assert tex("× ≤ x² a₁ … “q” −1") == "$\\times$ $\\le$ x$^{2}$ a$_{1}$ \\ldots{} ``q'' $-$1"
    assert tex("漢字 🙂") == "漢字 🙂" and "?" not in tex("漢字 🙂")
    assert beyond_pdftex(tex("漢字 é α 漢")) == ["漢", "字"]


def test_a_latex_table_of_letters_that_pdflatex_lacks_says_so(make_study: Make, capsys: Any) -> None:
    study = make_study().chain(rungs=["resnet"], data={"name": "漢字 β"})
    assert main([str(study.root), "--format", "latex"]) == 0
    told = capsys.readouterr()
    assert "on 漢字 $\\beta$" in told.out
    assert told.err == "warning: pdfLaTeX has no 漢 字: compile with LuaLaTeX or XeLaTeX\n"


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex on this machine")
def test_latex_compiles_and_fits_the_page(make_study: Make, tmp_path: Path) -> None:
    recipe = {"name": "a_b & c" + " very long" * 9}
    t = make_study("t_100%_#1", ladder="convnext_t").chain(data=IMAGENET, recipe=recipe)
    t.run("kernel_5", 1, state="failed", data=IMAGENET, recipe=recipe, error="µ ≤ 50 % of $x_1^2 \\ {~} é → α ẋ ½")
    tables = [*summarise(analysis.load(t.root)), paper_table(load_ladder("convnext_b"))]
    (tmp_path / "fragment.tex").write_text(latex(tables))
    (tmp_path / "whole.tex").write_text(latex(tables, standalone=True))
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\\small\\input{fragment}\\end{document}"
    )
    for name in ("whole", "paper"):
        command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", name]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout[-2000:]
        assert (tmp_path / f"{name}.pdf").stat().st_size > 10_000
        assert "Overfull" not in done.stdout


def test_command_writes_the_format_that_the_suffix_says(make_study: Make, tmp_path: Path, capsys: Any) -> None:
    study = make_study().chain(rungs=["resnet", "stage_ratio"])
    for suffix, start in ((".md", "### "), (".csv", "ladder,"), (".json", "{"), (".html", "<!doc"), (".tex", "% ")):
        out = tmp_path / "new" / f"table{suffix}"
        assert main([str(study.root), "--out", str(out)]) == 0
        assert capsys.readouterr().out == f"{out}\n"
        assert out.read_text().startswith(start)
    assert main([str(study.root), "--format", "text"]) == 0
    assert capsys.readouterr().out.startswith("ResNet to ConvNeXt at 32 px (convnext_32) on digits\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "x.pdf"], r"unknown suffix of --out '.pdf'; .*allowed: .csv"),
        (["--where", "recipe.lr"], r"--where recipe.lr: must be KEY=VALUE"),
        (["--standalone"], r"--standalone goes with --format latex, not text"),
        (["--paper", "convnext_t"], r"give a study folder, such as runs/demo, or --paper LADDER \(one of them\)"),
        (["--out", "/dev/null/x.md"], r"can't write /dev/null/x.md: /dev/null is not a folder"),
    ],
)
def test_wrong_options_are_one_line(make_study: Make, options: list[str], message: str) -> None:
    study = make_study().chain(rungs=["resnet"])
    with pytest.raises(UserError, match=message):
        main([str(study.root), *options])


def test_the_command_as_a_user_runs_it(make_study: Make, tmp_path: Path) -> None:
    study = make_study().chain(rungs=["resnet", "stage_ratio"])
    (study.root / "junk").mkdir()
    command = [sys.executable, "-m", "analysis.table"]
    here = Path(analysis.__file__).parents[1]
    done = subprocess.run([*command, str(study.root)], cwd=here, capture_output=True, text=True)
    assert done.returncode == 0 and "90.40" in done.stdout
    assert done.stderr.splitlines() == [
        f"skipped {study.root}/junk: not a run folder (no status.json, result.json or config.yaml)"
    ]
    wrong = subprocess.run([*command, str(tmp_path / "nothing")], cwd=here, capture_output=True, text=True)
    assert wrong.returncode == 2 and wrong.stdout == "" and len(wrong.stderr.splitlines()) == 1
    assert wrong.stderr.startswith("error: no study folder")
