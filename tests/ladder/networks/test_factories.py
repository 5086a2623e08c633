"""Ladders over networks that are not ours: models of timm with arguments, functions of a person's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import train

from ladder.common.nested import flatten
from ladder.errors import UserError
from ladder.launch.sweeper import runs_of
from ladder.networks.arguments import arguments, nested, written_over
from ladder.networks.build import build_net, check_image_size
from ladder.networks.cost import measure_cost
from ladder.networks.rungs import Ladder, load_ladder
from ladder.networks.spec import CallSpec, TimmSpec

RESNET = """
network: timm
image_size: 32
base: {name: resnet, spec: {model: resnet18}}
steps:
  - {name: deep_stem, change: {args: {stem_width: 32, stem_type: deep}}}
  - {name: avg_down, change: {args.avg_down: true}}
  - {name: se, change: {args.block_args.attn_layer: se}}
  - {name: other, change: {model: resnet34}}
side:
  - {name: eca, after: avg_down, change: {args.block_args: {attn_layer: eca}}}
"""
FACTORY = """
from torch import nn

def make(num_classes, in_chans, width=8, act="relu", drop_path=0.0):
    layers = [nn.Conv2d(in_chans, width, 3), nn.GELU() if act == "gelu" else nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width, num_classes))

def sized(num_classes, in_chans, image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_chans * image_size**2, num_classes))

def deep(num_classes, in_chans, **more):
    assert not more, more
    return nn.Sequential(nn.Conv2d(in_chans, num_classes, 1))

def needs_values(num_classes, in_chans):
    import torch
    width = int(torch.linspace(4, 8, 3)[1].item())
    layers = [nn.Conv2d(in_chans, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(width, num_classes))

def leaves(num_classes, in_chans):
    raise SystemExit(3)

SHARED = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))

def shared(num_classes, in_chans):
    return SHARED

def breaks(num_classes, in_chans):
    raise KeyError("width")

def text(num_classes, in_chans):
    return "net"

