"""Cost: MACs against closed forms and the paper's tables, and that measuring leaves a model as it was."""

from __future__ import annotations

import pytest
import timm
import torch
from hypothesis import given, settings
from specs import small_specs
from torch import Tensor, nn

from ladder.errors import UserError
from ladder.networks.build import build_net
from ladder.networks.cost import cost_breakdown, measure_cost
from ladder.networks.rungs import load_ladder
from ladder.networks.spec import NetSpec
from ladder.networks.zoo import build_model

# Rows of Table 10 that the table gets wrong (the T column only): what the networks compute to, in 1e9 MACs.
MISPRINTED = {("convnext_t", "layer_norm"): 4.146, ("convnext_t", "separate_downsampling"): 4.456}
ROWS = [
    (ladder, rung.name)
    for ladder in ("convnext_t", "convnext_b")
    for rung in (*load_ladder(ladder).rungs, *load_ladder(ladder).side_rungs)
]


@pytest.mark.parametrize(("ladder", "name"), ROWS)
def test_macs_are_the_papers(ladder: str, name: str) -> None:
    rung = load_ladder(ladder).rung(name)
    with torch.device("meta"):
        model = build_net(rung.spec)
    gmacs = measure_cost(model, 224).macs / 1e9
    if (ladder, name) in MISPRINTED:
        assert gmacs == pytest.approx(MISPRINTED[ladder, name], abs=0.001)
    else:
        assert rung.paper.gflops is not None
        assert round(gmacs, 2) == rung.paper.gflops


def test_the_smallest_published_convmixer_has_the_parameters_that_it_was_inferred_from() -> None:
    rung = load_ladder("convmixer_cifar10").rung("convmixer_128_4")
    with torch.device("meta"):
        params = measure_cost(build_net(rung.spec, num_classes=10), 32).params
    assert rung.paper.params_M == round(params / 1e6, 3) == 0.103


def test_all_thirty_two_rows_of_the_paper_are_compared() -> None:
    assert len(ROWS) == 32


@pytest.mark.parametrize(
    ("name", "ladder", "rung"), [("resnet50", "convnext_t", "resnet50"), ("convnext_base", "convnext_b", None)]
)
def test_params_and_macs_at_the_ends_are_timms(name: str, ladder: str, rung: str | None) -> None:
    with torch.device("meta"):
        theirs, ours = timm.create_model(name), build_model(ladder, rung)
    assert measure_cost(ours) == measure_cost(theirs)
    assert measure_cost(ours).params == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize(
    ("ladder", "rung", "mparams", "gmacs"),
    [  # arXiv:2201.03545v2, Table 2, to another digit; arXiv:2201.09792, Table 1 and appendix; ConvMixer's MACs by hand
        ("convnext_isotropic", "small", 22.31, 4.286),
        ("convnext_isotropic", "base", 87.08, 16.896),
        ("convnext_isotropic", "large", 305.94, 59.699),
        ("convmixer_imagenet", "convmixer_1536_20", 51.63, 51.10),
        ("convmixer_imagenet", "convmixer_768_32", 21.11, 20.68),
        ("convmixer_imagenet", "convmixer_1024_20", 24.38, 5.95),
        ("convmixer_imagenet", "convmixer_1024_12", 14.62, 13.85),
        ("convmixer_imagenet", "convmixer_512_16", 5.36, 4.91),
    ],
)
def test_isotropic_networks_cost_what_the_papers_say(ladder: str, rung: str, mparams: float, gmacs: float) -> None:
    one = load_ladder(ladder).rung(rung)
    with torch.device("meta"):
        model = build_net(one.spec)
    cost = measure_cost(model, 224)
    assert cost.params / 1e6 == pytest.approx(mparams, abs=0.006)
    assert cost.macs / 1e9 == pytest.approx(gmacs, abs=0.006)
    assert one.paper.params_M == pytest.approx(cost.params / 1e6, rel=0.015)  # the papers print two digits
    if ladder == "convnext_isotropic":
        assert one.paper.gflops == pytest.approx(cost.macs / 1e9, abs=0.05)
    elif one.paper.gflops:  # timm's figures, without the depthwise convolutions: the note says so
        pointwise = sum(p.macs for p in cost_breakdown(model, 224) if p.kind != "depthwise conv")
        assert one.paper.gflops == pytest.approx(pointwise / 1e9, rel=0.01)
        assert one.paper.macs_note is not None and "depthwise" in one.paper.macs_note


