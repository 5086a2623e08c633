"""Owns the check that every study of conf/experiment is what it says: its runs resolve, and as many as it names."""

from __future__ import annotations

import pytest

from ladder.errors import UserError
from ladder.launch.sweeper import runs_of
from ladder.paths import conf_dir

# study: runs, ladder, data, seeds
STUDIES = {
    "demo": (39, "convnext_mini", "digits", 3),
    "cifar10": (48, "convnext_mini", "cifar10", 3),
    "cifar10_design": (48, "convnext_mini", "cifar10", 3),
    "cifar10_full": (48, "convnext_mini", "cifar10", 3),
    "convmixer_patches": (36, "convmixer_32", "cifar10", 3),
    "bridge_cifar10": (33, "isotropic_to_convmixer_32", "cifar10", 3),
    "convmixer_cifar10": (48, "convmixer_cifar10", "cifar10", 3),
    "demo_design": (39, "convnext_mini", "digits", 3),
    "fashion_mnist": (39, "convnext_mini", "fashion_mnist", 3),
    "paper_t": (39, "convnext_t", "imagenet", 3),
    "paper_b": (13, "convnext_b", "imagenet", 1),
    "paper_kernel": (15, "convnext_t", "imagenet", 3),
}


def test_each_file_is_checked_here() -> None:
    assert {path.stem for path in (conf_dir() / "experiment").glob("*.yaml")} == set(STUDIES)


@pytest.mark.parametrize("experiment", STUDIES)
def test_a_study_is_one_comparable_sweep(experiment: str) -> None:
    count, ladder, data, seeds = STUDIES[experiment]
    runs = runs_of([f"experiment={experiment}"])
    assert len(runs) == len({run.dir.path for run in runs}) == count
    assert {run.ladder.name for run in runs} == {ladder}
    assert {run.data.name for run in runs} == {data}
    assert {run.seed for run in runs} == set(range(seeds))
    levels = 2 if experiment == "cifar10_design" else 1  # of recipe.lr
    assert len({run.group_hash for run in runs}) == levels, "one table, or one fit, can hold them all"
    assert all(run.recipe.batch_size % run.engine.accumulate == 0 for run in runs)


def test_the_command_line_goes_before_the_file() -> None:
    runs = runs_of(["experiment=demo", "rung=gelu,3", "seed=7", "recipe.epochs=2", "study=mine"])
    assert [(run.rung.name, run.seed, run.recipe.epochs, run.study) for run in runs] == [
        ("gelu", 7, 2, "mine"),
        ("depthwise_conv", 7, 2, "mine"),
    ]


def test_the_kernel_study_shares_its_runs_with_the_ladder() -> None:
    ladder = {run.dir.path for run in runs_of(["experiment=paper_t"])}
    kernel = {run.dir.path for run in runs_of(["experiment=paper_kernel"])}
    assert len(kernel & ladder) == 6, "kernel sizes 3 and 7 are rungs of the ladder"


def test_wrong_studies_are_told() -> None:
    with pytest.raises(UserError, match="did you mean paper_t"):
        runs_of(["experiment=paper_s"])
    with pytest.raises(UserError, match="rung 99"):
        runs_of(["experiment=demo", "rung=99"])


def test_several_experiments_are_a_sweep_each() -> None:
    several = runs_of(["experiment=demo,convmixer_patches", "seed=0"])
    each = [run for name in ("demo", "convmixer_patches") for run in runs_of([f"experiment={name}", "seed=0"])]
    assert [run.dir.path for run in several] == [run.dir.path for run in each]
    assert len(several) == 13 + 12
    with pytest.raises(UserError, match="blend them into one; -m experiment=demo,convmixer_patches"):
        runs_of(["experiment=[demo,convmixer_patches]"])
    with pytest.raises(UserError, match="did you mean demo"):
        runs_of(["experiment=demo,dmeo"])
