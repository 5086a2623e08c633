"""Rungs as timm models: what timm's own model tests ask of a model."""

from __future__ import annotations

import copy
import subprocess
import sys
import warnings

import pytest
import timm
import torch
import yaml
from timm.models import get_notrace_functions, get_notrace_modules, group_parameters
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from ladder.errors import UserError
from ladder.networks.rungs import list_ladders, load_ladder
from ladder.networks.spec import Spec
from ladder.networks.zoo import build_model, default_cfgs
from ladder.paths import conf_dir
from ladder.runs.config import DataConfig

SMALL = [
    f"ladder_convnext_32_{r.name}" for r in (*load_ladder("convnext_32").rungs, *load_ladder("convnext_32").side_rungs)
]
ENDS = [
    "ladder_convnext_t_resnet50",
    "ladder_convnext_t_separate_downsampling",
    "ladder_convnext_b_resnet200",
    "ladder_convnext_b_separate_downsampling",
    "ladder_convnext_v2_se",
    "ladder_convnext_v2_grn",
]
ISOTROPIC = [
    "ladder_convnext_isotropic_large",
    "ladder_convmixer_imagenet_convmixer_1024_12",  # an even kernel
    "ladder_convmixer_cifar10_pointwise_residual",
    "ladder_isotropic_to_convmixer_32_convnext_isotropic",
    "ladder_isotropic_to_convmixer_32_more_norms",
    "ladder_isotropic_to_convmixer_32_no_expansion",
    "ladder_isotropic_to_convmixer_32_torch_init",
]
EACH = pytest.mark.parametrize("name", [*SMALL, *ENDS, *ISOTROPIC])
EACH_SMALL = pytest.mark.parametrize("name", [*SMALL, *ISOTROPIC])


def small(name: str, **kwargs: object) -> nn.Module:
    """The model; the big ones at a width and depth that runs at once."""
    if name in ISOTROPIC:
        kwargs = {"width": 16, "depth": 4, **kwargs}
    elif "convnext_32" not in name:
        kwargs = {"widths": [8, 16, 32, 64], "depths": [1, 1, 2, 1], **kwargs}
    return timm.create_model(name, **kwargs)


def depths(model: nn.Module) -> list[int]:
    """Blocks of each stage; an isotropic network's blocks are a stage each."""
    return list(getattr(model.spec, "depths", [1] * getattr(model.spec, "depth", 0)))


def images(model: nn.Module, channels: int = 3, batch: int = 2) -> Tensor:
    side = min(model.default_cfg["input_size"][-1], 64)
    return torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(0))


def test_every_rung_of_every_ladder_is_a_timm_model() -> None:
    expected = {
        f"ladder_{name}_{rung.name}"
        for name in list_ladders()
        for rung in (*load_ladder(name).rungs, *load_ladder(name).side_rungs)
    }
    assert set(timm.list_models("ladder_*")) == expected
    assert timm.list_models("ladder_*", pretrained=True) == []


@pytest.mark.parametrize("first", ["ladder, timm", "ladder.networks.build, timm"])  # above: timm first
def test_both_imports_are_enough_in_either_order(first: str) -> None:
    code = f"import {first}; print(len(timm.list_models('ladder_*')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(timm.list_models("ladder_*"))


@EACH
def test_a_model_is_the_rung_of_its_name(name: str) -> None:
    ladder = max((ladder for ladder in list_ladders() if f"_{ladder}_" in name), key=len)
    rung = name.removeprefix(f"ladder_{ladder}_")
    with torch.device("meta"):
        theirs, ours = timm.create_model(name, num_classes=10), build_model(ladder, rung, num_classes=10)
    assert theirs.spec == ours.spec == load_ladder(ladder).rung(rung).spec
    assert str(theirs) == str(ours)


@EACH
def test_forward_is_head_of_features(name: str) -> None:
    model = small(name, num_classes=7).eval()
    x = images(model)
    with torch.inference_mode():
        features = model.forward_features(x)
        logits = model(x)
        pre_logits = model.forward_head(features, pre_logits=True)
        assert features.shape[:2] == (2, model.num_features)
        assert pre_logits.shape == (2, model.head_hidden_size)
        assert logits.shape == (2, model.num_classes) == (2, 7)
        assert torch.equal(model.forward_head(features), logits)
        assert torch.equal(model.get_classifier()(pre_logits), logits)
        assert logits.isfinite().all()


@EACH
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model = small(name, num_classes=7).train()
    model(images(model)).mean().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key


