"""Owns the tests of which runs may stand in one table where hashes differ: the configs decide, and say what differs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir

import analysis
from analysis.compare.selection import Group, groups
from ladder.errors import UserError
from ladder.paths import conf_dir
from ladder.runs.hydra import register_schema
from ladder.runs.resolve import Run, resolve

Make = Callable[..., Any]


@pytest.fixture
def composed() -> Iterator[Callable[..., Run]]:
    register_schema()
    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        yield lambda *overrides: resolve(compose("train", ["ladder=convnext_32", *overrides]))


def done(study: Any, run: Run, group_hash: str | None = None, **data: Any) -> None:
    """A done run with the config and the hashes of `run`; `data` replaces values of its config (None: removes)."""
    path = study.run(run.rung.name, run.seed)
    config = json.loads(json.dumps(dict(run.config)))
    config["data"] = {k: v for k, v in {**config["data"], **data}.items() if v is not None}
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    result = json.loads((path / "result.json").read_text())
    hashes = {"config_hash": run.config_hash, "group_hash": group_hash or run.group_hash}
    (path / "result.json").write_text(json.dumps(result | hashes))


def found(study: Any) -> Group:
    (one,) = groups(analysis.load(study.root), [], {})
    return one


def test_one_choice_for_all_rungs_is_one_table_though_some_have_it_anyway(make_study: Make, composed: Any) -> None:
    study = make_study()
    names = ("resnet", "move_up_depthwise", "kernel_7", "gelu")
    runs = [composed(f"rung={name}", "spec.kernel_size=7") for name in names]
    assert len({run.group_hash for run in runs}) == 2
    for run in runs:
        done(study, run)
    group = found(study)
    assert len(group.runs) == 4
    assert "spec.kernel_size=7 instead of the ladder's value in move_up_depthwise, resnet" in group.notes
    done(study, composed("rung=patchify_stem"))
    with pytest.raises(
        UserError, match=r"differ in spec.kernel_size \(7, the rung's own\).*--compare spec.kernel_size"
    ):
        found(study)


def test_a_reference_stands_beside_rungs_that_were_given_what_it_does_not_have(make_study: Make, composed: Any) -> None:
    study = make_study()
    for which in ("rung=gelu", "rung=resnet", "reference=test_resnet"):
        done(study, composed(which, "spec.kernel_size=5"))
    group = found(study)
    assert set(group.runs["rung"]) == {"gelu", "resnet", "test_resnet"}
    assert "spec.kernel_size=5 instead of the ladder's value in gelu, resnet" in group.notes


def test_what_earlier_versions_hashed_otherwise_stays_in_its_table(make_study: Make, composed: Any) -> None:
    """`spec.drop_path=0` beside none: one network and two group hashes, and the configs did not say in what."""
    study = make_study()
    done(study, composed("rung=resnet"))
    done(study, composed("rung=gelu"), group_hash="0ddba115")
    assert len(found(study).runs) == 2


def test_runs_of_before_images_were_hashed_stay_in_their_table_and_are_told(make_study: Make, composed: Any) -> None:
    study = make_study()
    run = composed("rung=resnet")
    done(study, run, group_hash="aaaaaaaa")
    done(study, composed("rung=gelu"), group_hash="bbbbbbbb", content="1" * 16)
    assert any("by an earlier version, only the name of the data set" in note for note in found(study).notes)
    done(study, composed("rung=layer_norm"), group_hash="cccccccc", content="2" * 16)
    with pytest.raises(
        UserError, match=r"differ in data.content \(1{16}, 2{16}\); compare them with --compare data.con"
    ):
        found(study)


def test_other_start_weights_are_not_told_apart_by_configs(make_study: Make, composed: Any) -> None:
    study = make_study()
    run = composed("rung=resnet")
    for seed, group in ((0, "aaaaaaaa"), (1, "bbbbbbbb")):
        other = run.with_seed(seed)
        done(study, other, group_hash=group)
        path = next(study.root.glob(f"resnet-s{seed}-*/config.yaml"))
        path.write_text(path.read_text().replace("weights: null", "weights: runs/start"))
    with pytest.raises(UserError, match="do not say in what"):
        found(study)


def test_a_recipe_that_a_rung_sets_itself_is_no_difference(make_study: Make, composed: Any) -> None:
    study = make_study("star", ladder="convmixer_cifar10")
    data = ["ladder=convmixer_cifar10", "data=cifar10", "recipe=convmixer_cifar10"]
    for rung, group in (("kernel_3", "aaaaaaaa"), ("no_mixup_cutmix", "bbbbbbbb")):
        done(study, composed(*data, f"rung={rung}"), group_hash=group)
    assert len(found(study).runs) == 2
    done(study, composed(*data, "rung=no_clipping", "recipe.mixup=0.9"))
    with pytest.raises(UserError, match=r"differ in recipe.mixup \(0.\d, 0.9\)"):
        found(study)