@pytest.mark.parametrize(
    ("name", "gmacs", "mparams"),
    [  # as published, attention products included
        ("swin_tiny_patch4_window7_224", 4.5, 28.3),  # arXiv:2103.14030
        ("swin_base_patch4_window7_224", 15.4, 87.8),
        ("deit_small_patch16_224", 4.6, 22.1),  # arXiv:2012.12877; arXiv:2201.03545v2, Table 2
        ("deit_base_patch16_224", 17.6, 86.6),
        ("vit_large_patch16_224", 61.6, 304.3),
    ],
)
def test_transformers_are_measured_with_their_attention(name: str, gmacs: float, mparams: float) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    cost = measure_cost(model)
    assert cost.macs / 1e9 == pytest.approx(gmacs, abs=0.05)
    assert cost.params / 1e6 == pytest.approx(mparams, abs=0.05)
    parts = cost_breakdown(model)
    assert (sum(p.params for p in parts), sum(p.macs for p in parts)) == (cost.params, cost.macs)


class Attention(nn.Module):
    """One head of attention of an image's pixels to one another; no weights."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 12)])
def test_layers_cost_their_closed_forms(height: int, width: int) -> None:
    pixels, strided = height * width, -(-height // 2) * -(-width // 2)
    forms: list[tuple[nn.Module, int]] = [
        (nn.Conv2d(4, 6, 3, padding=1), pixels * 6 * 4 * 9),
        (nn.Conv2d(4, 6, 3, padding=1, stride=2, bias=False), strided * 6 * 4 * 9),
        (nn.Conv2d(4, 4, 5, padding=2, groups=4), pixels * 4 * 25),
        (nn.Conv2d(4, 6, 1), pixels * 6 * 4),
        (nn.Linear(width, 7), 4 * height * width * 7),
        (nn.BatchNorm2d(4), 0),
        (nn.GELU(), 0),
        (Attention(), 2 * pixels**2 * 4),
    ]
    for layer, macs in forms:
        model = nn.Sequential(layer)
        assert measure_cost(model, (height, width), in_chans=4).macs == macs, layer
        assert measure_cost(model, (height, width), in_chans=4).params == sum(p.numel() for p in layer.parameters())


@settings(max_examples=20, deadline=None)
@given(spec=small_specs())
def test_a_breakdown_adds_up_and_names_each_module_once(spec: NetSpec) -> None:
    with torch.device("meta"):
        model = build_net(spec, num_classes=3)
    cost, parts = measure_cost(model, 64), cost_breakdown(model, 64)
    assert (sum(p.params for p in parts), sum(p.macs for p in parts)) == (cost.params, cost.macs)
    assert len({p.path for p in parts}) == len(parts)
    kinds = {p.path: p.kind for p in parts}
    expected = "depthwise conv" if spec.conv == "depthwise" else "dense conv"
    spatial = "conv1" if spec.conv_position == "first" else "conv2"
    if spec.kernel_size > 1:
        assert kinds[f"stages.0.blocks.0.{spatial}"] == expected
    assert kinds["head.fc"] == "linear"
    assert all(p.macs == 0 for p in parts if p.kind == "norm")


def test_a_breakdown_survives_checkpointing_and_blocks_called_one_by_one() -> None:
    model = build_model("convnext_32", num_classes=3)
    plain = cost_breakdown(model, 32)
    model.set_grad_checkpointing()
    assert cost_breakdown(model, 32) == plain
    assert sum(p.macs for p in plain) == measure_cost(model, 32).macs


def test_shared_weights_count_once_as_params_and_each_time_as_macs() -> None:
    layer = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    cost, parts = measure_cost(model, 8), cost_breakdown(model, 8)
    assert (cost.params, cost.macs) == (144, 2 * 64 * 144)
    assert (sum(p.params for p in parts), sum(p.macs for p in parts)) == (144, 2 * 64 * 144)


def test_measuring_leaves_the_model_as_it_was() -> None:
    model = build_model("convnext_32", "gelu", num_classes=3).train()
    model.get_submodule("stages.1").eval()  # a part frozen by its user
    next(model.parameters()).requires_grad_(False)
    flags = [m.training for m in model.modules()]
    before = {k: (v, v.clone(), v.requires_grad) for k, v in model.named_parameters()}
    buffers = {k: (v, v.clone()) for k, v in model.named_buffers()}
    generator = torch.get_rng_state()
    cost = measure_cost(model, 32)
    assert [m.training for m in model.modules()] == flags
    for name, parameter in model.named_parameters():
        same, values, grad = before[name]
        assert parameter is same and torch.equal(parameter, values) and parameter.requires_grad == grad, name
        assert parameter.grad is None
    for name, buffer in model.named_buffers():
        assert buffer is buffers[name][0] and torch.equal(buffer, buffers[name][1]), name
    assert torch.equal(torch.get_rng_state(), generator)
    assert measure_cost(model, 32) == cost


def test_flags_are_restored_after_an_error_too() -> None:
    model = build_model("convnext_32", num_classes=3).train()
    with pytest.raises(UserError):
        measure_cost(model, 1)
    assert all(m.training for m in model.modules())


def test_cost_does_not_depend_on_mode_dtype_or_device() -> None:
    model = build_model("convnext_32", num_classes=3)
    cost = measure_cost(model, 32)
    assert measure_cost(model.eval(), 32) == cost
    assert measure_cost(model.to(torch.bfloat16), 32) == cost
    assert measure_cost(model.to("meta"), 32) == cost


def test_image_sizes_may_differ_by_side_and_scale_the_macs() -> None:
    model = build_model("convnext_32", num_classes=0)
    square = measure_cost(model, 32)
    assert measure_cost(model, (32, 64)) == measure_cost(model, (64, 32))
    assert measure_cost(model, (32, 64)).macs == 2 * square.macs
    assert measure_cost(model, (32, 64)).params == square.params


def test_channels_are_the_models_own_unless_given() -> None:
    gray = build_model("convnext_32", in_chans=1, num_classes=0)
    assert measure_cost(gray, 32) == measure_cost(gray, 32, in_chans=1)
    plain = nn.Sequential(nn.Conv2d(5, 2, 1))
    assert measure_cost(plain, 8).macs == 64 * 10


@pytest.mark.parametrize(("size", "in_chans"), [(3, None), (32, 4), (0, None)])
def test_an_image_that_the_model_does_not_take_is_one_line(size: int, in_chans: int | None) -> None:
    model = build_model("convnext_32", num_classes=3)
    with pytest.raises(UserError, match=f"takes no {in_chans or 3}x{size}x{size} image") as told:
        measure_cost(model, size, in_chans)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "name", ["resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "efficientnet_b0", "levit_128s"]
)
def test_macs_by_shapes_are_those_that_torch_counts(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    assert measure_cost(model, 224).macs == sum(layer.macs for layer in cost_breakdown(model, 224)) > 0


def test_a_convolution_that_torch_refuses_is_told_by_torch() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(8, 4, 1))
    with pytest.raises(UserError, match=r"takes no 3x8x8 image .*channels"):
        measure_cost(model, 8)
    with pytest.raises(UserError, match="takes no 3x2x2 image"):
        measure_cost(torch.nn.Conv2d(3, 4, 5), 2)
