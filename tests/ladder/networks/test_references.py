"""References: models of timm in the place of a rung, trained by the same recipe, comparable with the rungs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from hydra.errors import HydraException
from tiny import run_of, train

from ladder.errors import UserError
from ladder.launch.sweeper import runs_of
from ladder.networks.build import build_net, check_image_size
from ladder.networks.cost import measure_cost
from ladder.networks.rungs import load_ladder
from ladder.networks.spec import TimmSpec
from ladder.networks.weights import load_model

FEW = ["data=digits", "data.image_size=32", "seed=0,1"]


def labels(*overrides: str) -> list[tuple[str, int]]:
    return [(run.rung.name, run.seed) for run in runs_of([*overrides, *FEW])]


def test_in_a_sweep_references_are_further_runs_beside_the_rungs() -> None:
    jobs = labels("rung=gelu,kernel_9", "reference=[test_resnet,test_vit]")
    names = ["gelu", "kernel_9", "test_resnet", "test_vit"]
    assert jobs == [(name, seed) for name in names for seed in (0, 1)]
    assert labels("rung=gelu,kernel_9", "reference=test_resnet,test_vit") == jobs
    by_seed = runs_of(["seed=0,1", "rung=gelu,kernel_9", "reference=[test_resnet,test_vit]", *FEW[:2]])
    assert [(run.rung.name, run.seed) for run in by_seed] == [(name, seed) for seed in (0, 1) for name in names]


def test_without_a_rung_a_sweep_is_of_the_references_alone() -> None:
    twice = "reference=[test_resnet,test_resnet]"  # of two overrides the last counts, of two equal names one
    assert labels("reference=[test_vit]", twice) == [("test_resnet", 0), ("test_resnet", 1)]
    assert labels("steps=[gelu]", "reference=[test_resnet]") == [
        *(("gelu", 0), ("test_resnet", 0), ("gelu", 1), ("test_resnet", 1)),
    ]
    assert labels("rung=gelu", "reference=[]") == [("gelu", 0), ("gelu", 1)]


def test_references_may_be_compared_with_the_rungs_under_the_same_choices() -> None:
    runs = runs_of([*FEW, "rung=gelu", "reference=[test_resnet]", "recipe.drop_path=0.1", "spec.kernel_size=5"])
    plain = runs_of([*FEW, "reference=[test_resnet]", "recipe.drop_path=0.1"])
    assert [run.label for run in plain] == [run.label for run in runs if run.rung.is_reference], "no kernel of its own"
    assert {run.group_hash for run in plain} == {run.group_hash for run in runs if run.rung.is_reference}
    assert len({run.config_hash for run in runs}) == 4
    assert runs[0].spec.to_dict()["kernel_size"] == 5
    assert runs[-1].spec == TimmSpec("test_resnet", image_size=32, drop_path=0.1)
    assert (runs[0].config["reference"], runs[-1].config["reference"]) == (None, "test_resnet")
    assert runs[-1].rung.is_reference and not runs[0].rung.is_reference


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["rung=gelu", "reference=[test_resnt]"], "unknown timm model 'test_resnt'; did you mean test_resnet"),
        (
            ["rung=gelu", "reference=[test_resnet,ladder_convnext_32_gelu]"],
            "unknown timm model 'ladder_convnext_32_gelu'",
        ),
        (["reference=inception_v3"], "timm's inception_v3: this network takes no 1x32x32 image"),
        (["reference=vgg11", "recipe.drop_path=0.1"], "timm's vgg11 has no drop path: it needs recipe.drop_path=0"),
        (["reference=test_resnet", "spec.kernel=5"], "unknown config key of spec 'kernel'"),
        (
            ["reference=test_resnet", "ladder=convmixer_grid", "spec.stem=resnet"],
            "unknown spec field of convmixer_grid",
        ),
    ],
)
def test_a_reference_that_can_not_be_is_told_before_anything_starts(overrides: list[str], says: str) -> None:
    with pytest.raises(UserError) as told:
        runs_of([*FEW, *overrides])
    assert says in str(told.value) and "\n" not in str(told.value)


def test_one_run_takes_one_reference_in_the_place_of_a_rung(tmp_path: Path) -> None:
    assert run_of(tmp_path, "reference=test_resnet").rung.name == "test_resnet"
    assert run_of(tmp_path, "reference=[test_resnet]").rung.name == "test_resnet"
    with pytest.raises(UserError, match="a run trains one network; give one name, or sweep with -m"):
        run_of(tmp_path, "reference=[test_resnet,test_vit]")
    with pytest.raises(UserError, match="reference and rung/steps/without exclude each other"):
        run_of(tmp_path, "reference=test_resnet", "rung=gelu")


def test_a_reference_trains_and_says_that_it_is_one(tmp_path: Path) -> None:
    run = run_of(tmp_path, "reference=test_vit", "recipe.epochs=1", "recipe.warmup_epochs=0", "data.image_size=16")
    assert train(run).state == "done"
    result = json.loads((run.dir.path / "result.json").read_text())
    assert (result["rung"], result["group"], result["parent"]) == ("test_vit", "reference", None)
    assert result["rung_index"] is None and result["ladder"] == "convnext_32"
    model = load_model(run.dir.path)
    own = timm.create_model("test_vit", num_classes=10, in_chans=1, img_size=16)
    assert measure_cost(own, 16).macs == result["macs"]
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in own.state_dict().items()}
    with torch.inference_mode():
        assert model(torch.randn(2, 1, 16, 16)).shape == (2, 10)


@pytest.mark.parametrize(
    "name",
    [
        "swin_tiny_patch4_window7_224",
        "deit_small_patch16_224",
        "mixer_b16_224",
        "resmlp_12_224",
    ],
)
def test_the_papers_rivals_take_small_images_too(name: str) -> None:
    spec = TimmSpec(name, image_size=32, drop_path=0.1)
    check_image_size(spec, 32)
    with torch.device("meta"):
        net = build_net(spec, num_classes=10, in_chans=3)
    assert net(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)


def test_a_rung_of_a_reference_takes_the_title_that_the_ladder_gives_it() -> None:
    ladder = load_ladder("convnext_t")
    known, other = ladder.reference("swin_tiny_patch4_window7_224"), ladder.reference("resnet18")
    assert (known.title, known.paper.top1, known.index, known.parent) == ("Swin-T", 81.3, None, None)
    assert (other.title, other.paper.top1, other.group) == ("resnet18", None, "reference")


def test_a_malformed_override_is_still_told() -> None:
    with pytest.raises((UserError, HydraException)):
        runs_of([*FEW, "reference=[a"])