value = 3
"""


def ladder_in(folder: Path, text: str) -> Ladder:
    path = folder / "mine.yaml"
    path.write_text(text)
    return load_ladder(path)


def call(tmp_path: Path, spec: str, module: str) -> CallSpec:
    """A spec of a function in a module of its own name, as Python keeps modules."""
    (tmp_path / f"{module}.py").write_text(FACTORY)
    made = ladder_in(tmp_path, f"network: call\nbase: {{name: a, spec: {{{spec}}}}}\n").rungs[0].spec
    assert isinstance(made, CallSpec)
    return made


values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers())
names = st.from_regex(r"[a-z_]{1,3}", fullmatch=True)
trees = st.recursive(values, lambda inner: st.dictionaries(names, inner, min_size=1, max_size=3), max_leaves=8)


@given(st.dictionaries(names, trees, max_size=4))
def test_arguments_survive_their_flat_form(tree: dict[str, object]) -> None:
    assert nested(arguments(flatten({"args": tree}))) == tree


@given(st.dictionaries(names, trees, max_size=3), st.dictionaries(names, trees, max_size=3))
def test_a_change_holds_after_it_and_spares_the_rest(before: dict[str, object], change: dict[str, object]) -> None:
    after = written_over(before, change)
    for key, value in flatten(change).items():
        assert after[key] == value
    for key, value in flatten(before).items():
        touched = any(f"{key}.".startswith(f"{k}.") or f"{k}.".startswith(f"{key}.") for k in flatten(change))
        assert touched or after[key] == value
    nested(after.items())  # no name is both a value and a branch


def test_steps_change_arguments_and_the_model(tmp_path: Path) -> None:
    ladder = ladder_in(tmp_path, RESNET)
    specs = {rung.name: rung.spec for rung in (*ladder.rungs, *ladder.side_rungs)}
    args = {"stem_width": 32, "stem_type": "deep", "avg_down": True, "block_args.attn_layer": "se"}
    assert specs["se"] == TimmSpec.from_mapping({"model": "resnet18", "args": args})
    assert specs["other"].to_dict()["model"] == "resnet34" and specs["other"].to_dict()["args"]["avg_down"]
    assert specs["eca"].to_dict()["args"]["block_args"] == {"attn_layer": "eca"}
    assert ladder.subset(["se"]).spec.recorded()["args"] == {"block_args": {"attn_layer": "se"}}
    assert specs["resnet"].recorded() == {"model": "resnet18", "image_size": None, "drop_path": 0.0}
    for name, spec in specs.items():
        check_image_size(spec, 32)
        with torch.device("meta"):
            mine = build_net(spec, num_classes=10)
            theirs = timm.create_model(spec.to_dict()["model"], num_classes=10, **spec.to_dict()["args"])
        assert measure_cost(mine, 32) == measure_cost(theirs, 32), name


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("args.stem_widht: 3", "unknown argument of timm's resnet18 (ResNet) 'stem_widht'; did you mean stem_width"),
        (
            "args.block_args.attn: se",
            "unknown argument of timm's resnet18 (BasicBlock) 'attn'; did you mean attn_layer",
        ),
        ("args.num_classes: 3", "spec.args.num_classes: is that of the data"),
        ("args.drop_path_rate: 0.1", "spec.args.drop_path_rate: is recipe.drop_path"),
        ("1: 3", "unknown spec field '1'"),
        ("args.1: 3", "spec.args.1=3: must be a mapping of arguments by name"),
        ("args: 3", "spec.args=3: must be a mapping of arguments by name"),
        ("args.: 3", "spec.args.=3: must be a mapping of arguments by name"),
        ("args.stem_width: 2000-01-01", "must be a number, text, true"),
        ("model: resnt18", "unknown timm model 'resnt18'; did you mean resnet18"),
        ("modle: resnet18", "unknown spec field 'modle'; did you mean model"),
        ("args.norm_layer: 3", "timm's resnet18 can't be built with"),
    ],
)
def test_a_wrong_argument_is_one_line_with_the_real_names(tmp_path: Path, change: str, says: str) -> None:
    text = f"network: timm\nbase: {{name: a, spec: {{model: resnet18, {change}}}}}\n"
    with pytest.raises(UserError) as told:
        check_image_size(ladder_in(tmp_path, text).rungs[0].spec, 32)
    assert says in str(told.value) and "\n" not in str(told.value)


def test_a_step_spares_the_arguments_that_it_does_not_name(tmp_path: Path) -> None:
    text = RESNET.replace("{model: resnet18}", "{model: resnet18, args: {cardinality: 1, base_width: 32}}")
    args = [rung.spec.to_dict()["args"] for rung in ladder_in(tmp_path, text).rungs]
    assert all(given["base_width"] == 32 for given in args) and args[1]["stem_width"] == 32


def test_a_function_beside_the_ladder_file_makes_the_network(tmp_path: Path) -> None:
    spec = call(tmp_path, "target: nets_a.make, args: {width: 12, act: gelu}", "nets_a")
    check_image_size(spec, 9)
    net = build_net(spec.replace(drop_path=0.1), num_classes=7, in_chans=1)
    assert net(torch.zeros(2, 1, 9, 9)).shape == (2, 7)
    assert spec.replace(args={"act": "relu"}).to_dict()["args"] == {"act": "relu", "width": 12}
    assert "folder" not in spec.to_dict() and spec.replace(args={"width": 3}).folder == str(tmp_path)


def test_a_file_of_ours_is_looked_for_beside_only_where_it_names_a_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ladder").mkdir()
    monkeypatch.setattr("ladder.networks.rungs.conf_dir", lambda: tmp_path)
    assert ladder_in(tmp_path / "ladder", RESNET).folder is None
    text = "network: call\nbase: {name: a, spec: {target: nets_e.make}}\n"
    assert ladder_in(tmp_path / "ladder", text).folder == str(tmp_path / "ladder")
    (tmp_path / "ladder" / "nets_e.py").write_text(FACTORY)
    assert build_net(load_ladder("mine").rungs[0].spec, num_classes=3).__class__ is torch.nn.Sequential


def test_a_function_gets_the_image_size_where_it_takes_one(tmp_path: Path) -> None:
    spec = call(tmp_path, "target: nets_b.sized", "nets_b").replace(image_size=6)
    check_image_size(spec, 6)
    assert build_net(spec, num_classes=7, in_chans=1)(torch.zeros(2, 1, 6, 6)).shape == (2, 7)


def test_what_a_module_makes_when_it_is_imported_is_real(tmp_path: Path) -> None:
    spec = call(tmp_path, "target: nets_f.shared", "nets_f")
    check_image_size(spec, 32, 10, 1)
    net = build_net(spec, num_classes=10, in_chans=1)
    assert net(torch.zeros(2, 1, 32, 32)).shape == (2, 10), "also where it was first imported for a sketch"


def test_a_network_without_convolutions_trains_on_gray_images(tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "ladder"
    folder.mkdir(parents=True)
    (folder / "nets_g.py").write_text(FACTORY)
    (folder / "flat.yaml").write_text("network: call\nbase: {name: a, spec: {target: nets_g.shared}}\n")
    few = ["data=digits", "recipe.epochs=1", "recipe.warmup_epochs=0", "data.fraction=0.1", "wandb.mode=disabled"]
    (run,) = runs_of(["ladder=flat", f"runs_dir={tmp_path}", "data.image_size=32", *few], tmp_path / "mine")
    assert train(run).state == "done"


def test_a_function_that_reads_values_of_tensors_is_checked_too(tmp_path: Path) -> None:
    check_image_size(call(tmp_path, "target: nets_c.needs_values", "nets_c"), 6)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("target: nets_d.mke", "unknown function of nets_d 'mke'; did you mean make"),
        ("target: nets_d.value", "unknown function of nets_d 'value'; did you mean needs_values? allowed: make"),
        ("target: nowhere.make", "no module nowhere on the Python path, nor beside the ladder file in"),
        ("target: make", "spec.target='make': must be MODULE.FUNCTION"),
        ("target: nets_d.make, args: {widht: 3}", "unknown argument of nets_d.make 'widht'; did you mean width"),
        ("target: nets_d.make, args: {in_chans: 3}", "spec.args.in_chans: is data.in_chans"),
        ("target: nets_d.make, code: {a: 1}", "spec.code={'a': 1}: must be null"),
        ("target: nets_d.breaks", "nets_d.breaks(num_classes=10, in_chans=3) raises KeyError: 'width'"),
        ("target: nets_d.leaves", "nets_d.leaves(num_classes=10, in_chans=3) raises SystemExit: 3"),
        ("target: nets_d.text", "nets_d.text returns str: must return a torch.nn.Module"),
        ("target: nets_d.deep", "its network gives [1, 10, 32, 32] for one image; must give logits, [1, 10]"),
        ("target: nets_d.deep, args: {a: 1}", "raises AssertionError"),
        ("target: nets_d.sized", "missing 1 required positional argument: 'image_size'"),
    ],
)
def test_a_function_that_makes_no_network_is_told_in_one_line(tmp_path: Path, spec: str, says: str) -> None:
    with pytest.raises(UserError) as told:
        check_image_size(call(tmp_path, spec, "nets_d"), 32)
    assert says in str(told.value) and "\n" not in str(told.value)


def test_no_function_of_a_studys_ladder_is_called(tmp_path: Path) -> None:
    (tmp_path / "hostile.py").write_text(f"open({str(tmp_path / 'gone')!r}, 'w')\ndef make(**a): pass\n")
    values = {"name": "x", "network": "call", "base": {"name": "a", "spec": {"target": "hostile.make"}}}
    spec = Ladder.from_mapping(values, foreign=True).rungs[0].spec
    with pytest.raises(UserError, match="a study's code is not run"):
        build_net(spec)
    with pytest.raises(UserError, match="unknown key 'folder'"):
        Ladder.from_mapping({**values, "folder": str(tmp_path)}, foreign=True)
    with pytest.raises(UserError, match="a study's ladder holds its base in full"):
        Ladder.from_mapping({**values, "base": {"name": "a", "from": str(tmp_path / "mine.yaml")}}, foreign=True)
    assert not (tmp_path / "gone").exists()


def test_a_ladder_goes_on_from_another_ones_rung(tmp_path: Path) -> None:
    ladder = ladder_in(
        tmp_path,
        "base: {from: convnext_32, rung: separate_downsampling, title: mine, spec: {kernel_size: 5}}\n"
        "steps: [{name: silu, change: {act: silu}}]\n",
    )
    top = load_ladder("convnext_32").rung("separate_downsampling")
    assert ladder.rungs[0].spec == top.spec.replace(kernel_size=5) and ladder.rungs[1].spec.to_dict()["act"] == "silu"
    assert (ladder.network, ladder.image_size, ladder.rungs[0].name) == ("roadmap", 32, "separate_downsampling")
    assert Ladder.from_mapping(ladder.values).rungs == ladder.rungs, "written out in full"
    (tmp_path / "mine.yaml").rename(tmp_path / "first.yaml")
    second = ladder_in(tmp_path, "base: {from: first, rung: silu}\n")
    assert second.rungs[0].spec == ladder.rungs[1].spec
    with pytest.raises(UserError, match="unknown ladder 'convnext_33'; did you mean convnext_32"):
        ladder_in(tmp_path, "base: {from: convnext_33}\n")
    with pytest.raises(UserError, match="its network is roadmap, not timm"):
        ladder_in(tmp_path, "network: timm\nbase: {from: convnext_32}\n")
    (tmp_path / "other.yaml").write_text("base: {from: mine}\n")
    for name in ("mine", "other"):  # itself, or by way of another
        with pytest.raises(UserError, match=r"mine: .*base.from=\w+ leads back to this ladder") as told:
            ladder_in(tmp_path, f"base: {{from: {name}}}\n")
        assert len(str(told.value)) < 300


def test_a_small_vit_stays_small() -> None:
    ladder = load_ladder("vit_plain_32")
    for rung in ladder.rungs:
        net = build_net(rung.spec.for_images(32), num_classes=10)
        assert 100e6 < measure_cost(net, 32).macs < 250e6, rung.name


OF_TIMM = [
    f"ladder_{name}_{rung.name}"
    for name in ("resnet_d", "vit_plain", "vit_plain_32")
    for rung in (*load_ladder(name).rungs, *load_ladder(name).side_rungs)
]


@pytest.mark.parametrize(
    "name", [n if "_32_" in n or n.endswith("_se") else pytest.param(n, marks=pytest.mark.slow) for n in OF_TIMM]
)
def test_a_rung_of_timms_network_is_a_timm_model(name: str) -> None:
    model = timm.create_model(name, num_classes=7, in_chans=1).eval()
    size = model.pretrained_cfg["input_size"][-1]
    x = torch.randn(2, 1, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = model(x)
        assert logits.shape == (2, 7) and torch.equal(model.forward_head(model.forward_features(x)), logits)
        model.reset_classifier(3)
        assert model(x).shape == (2, 3)
    assert isinstance(model.get_submodule(model.pretrained_cfg["classifier"]), torch.nn.Linear)
    assert isinstance(model.get_submodule(model.pretrained_cfg["first_conv"]), torch.nn.Conv2d)
    assert not model.pretrained_cfg.get("url") and not model.pretrained_cfg.get("hf_hub_id")
    with pytest.raises(UserError, match=f"no weights of {name} are published"):
        timm.create_model(name, pretrained=True)


@pytest.mark.parametrize(
    ("name", "theirs", "options"),
    [
        ("resnet_d_resnet50", "resnet50", {}),
        ("resnet_d_average_shortcut", "resnet50d", {}),
        ("resnet_d_se", "resnet50d", {"block_args": {"attn_layer": "se"}}),
        ("resnet_d_eca", "ecaresnet50d", {}),
        ("vit_plain_vit", "vit_small_patch16_224", {}),
        ("vit_plain_registers", "vit_medium_patch16_reg4_gap_256", {"embed_dim": 384, "num_heads": 6}),
    ],
)
def test_ends_are_timms_models(name: str, theirs: str, options: dict[str, object]) -> None:
    if theirs.startswith("vit"):
        options = {**options, "img_size": 224}
    other = timm.create_model(theirs, num_classes=10, **options).eval()
    mine = timm.create_model(f"ladder_{name}", num_classes=10).eval()
    mine.load_state_dict(other.state_dict())
    assert measure_cost(mine, 224) == measure_cost(other, 224)
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(mine(x), other(x))


def test_features_of_a_rung_of_timms_resnet() -> None:
    model = timm.create_model("ladder_resnet_d_se", features_only=True, out_indices=(1, 3))
    assert [part.shape[1] for part in model(torch.zeros(1, 3, 64, 64))] == [256, 1024]


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ("recipe.head_init_scale=0.5", "recipe.head_init_scale=0.5: Sequential names no layer as its classifier"),
        (
            "engine.checkpoint_activations=true",
            "checkpoint_activations: Sequential has no set_grad_checkpointing",
        ),
        ("recipe.layer_decay=0.8", "recipe.layer_decay: Sequential does not say its layers"),
        ("recipe.drop_path=0.1", "takes neither drop_path_rate nor drop_path: it needs recipe.drop_path=0"),
        ("spec.args.depth=0 data.image_size=1", "its network raises|this network takes no"),
    ],
)
def test_what_a_network_of_ones_own_can_not_do_is_one_line(tmp_path: Path, choice: str, says: str) -> None:
    folder = Path(__file__).parents[3] / "docs" / "my_first"
    few = ["data=digits", "recipe.epochs=1", "recipe.warmup_epochs=0", "data.fraction=0.1", "wandb.mode=disabled"]

    def attempt() -> None:
        (run,) = runs_of(["ladder=my_first", f"runs_dir={tmp_path}", *few, *choice.split()], folder)
        train(run)

    with pytest.raises(UserError, match=says) as told:
        attempt()
    assert "\n" not in str(told.value)