@EACH
def test_without_classes_the_model_ends_in_pooled_features(name: str) -> None:
    model = small(name, num_classes=0).eval()
    x = images(model)
    with torch.inference_mode():
        assert model(x).shape == (2, model.num_features)
        assert isinstance(model.get_classifier(), nn.Identity)
        unpooled = small(name, num_classes=0, global_pool="").eval()
        assert unpooled(x).shape == model.forward_features(x).shape


@EACH
def test_the_classifier_can_be_reset(name: str) -> None:
    model = small(name, num_classes=7).eval()
    x = images(model)
    with torch.inference_mode():
        features = model.forward_features(x)
        model.reset_classifier(3)
        assert (model.num_classes, model(x).shape) == (3, (2, 3))
        model.reset_classifier(3, "max")
        assert model(x).shape == (2, 3)
        model.reset_classifier(0)
        pooled = model(x)
        assert pooled.shape == (2, model.num_features)
        model.reset_classifier(0, "avg")
        assert not torch.equal(model(x), pooled)
        model.reset_classifier(0, "")
        assert model(x).shape == features.shape
        assert torch.equal(model.forward_features(x), features)
        model.reset_classifier(5, "avg")
        assert model(x).shape == (2, 5)
    with pytest.raises(UserError, match="global_pool='mean'"):
        model.reset_classifier(3, "mean")


@EACH
def test_features_are_where_the_feature_info_says(name: str) -> None:
    model = small(name, features_only=True).eval()
    x = images(model)
    with torch.inference_mode():
        maps = model(x)
    assert len(maps) == len(model.feature_info.channels()) == 4
    for feature, channels, reduction in zip(
        maps, model.feature_info.channels(), model.feature_info.reduction(), strict=True
    ):
        assert feature.shape == (2, channels, x.shape[2] // reduction, x.shape[3] // reduction)


@pytest.mark.parametrize("name", [SMALL[0], SMALL[12], ISOTROPIC[-1]])
@pytest.mark.parametrize("kind", ["list", "dict", "hook", "getter"])
def test_features_can_be_chosen_and_are_those_of_the_model(name: str, kind: str) -> None:
    model = small(name).eval()
    chosen = small(name, features_only=True, feature_cls=kind, out_indices=(0, 2)).eval()
    states = {k.replace(".", "").replace("_", ""): v for k, v in model.state_dict().items()}
    own = {
        k: states[k.removeprefix("body.").removeprefix("model.").replace(".", "").replace("_", "")]
        for k in chosen.state_dict()
    }
    chosen.load_state_dict(own)
    x = images(model)
    with torch.inference_mode():
        maps = chosen(x)
        maps = list(maps.values()) if isinstance(maps, dict) else maps
        expected = model.forward_intermediates(x, indices=[0, 2], intermediates_only=True)
    assert len(maps) == 2
    assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))


@EACH_SMALL
def test_intermediates_are_those_of_the_forward_pass(name: str) -> None:
    model = small(name).eval()
    x = images(model)
    with torch.inference_mode():
        final, maps = model.forward_intermediates(x)
        assert torch.equal(final, model.forward_features(x))
        assert torch.equal(maps[-1], final) and len(maps) == 4
        last_two = model.forward_intermediates(x, indices=2, intermediates_only=True)
        assert all(torch.equal(a, b) for a, b in zip(last_two, maps[2:], strict=True))
        pruned = copy.deepcopy(model)
        assert pruned.prune_intermediate_layers([1]) == [1]
        assert torch.equal(pruned.forward_features(x), maps[1])
        assert pruned(x).shape[1] == pruned.num_features == maps[1].shape[1]


@EACH
def test_channels_of_the_images_can_be_chosen(name: str) -> None:
    for channels in (1, 4):
        model = small(name, in_chans=channels, num_classes=3).eval()
        assert model(images(model, channels)).shape == (2, 3)


@EACH_SMALL
def test_checkpointing_changes_neither_outputs_nor_gradients(name: str) -> None:
    model = small(name, num_classes=3, drop_path_rate=0.3).train()
    x, found = images(model, batch=4), []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        torch.manual_seed(0)
        outputs = model(x)
        outputs.square().sum().backward()
        found.append((outputs.detach(), [p.grad.clone() for p in model.parameters()]))
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(a, b) for a, b in zip(found[0][1], found[1][1], strict=True))


