"""Owns the tests of the commands that a report gives: they train the very runs that it shows."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from safetensors.torch import save

import analysis
import ladder
from analysis.compare.reproduce import code_of, commands, hydra_value, versions_of
from analysis.read.configs import differences, read_config, show
from ladder.common.nested import flatten
from ladder.paths import conf_dir
from ladder.runs.hydra import register_schema
from ladder.runs.resolve import Run, resolve

Make = Callable[..., Any]
PUBLISHED = conf_dir().parent / "runs" / "published"


@pytest.fixture
def composed() -> Iterator[Callable[[list[str]], Run]]:
    register_schema()
    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        yield lambda overrides: resolve(compose("train", overrides))


def written(study: Any, run: Run) -> Path:
    """A pending run folder with the config that `ladder.train` would write."""
    path: Path = study.root / run.label
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(dict(run.config), sort_keys=False))
    return path


@pytest.mark.parametrize(
    "overrides",
    [
        ["ladder=convnext_32", "rung=gelu", "recipe=digits", "data=digits", "seed=3"],
        ["ladder=convnext_t", "rung=0", "recipe=convnext_300ep", "data=imagenet", "data.root=/somewhere/in 1k"],
        [
            "ladder=convnext_32",
            "rung=gelu",
            "recipe=digits",
            "recipe.lr=0.001",
            "recipe.betas=[0.9,0.95]",
            "data=cifar10",
        ],
        ["ladder=convnext_32", "rung=gelu", "spec.kernel_size=9", "spec.layer_scale=0.1", "engine.precision=bf16"],
        ["ladder=convnext_32", "steps=[depthwise_conv,gelu]", "recipe.drop_path=0.1", "device=cpu"],
        ["ladder=convnext_32", "without=[layer_norm]", "recipe.randaugment=rand-m9-mstd0.5-inc1", "recipe.clip_grad=1"],
        ["ladder=convnext_mini", "rung=gelu", "spec.init_base_width=null"],
        ["ladder=convnext_32", "rung=gelu", "spec.init_base_width=64"],
        ["ladder=convnext_32", "rung=kernel_9", "data=imagefolder", "data.root=/data/flowers", "data.holdout=0.1"],
        ["ladder=convnext_32", "rung=kernel_9", "data=imagefolder", "data.root=/data/flowers", "data.name=my own"],
        ["ladder=convnext_32", "rung=kernel_9", "data=digits", "data.name=digits_of_another_scan"],
    ],
)
def test_the_command_makes_the_same_run(make_study: Make, composed: Any, overrides: list[str]) -> None:
    study = make_study()
    run = composed([*overrides, "study=mine"])
    written(study, run)
    (command,) = commands(analysis.load(study.root))
    words = shlex.split(command)
    assert words[:2] == ["ladder", "train"]
    again = composed([w for w in words[2:] if w != "-m"])
    assert again.config_hash == run.config_hash and again.group_hash == run.group_hash
    assert again.label == run.label and again.study == "mine"
    assert dict(again.config["engine"]) == dict(run.config["engine"])


@pytest.mark.parametrize("study", sorted(path.name for path in PUBLISHED.iterdir()))
def test_published_runs_keep_their_names(composed: Any, study: str) -> None:
    run = analysis.load(PUBLISHED / study).tail(1)
    (command,) = commands(run)
    assert composed(shlex.split(command)[2:]).label == run["run"].item()


def test_weights_to_start_from_are_named(make_study: Make, composed: Any, tmp_path: Path) -> None:
    network = ladder.build_model("convnext_mini", rung="gelu", num_classes=10, in_chans=1)
    (tmp_path / "start.safetensors").write_bytes(save(dict(network.state_dict())))
    study = make_study()
    written(study, composed(["rung=gelu", f"weights={tmp_path / 'start.safetensors'}"]))
    (command,) = commands(analysis.load(study.root))
    assert f"weights={tmp_path / 'start.safetensors'}" in shlex.split(command)


def test_a_whole_sweep_is_one_command_and_uneven_seeds_are_one_each(make_study: Make, composed: Any) -> None:
    study = make_study()
    for rung in range(13):
        for seed in range(2):
            written(study, composed(["ladder=convnext_32", f"rung={rung}", f"seed={seed}", "study=demo"]))
    written(study, composed(["ladder=convnext_32", "rung=kernel_9", "seed=0", "study=demo"]))
    assert sorted(commands(analysis.load(study.root))) == [
        "ladder train -m ladder=convnext_32 'rung=range(13)' seed=0,1 recipe=digits data=digits study=demo",
        "ladder train ladder=convnext_32 rung=kernel_9 seed=0 recipe=digits data=digits study=demo",
    ]


def test_code_and_versions_are_those_of_the_finished_runs(make_study: Make) -> None:
    study = make_study().chain(rungs=["resnet"])
    study.run("gelu", 0, 91.0, git_commit=None, git_dirty=None, versions={"ladder": "0.2.0", "torch": "2.16.0"})
    study.run("gelu", 1, 91.0, git_dirty=True)
    study.run("gelu", 2, state="failed")
    runs = analysis.load(study.root)
    assert sorted(code_of(runs)) == sorted(
        [("a" * 40, 3), ("not in a git repository", 1), ("a" * 40 + ", with uncommitted changes", 1)]
    )
    assert versions_of(runs)["PyTorch"] == ["2.15.0", "2.16.0"] and versions_of(runs)["device"] == ["cpu"]


def test_values_as_hydra_and_people_type_them() -> None:
    assert hydra_value([0.5, None, True, "a b", "it's"]) == r"[0.5,null,true,'a b','it\'s']"
    assert (show(None), show(True), show(0.004), show([1, 2.5]), show("x")) == (
        "null",
        "true",
        "0.004",
        "[1, 2.5]",
        "x",
    )


def test_config_differences_name_dotted_keys_with_the_values_met() -> None:
    one = {"recipe": {"lr": 0.1, "name": "a"}, "seed": 0, "spec": {"act": "relu"}, "extra": {}}
    two = {"recipe": {"lr": 0.2, "name": "a"}, "seed": 1, "spec": {"act": "gelu"}}
    assert differences([one, two, one]) == {"recipe.lr": [0.1, 0.2], "extra": [{}, None]}
    assert flatten({"a": {"b": {"c": 1}}, "d": []}) == {"a.b.c": 1, "d": []}


def test_a_missing_or_broken_config_is_none(tmp_path: Path) -> None:
    assert read_config(str(tmp_path)) is None
    for i, text in enumerate(("a: [", "- 1", "\x00")):
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / "config.yaml").write_text(text)
        assert read_config(str(folder)) is None
