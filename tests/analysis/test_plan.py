"""Owns the checks of `ladder plan`: its sums by hand, where its speeds come from, what it admits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis import plan
from analysis.read import speeds
from analysis.read.speeds import Speed, Speeds
from ladder.errors import UserError
from ladder.launch.sweeper import runs_of

SWEEP = ["ladder=convnext_32", "rung=0,12", "seed=0,1,2", "data=cifar10", "recipe=cifar", "recipe.epochs=2"]
STEPS = 50_000 // 128 * 2


def bench_file(path: Path, rows: list[dict[str, Any]], precision: str = "float32") -> Path:
    path.write_text(json.dumps({"conditions": {"device": "a GPU", "precision": precision}, "rows": rows}))
    return path


def row(name: str, macs: int, train: float, infer: float | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "macs": macs,
        "image_size": 32,
        "train_images_per_s": train,
        "infer_images_per_s": infer,
        "failed": None,
    }


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert plan.main([*arguments, "--format", "json"]) == 0
    made: dict[str, Any] = json.loads(capsys.readouterr().out)
    return made


@pytest.fixture(scope="module")
def macs() -> dict[str, int]:
    """Of the two rungs, at 32 px and 10 classes."""
    return {line.rung: line.macs for line in plan.plan(runs_of(SWEEP), Speeds()).lines}


def test_without_speeds_it_says_what_is_known(capsys: pytest.CaptureFixture[str], macs: dict[str, int]) -> None:
    made = planned(capsys, *SWEEP)
    assert made["runs"] == 6 and made["steps"] == 6 * STEPS
    images = 3 * STEPS * 128 + 2 * 10_000  # a backward pass costs two forward ones
    assert made["macs"] == pytest.approx(3 * sum(macs.values()) * images)
    assert made["gpu_hours"] is None
    assert any("no speed is known" in line for line in made["assumptions"])


def test_measured_speeds_make_hours(capsys: pytest.CaptureFixture[str], macs: dict[str, int], tmp_path: Path) -> None:
    rows = [row(name, macs[name], 1000.0, 4000.0) for name in macs]
    made = planned(capsys, *SWEEP, "--bench", str(bench_file(tmp_path / "b.json", rows)), "--gpus", "4")
    assert [line["how"] for line in made["lines"]] == ["measured"] * 2
    each = (STEPS * 128 / 1000 + 2 * 10_000 / 4000) / 3600
    assert made["gpu_hours"] == pytest.approx(6 * each)
    assert made["wall_hours"] == pytest.approx(2 * each), "6 equal runs on 4 GPUs take two turns"
    assert not any("EXTRAPOLATED" in line for line in made["assumptions"])


def test_what_was_not_measured_is_scaled_and_says_so(
    capsys: pytest.CaptureFixture[str], macs: dict[str, int], tmp_path: Path
) -> None:
    file = bench_file(tmp_path / "b.json", [row("resnet", macs["resnet"], 1000.0)])
    first, second = planned(capsys, *SWEEP, "--bench", str(file))["lines"]
    assert (first["how"], second["how"]) == ("measured", "scaled")
    assert second["images_per_s"] == pytest.approx(1000 * macs["resnet"] / macs["separate_downsampling"])
    made = planned(capsys, *SWEEP, "engine.precision=bf16", "--bench", str(file))
    assert {line["how"] for line in made["lines"]} == {"scaled"}, "another precision is another speed"
    assert any(line.startswith("EXTRAPOLATED") for line in made["assumptions"])


def test_speeds_from_done_runs(
    capsys: pytest.CaptureFixture[str], macs: dict[str, int], make_study: Callable[..., Any]
) -> None:
    study = make_study()
    for seed, speed in enumerate((900.0, 1000.0, 5000.0)):
        study.run("resnet", seed, image_size=32, device="a GPU", images_per_s=speed, macs=macs["resnet"])
    study.run("resnet", 3, image_size=32, images_per_s=0, macs=macs["resnet"])
    study.run("resnet", 4, image_size=32, images_per_s="fast", macs=macs["resnet"])
    first, _ = planned(capsys, *SWEEP, "--study", str(study.root))["lines"]
    assert (first["how"], first["images_per_s"]) == ("measured", 1000.0)


def test_a_data_sheet_is_a_guess_and_says_so(capsys: pytest.CaptureFixture[str], macs: dict[str, int]) -> None:
    made = planned(capsys, *SWEEP, "--gpu", "H100", "--utilisation", "0.5")
    assert {line["how"] for line in made["lines"]} == {"assumed"}
    assert made["lines"][0]["images_per_s"] == pytest.approx(0.5 * 989e12 / 6 / macs["resnet"])
    assert any("nothing was measured" in line for line in made["assumptions"])


def test_the_nearest_network_by_macs_is_scaled() -> None:
    known = Speeds([Speed(n, m, 224, t, None, "bf16", "x", "y") for n, m, t in (("a", 1e9, 100.0), ("b", 8e9, 20.0))])
    estimate = known.of("c", 4e9, 224, "bf16")
    assert estimate is not None
    assert (estimate.how, estimate.train) == ("scaled", pytest.approx(40.0))
    assert estimate.infer == pytest.approx(120.0), "without a measurement: forward alone, a third of the work"


def test_makespan() -> None:
    assert plan.makespan([3, 3, 2, 2, 2], 2) == 7
    assert plan.makespan([5], 64) == 5


def test_text_and_disk(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan.main([*SWEEP, "--gpu", "h100", "--gpus", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("rung ")
    assert f"6 runs, {6 * STEPS:,} steps" in out and "GPU-hours" in out and "h on 2 GPUs" in out
    line = plan.plan(runs_of(SWEEP), Speeds()).lines[0]
    weights = 4 * line.params
    assert line.disk == 7 * weights + plan.RUN_FILES, "AdamW: two checkpoints of three tensors, and the model"


def test_on_cpus_it_counts_core_hours() -> None:
    device = "AMD EPYC, {} thread{}"
    for threads, price in ((1, "core-hours"), (4, "core-hours"), (None, "hours")):
        name = "some machine" if threads is None else device.format(threads, "s" * (threads != 1))
        speeds = Speeds([Speed("resnet", 1e7, 32, 100.0, 300.0, "float32", name, "here")])
        made = plan.plan(runs_of(SWEEP), speeds)
        assert made.gpu_hours is not None and made.cores == threads
        assert f"; {plan._hours(made.gpu_hours * (threads or 1))} {price}, " in plan.render(made)


def test_of_a_design_it_says_what_the_runs_tell_of_each_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan.main(["experiment=demo_design", "design.steps=[gelu,layer_norm,stage_ratio]", "design.runs=14"]) == 0
    out = capsys.readouterr().out
    assert "Each of 3 steps, by itself, if steps add up: ±" in out and "14 runs" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpu", "h1000"], "did you mean h100"),
        (["--gpus", "0"], "--gpus 0"),
        (["--utilisation", "2"], "utilisation 2"),
        (["--images", "5"], "--images 5"),
        (["--bench", "nowhere.json"], "bench file nowhere.json"),
        (["--study", "nowhere"], "no study folder nowhere"),
        (["rung=99"], "rung 99"),
        (["data=imagefolder", "data.root=nowhere"], "--images TRAIN,EVALUATION"),
    ],
)
def test_mistakes_are_told(arguments: list[str], words: str) -> None:
    with pytest.raises(UserError) as caught:
        plan.main([*(a for a in SWEEP if not any(b.startswith(a.split("=")[0] + "=") for b in arguments)), *arguments])
    assert words in str(caught.value)


@pytest.mark.parametrize("content", ["[]", "{", "{}", '{"conditions": {}, "rows": []}', '{"conditions": 1, "rows": 2}'])
def test_a_file_that_is_no_bench(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError, match=r"x\.json"):
        speeds.from_bench(tmp_path / "x.json")


@pytest.mark.parametrize(("key", "value"), [("macs", 0), ("macs", float("nan")), ("train_images_per_s", -1)])
def test_a_bench_of_figures_that_cannot_be(tmp_path: Path, key: str, value: float) -> None:
    rows = [{**row("resnet", 10, 1.0), key: value}]
    with pytest.raises(UserError, match=rf"x\.json.*{'not a number from' if value == value else key}"):
        speeds.from_bench(bench_file(tmp_path / "x.json", rows))


def test_it_says_what_the_sweep_resolves_and_the_seeds_that_a_change_takes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, macs: dict[str, int]
) -> None:
    file = bench_file(tmp_path / "bench.json", [row(name, macs[name], 1000.0, 4000.0) for name in macs])
    made = planned(capsys, *SWEEP, "--bench", str(file), "--resolve", "1", "--interval", "each")
    found, needed = made["resolution"], made["resolve"]
    assert (found["seeds"], found["changes"]) == (3, 1) and found["each"] == pytest.approx(found["at_once"])
    assert needed["seeds"] > 3 and needed["runs"] == 2 * needed["seeds"]
    assert needed["gpu_hours"] == pytest.approx(made["gpu_hours"] * needed["seeds"] / 3)
    assert plan.main([*SWEEP[:1], "rung=0,12", "seed=0", *SWEEP[3:]]) == 0
    told = capsys.readouterr().out
    assert "Resolves: nothing: 1 seed a rung leaves no spread" in told and "ASSUMED" in told
    with pytest.raises(UserError, match="--resolve -1: must be points of top-1 above 0"):
        plan.main([*SWEEP, "--resolve", "-1"])
    with pytest.raises(UserError, match="no two rungs to compare"):
        plan.main([*SWEEP[:1], "rung=12", *SWEEP[2:], "--resolve", "1"])
    assert planned(capsys, *SWEEP[:1], "rung=12", *SWEEP[2:])["resolution"] is None


def test_hours_of_a_cpu_are_no_gpus(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan.main(["experiment=demo", "--study", "runs/published/demo"]) == 0
    out = capsys.readouterr().out
    assert "GPU" not in out and "MACs M" in out and "core-h" in out and "h with 1 at a time" in out