@EACH
def test_the_config_describes_the_model(name: str) -> None:
    model = small(name)
    cfg = model.default_cfg
    assert cfg is model.pretrained_cfg
    assert cfg["num_classes"] == model.num_classes == 1000
    size = load_ladder(max((ladder for ladder in list_ladders() if f"_{ladder}_" in name), key=len)).image_size
    assert cfg["input_size"] == (3, size, size)
    assert cfg["pool_size"] == (size // model.spec.reduction,) * 2
    state = model.state_dict()
    assert state[cfg["first_conv"] + ".weight"].shape[1] == 3
    assert model.get_submodule(cfg["classifier"]) is model.get_classifier()
    assert not any(cfg.get(source) for source in ("url", "file", "hf_hub_id"))
    assert timm.data.resolve_model_data_config(model)["input_size"] == (3, size, size)
    with torch.inference_mode():
        features = model.eval().forward_features(torch.randn(1, *cfg["input_size"]))
    assert features.shape[2:] == cfg["pool_size"]


@pytest.mark.parametrize("ladder", list_ladders())
def test_timm_evaluates_a_ladder_as_its_recipe_does(ladder: str) -> None:
    used = yaml.safe_load((conf_dir() / "ladder" / f"{ladder}.yaml").read_text())["evaluation"]
    recipe, data = (yaml.safe_load((conf_dir() / k / f"{used[k]}.yaml").read_text()) for k in ("recipe", "data"))
    told = timm.data.resolve_data_config(
        {}, pretrained_cfg=default_cfgs[f"ladder_{ladder}_{load_ladder(ladder).base.name}"].default.to_dict()
    )
    assert (told["crop_pct"], told["interpolation"]) == (recipe["eval_crop_pct"], recipe["interpolation"])
    defaults = DataConfig()
    assert list(told["mean"]) == data.get("mean", defaults.mean) and list(told["std"]) == data.get("std", defaults.std)
    assert told["input_size"] == (3, load_ladder(ladder).image_size, load_ladder(ladder).image_size)


def test_drop_path_rate_is_the_drop_path_of_the_spec() -> None:
    model = timm.create_model(SMALL[12], drop_path_rate=0.25)
    assert model.spec.drop_path == 0.25
    with pytest.raises(UserError, match="give one of them"):
        timm.create_model(SMALL[12], drop_path_rate=0.25, drop_path=0.25)


def test_drop_rate_drops_before_the_classifier_in_training_only() -> None:
    for name in (SMALL[0], SMALL[12]):
        model = timm.create_model(name, drop_rate=0.5, num_classes=3).eval()
        features = torch.randn(2, model.num_features, 2, 2)
        plain = model.forward_head(features, pre_logits=True)
        dropped = model.train().forward_head(features, pre_logits=True)
        assert not (plain == 0).any()
        assert 0.3 < (dropped == 0).float().mean() < 0.7


@EACH
def test_a_state_dict_makes_the_same_model_again(name: str) -> None:
    first, second = (
        small(name, num_classes=3, layer_scale=0.1).eval(),
        small(name, num_classes=3, layer_scale=0.1).eval(),
    )
    second.load_state_dict(first.state_dict(), strict=True)
    x = images(first)
    with torch.inference_mode():
        assert torch.equal(first(x), second(x))


@EACH
def test_groups_cover_all_parameters_block_by_block(name: str) -> None:
    model = small(name, num_classes=3)
    names = {n for n, _ in model.named_parameters()}
    groups = group_parameters(model, model.group_matcher())
    grouped = [n for members in groups.values() for n in members]
    assert sorted(grouped) == sorted(names)
    blocks = sum(depths(model))
    assert len(groups) == blocks + 2  # stem, blocks, head
    assert all(n.startswith("stem.") for n in groups[0]) and all(n.startswith("head.") for n in groups[blocks + 1])
    order = [min(groups[i]) for i in range(1, blocks + 1)]
    assert order == sorted(order, key=lambda n: [int(p) for p in n.split(".") if p.isdigit()])
    coarse = group_parameters(model, model.group_matcher(coarse=True))
    assert len(coarse) == len(depths(model)) + 2
    assert sorted(n for members in coarse.values() for n in members) == sorted(names)


def test_layer_decay_gives_lower_layers_smaller_rates() -> None:
    model = timm.create_model(SMALL[12], layer_scale=0.1)
    groups = param_groups_layer_decay(model, weight_decay=0.05, layer_decay=0.5)
    ids = [id(p) for group in groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters())
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    blocks = sum(model.spec.depths)
    assert scale[id(model.get_classifier().weight)] == 1
    assert scale[id(model.get_submodule("stages.3.blocks.1").conv1.weight)] == 0.5
    assert scale[id(model.get_submodule("stem.conv").weight)] == 0.5 ** (blocks + 1)
    assert {decay[id(p)] for p in model.parameters() if p.ndim == 1} == {0.0}
    assert {decay[id(p)] for p in model.parameters() if p.ndim > 1} == {0.05}


# What timm's own tests/test_models.py asks of a model, asked of every rung at the smallest size with all its parts.


def tiny_options(spec: Spec) -> dict[str, object]:
    """One block of four channels a stage."""
    return {"width": 4, "depth": 2} if spec.network == "isotropic" else {"widths": (4,) * 4, "depths": (1,) * 4}


RUNGS = {
    f"ladder_{name}_{rung.name}": rung.spec
    for name in list_ladders()
    if load_ladder(name).network != "timm"  # timm's own tests ask the same of those
    for rung in (*load_ladder(name).rungs, *load_ladder(name).side_rungs)
}
# Of rungs that differ in width, depth and start weights alone one stands for all.
KINDS = {spec.replace(**tiny_options(spec), init="trunc_normal"): name for name, spec in RUNGS.items()}
EVERY = pytest.mark.parametrize("name", RUNGS)
EVERY_KIND = pytest.mark.parametrize("name", KINDS.values())


def tiny(name: str, **options: object) -> nn.Module:
    return timm.create_model(name, **tiny_options(RUNGS[name]), **options)


def trace(model: nn.Module) -> nn.Module:
    """As timm's tests trace: the nodes of the output, timm's own leaves."""
    options = {
        "leaf_modules": get_notrace_modules(),
        "autowrap_functions": get_notrace_functions(),
        "param_shapes_constant": True,
    }
    train, evaluate = get_graph_node_names(model, tracer_kwargs=options)
    return create_feature_extractor(
        model, train_return_nodes=[train[-1]], eval_return_nodes=[evaluate[-1]], tracer_kwargs=options
    )


@EVERY_KIND
def test_a_traced_model_is_the_model_and_trains(name: str) -> None:
    model = tiny(name, num_classes=3).eval()
    x = images(model)
    traced = trace(model)
    with torch.inference_mode():
        (out,) = traced.eval()(x).values()
        assert torch.equal(out, model(x))
    (out,) = traced.train()(x).values()
    out.mean().backward()
    assert out.shape == (2, 3)
    assert all(p.grad is not None for p in traced.parameters())
    assert sum(p.numel() for p in traced.parameters()) == sum(p.numel() for p in model.parameters())


@EVERY
def test_a_model_has_the_parts_that_timm_asks_for(name: str) -> None:
    model = tiny(name).eval()
    cfg, state, x = model.default_cfg, model.state_dict(), images(model)
    assert {cfg["classifier"] + ".weight", cfg["first_conv"] + ".weight"} <= set(state)
    assert model.num_classes == cfg["num_classes"] == 1000
    channels, reductions = ([info[key] for info in model.feature_info] for key in ("num_chs", "reduction"))
    with torch.inference_mode():
        features = model.forward_features(x)
        pre_logits = model.forward_head(features, pre_logits=True)
        assert features.shape[1] == model.num_features and pre_logits.shape == (2, model.head_hidden_size)
        final, maps = model.forward_intermediates(x, output_fmt="NCHW")
        assert torch.equal(final, features)
        assert [m.shape[1] for m in maps] == channels
        assert [m.shape[-1] for m in maps] == [x.shape[-1] // r for r in reductions]
        logits = model(x)
        model.set_grad_checkpointing()
        assert torch.equal(model(x), logits)
        assert torch.equal(model.forward_intermediates(x)[0], final)
        model.set_grad_checkpointing(False)
        model.reset_classifier(0)
        assert model.num_classes == 0 and torch.equal(model(x), pre_logits)
        model.reset_classifier(0, "")
        assert model(x).shape == features.shape
        assert tiny(name, num_classes=0, global_pool="").eval()(x).shape == features.shape


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="TorchScript does not support Python 3.14")
@pytest.mark.parametrize("name", [SMALL[0], SMALL[5], SMALL[10], SMALL[12], ISOTROPIC[1], ISOTROPIC[3], ISOTROPIC[-1]])
@pytest.mark.parametrize("traced", [False, True])
def test_a_model_can_be_scripted(name: str, traced: bool) -> None:
    with timm.layers.set_scriptable(True):
        model = tiny(name, num_classes=3, layer_scale=0.1).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces TorchScript's end
        scripted = torch.jit.script(trace(model) if traced else model)
    x = images(model)
    with torch.inference_mode():
        out = scripted(x)
        assert torch.equal(next(iter(out.values())) if traced else out, model(x))


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 14), reason="TorchScript does not support Python 3.14")
@EVERY_KIND
def test_every_model_can_be_traced_then_scripted(name: str) -> None:
    test_a_model_can_be_scripted(name, True)


