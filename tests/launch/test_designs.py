"""Owns the checks of designs: the choice is as good as promised, keeps what steps require; a launch keeps its rows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pydoe
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeps import Sweep

from ladder.errors import UserError
from ladder.launch import designs, optimal
from ladder.launch.designs import Design, Row
from ladder.launch.sweeper import runs_of
from ladder.networks.rungs import load_ladder
from ladder.runs import study
from ladder.runs.config import DesignConfig

LADDER = load_ladder("convnext_mini")
STEPS = [step.name for step in LADDER.steps]


def macs(steps: tuple[str, ...]) -> float:
    """Costs as of dense convolutions: large kernels and widths multiply where there is no depthwise one."""
    dense = 1.0 if "depthwise_conv" in steps else 4.0
    return dense * (2.0 if "increase_width" in steps else 1.0) * (1.5 if "kernel_7" in steps else 1.0)


def make(kind: str, seeds: tuple[int, ...] = (0,), existing: tuple[Row, ...] = (), **options: object) -> Design:
    return designs.make(LADDER, DesignConfig(kind=kind, **options), seeds, macs, existing)  # type: ignore[arg-type]


def kept(design: Design) -> bool:
    return all(
        need in row.steps for row in design.rows for step in LADDER.steps if step.name in row.steps
        for need in step.requires
    )  # fmt: skip


def efficiency(candidates: np.ndarray, runs: int, against: int) -> float:
    """The D-efficiency of the default choice against the best of many random starts."""
    mine = optimal.choose(candidates, [0] * runs)
    best = optimal.choose(candidates, [0] * runs, starts=against, seed=1)
    assert mine is not None and best is not None
    return float(np.exp((mine.logdet - best.logdet) / (candidates.shape[1] + 1)))


def subsets(count: int) -> np.ndarray:
    every = np.array(list(product((-1.0, 1.0), repeat=count)))
    return np.ascontiguousarray(every[~((every[:, 1] > 0) & (every[:, 0] < 0))])  # the second requires the first


@pytest.mark.parametrize("runs", [9, 16])
def test_the_choice_is_as_good_as_many_starts(runs: int) -> None:
    assert efficiency(subsets(7), runs, 60) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("runs", [16, 24, 39, 64])
def test_the_choice_is_as_good_as_many_starts_with_twelve_steps(runs: int) -> None:
    every = np.array(list(product((-1.0, 1.0), repeat=12)))
    allowed = every[~((every[:, 6] > 0) & (every[:, 2] < 0)) & ~((every[:, 3] > 0) & (every[:, 2] < 0))]
    assert efficiency(np.ascontiguousarray(allowed), runs, 200) > 0.95


def test_without_rules_the_choice_is_orthogonal() -> None:
    every = np.ascontiguousarray(np.array(list(product((-1.0, 1.0), repeat=5))))
    choice = optimal.choose(every, [0] * 16)
    assert choice is not None
    assert choice.logdet == pytest.approx(6 * np.log(16))  # X'X is 16 times the identity


@settings(max_examples=15)
@given(st.data())
def test_an_optimal_design_keeps_its_rules_and_tells_every_step(data: st.DataObject) -> None:
    steps = data.draw(st.lists(st.sampled_from(STEPS), min_size=2, max_size=6, unique=True))
    always = data.draw(st.lists(st.sampled_from(["depthwise_conv", "gelu"]), max_size=2, unique=True))
    seeds = tuple(data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True)))
    runs = data.draw(st.integers(len(steps) + len(seeds) + 2, 24))
    replicates = data.draw(st.integers(0, 2))
    limit = data.draw(st.sampled_from([None, 1.3]))
    try:
        options = {"steps": steps, "always": always, "replicates": replicates, "max_macs": limit}
        design = make("optimal", seeds, runs=runs + replicates, **options)
    except UserError:  # few steps make few subsets, and a step may miss what it requires
        return
    assert kept(design)
    assert len(design.rows) == runs + replicates == len({row.key for row in design.rows})
    assert all(set(always) <= set(row.steps) for row in design.rows)
    top = max(macs(tuple(STEPS[:i])) for i in range(13))
    assert limit is None or all(macs(row.steps) <= limit * top for row in design.rows)
    assert all(width == width for width in design.half_widths().values()), "every step's effect is told"
    assert len({row.steps for row in design.rows}) < len(design.rows) or not replicates


def test_expected_half_widths_are_those_of_least_squares() -> None:
    design = make("optimal", (0, 1), runs=30, replicates=4, interactions=[["gelu", "layer_norm"]])
    names, effects = design.model()
    seeds = np.array([row.seed for row in design.rows])
    x = np.hstack([effects / 2, np.array([seeds == seed for seed in dict.fromkeys(sorted(seeds))], float).T])
    noise = np.random.default_rng(0).normal(size=len(x))
    fit = sm.OLS(noise, x).fit()
    half = (fit.conf_int()[:, 1] - fit.params) / np.sqrt(fit.mse_resid)
    assert list(design.half_widths()) == names == [*STEPS, "gelu x layer_norm"]
    assert list(design.half_widths().values()) == pytest.approx(half[: len(names)])


def test_39_runs_tell_more_than_the_walk_of_39() -> None:
    design = make("optimal", runs=39)
    variances = [(width / 2.0555) ** 2 for width in design.half_widths().values()]  # t of 26 degrees of freedom
    assert np.mean(variances) < 0.125 and max(variances) < 0.22  # the walk of 13 rungs and 3 seeds: 2/3
    walk = make("chain", (0, 1, 2))
    assert list(walk.half_widths().values()) == pytest.approx([np.sqrt(2 / 3) * 2.0639] * 12, rel=1e-3)


def test_matrices_of_screening_and_factorial_are_pydoes() -> None:
    free = {"always": ["depthwise_conv"]}
    screening = make("screening", **free)
    assert np.array_equal(screening.matrix(), pydoe.pbdesign(11)[:, :11])
    folded = make("screening", fold=True, **free)
    assert np.array_equal(folded.matrix(), pydoe.fold(pydoe.pbdesign(11)[:, :11]))
    factorial = make("factorial", resolution=4, requires=False)
    assert np.array_equal(factorial.matrix(), pydoe.fracfact_by_res(12, 4))
    aliased = [set(group) for group in factorial.aliases()]
    assert aliased and not any(set(STEPS) & group for group in aliased), "resolution IV: no step is an interaction"
    third = make("factorial", resolution=3, requires=False)
    assert any(set(STEPS) & set(group) for group in third.aliases())


def test_leave_one_out_takes_what_a_step_requires_along() -> None:
    design = make("leave_one_out")
    assert kept(design) and len(design.rows) == 26
    without = next(row for row in design.rows if "depthwise_conv" not in row.steps and len(row.steps) > 1)
    assert set(STEPS) - set(without.steps) == {"depthwise_conv", "increase_width", "kernel_7"}
    assert Row(("depthwise_conv", "kernel_7")) in design.rows and Row(()) in design.rows


def test_permutations_are_walks_that_share_their_ends() -> None:
    design = make("permutations", runs=60)
    assert kept(design) and len(design.orders) >= 5 and len(design.rows) <= 60
    trained = {row.steps for row in design.rows}
    for order in design.orders:
        assert sorted(order) == sorted(STEPS)
        assert all(tuple(s for s in STEPS if s in order[:i]) in trained for i in range(13))


def test_factors_of_the_recipe_are_crossed_with_the_steps() -> None:
    design = make("optimal", runs=24, factors={"recipe.mixup": [0, 0.8]}, interactions=[["gelu", "recipe.mixup"]])
    assert {row.levels["recipe.mixup"] for row in design.rows} == {0, 0.8}
    assert set(design.half_widths()) == {*STEPS, "recipe.mixup", "gelu x recipe.mixup"}


def test_more_runs_go_where_those_that_exist_tell_least() -> None:
    walk = tuple(Row(tuple(STEPS[:i])) for i in range(13))
    design = make("optimal", runs=10, existing=walk)
    assert len(design.rows) == 10 and not {row.key for row in design.rows} & {row.key for row in walk}
    beside = np.mean(list(design.half_widths().values()))
    again = Design(
        "chain", LADDER.name, tuple(STEPS), (), {}, (), (*walk[:10],), tuple(Row(r.steps, seed=1) for r in walk)
    )
    assert beside < 0.6 * np.mean(list(again.half_widths().values())), "ten more of the walk tell far less"


def test_a_design_survives_its_file() -> None:
    design = make(
        "optimal", (0, 1), runs=24, factors={"recipe.lr": [1e-3, 4e-3]}, interactions=[["gelu", "layer_norm"]]
    )
    assert Design.from_json(json.loads(json.dumps(design.to_json()))) == design


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["design=optimal"], "needs design.runs=N"),
        (["design=optimal", "design.runs=12"], "at least 13 runs"),
        (["design=optimal", "design.runs=30", "rung=3"], "rung=3 and design=optimal exclude each other"),
        (["design=optimal", "design.runs=30", "steps=[gelu]"], "exclude each other"),
        (["design.runs=30"], "needs design=NAME"),
        (["design=optimal,chain", "design.runs=30"], "one at a time"),
        (["design=optimal", "design.runs=30", "design.steps=[gleu]"], "did you mean gelu?"),
        (["design=optimal", "design.runs=30", "design.steps=[kernel_7,gelu]"], "one level left"),
        (["design=screening"], "kernel_7 without depthwise_conv"),
        (["design=screening", "design.runs=18", "design.requires=false"], "a multiple of 4"),
        (["design=optimal", "design.runs=30", "design.factors={recipe.mixup:[0]}"], "two levels"),
        (["design=optimal", "design.runs=30", "design.factors={seed:[0,1]}"], "a key of recipe"),
        (["design=optimal", "design.runs=30", "design.interactions=[[gelu,gleu]]"], "did you mean gelu?"),
        (["design=optimal", "design.runs=30", "design.interactions=[[kernel_7,depthwise_conv]]"], "requires the other"),
        (["design=permutations", "design.runs=9"], "takes 13 runs"),
        (["design=chain", "design.runs=9"], "as many runs as it needs"),
        (["design=optimal", "ladder=convnext_mini,convnext_32", "design.runs=30"], "of one ladder"),
        (["design=optimal", "ladder=convmixer_cifar10", "design.runs=30"], "is a star"),
    ],
)
def test_mistakes_are_one_line(asked: list[str], told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)) as error:
        runs_of(["ladder=convnext_mini", *asked])
    assert "\n" not in str(error.value)


def test_a_rung_of_a_design_is_the_run_of_the_walk() -> None:
    walk = {run.label for run in runs_of(["ladder=convnext_mini", "rung=range(13)", "seed=0,1"])}
    assert {run.label for run in runs_of(["ladder=convnext_mini", "design=chain", "seed=0,1"])} == walk
    swept = runs_of(["ladder=convnext_mini", "design=leave_one_out", "recipe.lr=1e-3,2e-3"])
    assert len(swept) == 52 and {run.recipe.lr for run in swept} == {1e-3, 2e-3}


def test_a_launch_keeps_its_rows_and_resumes(sweep: Sweep) -> None:
    asked = ("design=optimal", "design.runs=5", "design.steps=[gelu,layer_norm,fewer_norms]")
    tiny = [text for text in sweep.command(*asked)[1:] if not text.startswith("hydra")]
    sweep.faults = {"gelu+fewer_norms": "raise"}
    planned = {run.label for run in runs_of(tiny)}
    done = sweep.run(*asked)
    assert done.code in (0, 1) and len(list(sweep.study.glob("*/status.json"))) == 5
    design = json.loads((sweep.study / "design.json").read_text())
    (kept_rows,) = design["designs"].values()
    assert len(kept_rows["rows"]) == 5 and kept_rows["columns"] == ["gelu", "fewer_norms", "layer_norm"]
    assert {path.parent.name for path in sweep.study.glob("*/status.json")} == planned
    # another choice would be made now, but the launch goes on with the rows that it began with
    (identity,) = design["designs"]
    kept_rows["rows"] = kept_rows["rows"][:2]
    (sweep.study / "design.json").write_text(json.dumps({"format": 1, "designs": {identity: kept_rows}}))
    assert len(runs_of(tiny)) == 2


def test_folders_of_large_subsets_name_steps_by_number_and_old_ones_are_taken_over(tmp_path: Path) -> None:
    steps = ["stage_ratio", "depthwise_conv", "kernel_7", "gelu", "layer_norm"]
    overrides = ["ladder=convnext_mini", "data=digits", f"steps=[{','.join(steps)}]", f"runs_dir={tmp_path}", "study=s"]
    (run,) = runs_of(overrides)
    assert run.dir.path.name == f"steps_1-3-7-8-11-s0-{run.config_hash}"
    former = run.dir.path.with_name(f"{'+'.join(steps)}-s0-{run.config_hash}")
    former.mkdir(parents=True)
    (former / "config.yaml").write_text("{}")
    study.remember(tmp_path / "s", "ladder train", [former.name])
    run.adopt()
    assert run.dir.path.is_dir() and not former.exists()
    assert study.planned(tmp_path / "s") == [run.dir.path.name], "asked for under the old name, and there"
    (few,) = runs_of(
        ["ladder=convnext_mini", "data=digits", "steps=[gelu,layer_norm]", f"runs_dir={tmp_path}", "study=s"]
    )
    assert few.dir.path.name.startswith("gelu+layer_norm-s0-")


_CHOICE = """
from ladder.launch import designs
from ladder.networks.rungs import load_ladder
from ladder.runs.config import DesignConfig
made = designs.make(load_ladder("convnext_mini"), DesignConfig(kind="optimal", runs=39), (0,), lambda steps: 1.0)
print([row.steps for row in made.rows])
"""


def test_a_design_is_the_same_on_every_processor() -> None:
    """Rows that are equally good are many, and which is best by the last bits depends on the kernels of the BLAS."""
    said = {
        subprocess.run(
            [sys.executable, "-c", _CHOICE],
            env={**os.environ, "OPENBLAS_CORETYPE": kernels},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        for kernels in ("Nehalem", "Haswell")
    }
    assert len(said) == 1