@pytest.mark.parametrize("name", [SMALL[0], SMALL[12], ISOTROPIC[1], ISOTROPIC[3]])
def test_a_model_can_be_exported(name: str) -> None:
    size = {"width": 8, "depth": 1} if name in ISOTROPIC else {"depths": [1, 1], "widths": [8, 16]}
    model = timm.create_model(name, num_classes=3, **size).eval()
    x = images(model)
    exported = torch.export.export(model, (x,))
    assert torch.allclose(exported.module()(x), model(x))


def test_fields_of_the_spec_are_options() -> None:
    model = timm.create_model("ladder_convnext_t_kernel_7", kernel_size=9, depths=[1, 1], widths=[8, 16], num_classes=0)
    assert (model.spec.kernel_size, model.spec.depths, model.num_features) == (9, (1, 1), 16)


def test_published_weights_are_not_promised() -> None:
    with pytest.raises(UserError, match="no weights of ladder_convnext_32_gelu are published") as told:
        timm.create_model("ladder_convnext_32_gelu", pretrained=True)
    assert "\n" not in str(told.value)


def test_weights_of_ones_own_load_through_timm(tmp_path: object) -> None:
    trained = timm.create_model("ladder_convnext_32_gelu", num_classes=3)
    path = f"{tmp_path}/weights.pth"
    torch.save(trained.state_dict(), path)
    overlay = {"file": path, "num_classes": 3}
    again = timm.create_model("ladder_convnext_32_gelu", pretrained=True, num_classes=3, pretrained_cfg_overlay=overlay)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in trained.state_dict().items())
    gray = timm.create_model(  # timm folds the colours of the first convolution, which default_cfg names
        "ladder_convnext_32_gelu", pretrained=True, num_classes=5, in_chans=1, pretrained_cfg_overlay=overlay
    )
    assert torch.allclose(
        gray.get_submodule("stem.conv").weight, trained.get_submodule("stem.conv").weight.sum(1, keepdim=True)
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kernel_sise": 9}, "unknown option or spec field 'kernel_sise'; did you mean kernel_size"),
        ({"kernel_size": 8}, "spec.kernel_size=8"),
        ({"num_clases": 3}, "did you mean num_classes"),
        ({"global_pool": "mean"}, "global_pool='mean'"),
        ({"img_size": 64}, "unknown option or spec field 'img_size'"),
    ],
)
def test_a_wrong_option_is_one_line(options: dict[str, object], says: str) -> None:
    with pytest.raises(UserError) as told:
        timm.create_model("ladder_convnext_32_gelu", **options)
    assert says in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"ladder": "convnxt_t"}, "unknown ladder 'convnxt_t'; did you mean convnext_t"),
        ({"ladder": "convnext_t", "rung": "gleu"}, "unknown rung of convnext_t 'gleu'; did you mean gelu"),
        ({"ladder": "convnext_t", "steps": ["glu"]}, "unknown step of convnext_t 'glu'; did you mean gelu"),
        ({"ladder": "convnext_t", "without": "glu"}, "unknown step of convnext_t 'glu'; did you mean gelu"),
        ({"ladder": "convnext_t", "rung": 1, "steps": ["gelu"]}, "exclude each other"),
        ({"ladder": "convnext_t", "steps": ["gelu"], "without": ["gelu"]}, "exclude each other"),
        ({"ladder": "convnext_t", "actt": "gelu"}, "did you mean act"),
        ({"ladder": "convnext_t", "features_only": True}, "unknown option or spec field 'features_only'"),
    ],
)
def test_build_model_tells_a_wrong_name_in_a_line(call: dict[str, object], says: str) -> None:
    with pytest.raises(UserError) as told:
        build_model(**call)
    assert says in str(told.value) and "\n" not in str(told.value)


def test_build_model_takes_a_rung_steps_or_all_but_some() -> None:
    chain = load_ladder("convnext_32")
    with torch.device("meta"):
        assert build_model(chain).spec == chain.rung().spec
        assert build_model("convnext_32", 8).spec == build_model("convnext_32", "gelu").spec == chain.rung("gelu").spec
        assert build_model("convnext_32", steps="gelu").spec == chain.subset(steps=["gelu"]).spec
        assert build_model("convnext_32", steps=[]).spec == chain.rung(0).spec
        assert build_model("convnext_32", without=("gelu",)).spec == chain.subset(without=["gelu"]).spec
        assert build_model("convnext_32", "gelu", kernel_size=9).spec == chain.rung("gelu").spec.replace(kernel_size=9)
