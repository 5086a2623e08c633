"""Networks: every choice of a spec is in the modules, any mixture of steps trains, and start weights are as said."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from specs import overrides, small_specs
from timm.layers import DropPath
from torch import Tensor, nn

from ladder.errors import UserError
from ladder.networks.build import build_net, check_image_size, net_class
from ladder.networks.roadmap import Block
from ladder.networks.rungs import Ladder, Step, load_ladder
from ladder.networks.spec import SPECS, IsotropicSpec, NetSpec
from ladder.networks.zoo import build_model

NORMS = (nn.BatchNorm2d, nn.LayerNorm)


def smallest(spec: NetSpec) -> int:
    """The smallest image side that check_image_size lets through."""
    for size in range(1, 65):
        try:
            check_image_size(spec, size)
        except UserError:
            continue
        return size
    raise AssertionError("64 px are too few")


def gradients(net: nn.Module, images: Tensor) -> dict[str, Tensor | None]:
    net.zero_grad()
    nn.functional.cross_entropy(net(images), torch.arange(len(images)) % 3).backward()
    return {name: p.grad for name, p in net.named_parameters()}


def narrow(ladder: Ladder) -> Ladder:
    """The same steps at a quarter of every width: dense 11 x 11 convolutions cost what they do."""

    def quarter(step: Step) -> Step:
        change = dict(step.change)
        if "widths" in change:
            change["widths"] = [width // 4 for width in change["widths"]]
        return replace(step, change=change)

    return replace(ladder, base=quarter(ladder.base), steps=tuple(map(quarter, ladder.steps)))


LADDER = load_ladder("convnext_mini")
STEPS = [step.name for step in LADDER.steps]
NARROW = narrow(LADDER)


@settings(max_examples=80)
@given(
    steps=st.sets(st.sampled_from([*STEPS, "kernel_5", "kernel_9", "kernel_11"])),
    changes=overrides,
    more=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    in_chans=st.sampled_from([1, 3]),
)
def test_any_subset_of_steps_trains_at_any_image_size(
    steps: set[str], changes: dict[str, object], more: tuple[int, int], in_chans: int
) -> None:
    torch.manual_seed(0)
    model = build_model(NARROW, steps=steps, num_classes=3, in_chans=in_chans, **changes).train()
    least = smallest(model.spec)
    images = torch.randn(3, in_chans, *(least + m for m in more))
    for name, gradient in gradients(model, images).items():
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
    assert all(b.isfinite().all() for b in model.buffers())


@pytest.mark.parametrize("missing", STEPS)
def test_each_step_can_be_left_out_of_the_small_ladder(missing: str) -> None:
    torch.manual_seed(0)
    changes = {"kernel_size": 3} if missing == "depthwise_conv" else {}  # 60 M weights otherwise
    model = build_model(LADDER, without=[missing], num_classes=3, **changes).train()
    for name, gradient in gradients(model, torch.randn(2, 3, 33, 35)).items():
        assert gradient is not None and gradient.isfinite().all(), name


@settings(max_examples=40)
@given(spec=small_specs())
def test_feature_maps_are_as_announced(spec: NetSpec) -> None:
    net = build_net(spec, num_classes=3).eval()
    height, width = 2 * spec.reduction, 3 * spec.reduction
    with torch.no_grad():
        features, stages = net.forward_intermediates(torch.randn(1, 3, height, width))
    assert [f.shape[1:] for f in stages] == [
        (info["num_chs"], height // info["reduction"], width // info["reduction"]) for info in net.feature_info
    ]
    assert features.shape == (1, net.num_features, 2, 3)


@settings(max_examples=40)
@given(spec=small_specs())
def test_the_smallest_image_passes_and_the_next_smaller_does_not(spec: NetSpec) -> None:
    net, least = build_net(spec, num_classes=3).eval(), smallest(spec)
    assert net(torch.randn(1, 3, least, least)).shape == (1, 3)
    if least > 1:
        with pytest.raises(RuntimeError):
            net(torch.randn(1, 3, least - 1, least - 1))


def test_an_image_too_small_is_told_in_a_line() -> None:
    top = load_ladder("convnext_t").rung().spec
    with pytest.raises(UserError, match="images of 16 px are too small for this network: it needs at least 32 px"):
        check_image_size(top, 16)


# Within one block in the order of execution: s spatial, p pointwise, n norm, a activation, + the sum.
ORDERS = {
    "resnet50": "pnasnapn+a",
    "stage_ratio": "pnasnapn+a",
    "patchify_stem": "pnasnapn+a",
    "depthwise_conv": "pnasnapn+a",
    "increase_width": "pnasnapn+a",
    "inverted_bottleneck": "pnasnapn+a",
    "move_up_depthwise": "snapnapn+a",
    "kernel_7": "snapnapn+a",
    "gelu": "snapnapn+a",
    "fewer_activations": "snpnapn+",
    "fewer_norms": "snpap+",
    "layer_norm": "snpap+",
    "separate_downsampling": "snpap+",
}


def order_within(block: Block, width: int) -> str:
    """Letters of ORDERS as the block's modules are called."""
    called: list[str] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            called.append("s" if module.kernel_size != (1, 1) else "p")
        elif isinstance(module, nn.Linear):
            called.append("p")
        elif isinstance(module, NORMS):
            called.append("n")
        elif module is block.drop_path:
            called.append("+")
        elif not isinstance(module, nn.Identity):
            called.append("a")

    inner = [m for m in block.modules() if not list(m.children())]
    handles = [m.register_forward_hook(note) for m in inner]
    block(torch.randn(2, width, 6, 6))
    for handle in handles:
        handle.remove()
    return "".join(called)


@pytest.mark.parametrize("rung", ORDERS)
def test_a_block_computes_in_the_order_of_the_paper(rung: str) -> None:
    spec = load_ladder("convnext_t").rung(rung).spec
    widths = (8, 16)
    net = build_net(spec.replace(depths=(2, 2), widths=widths), num_classes=3)
    blocks = net.get_submodule("stages.1.blocks")
    outer = 16 * 4 if spec.block == "bottleneck" else 16
    block = blocks[1]
    assert isinstance(block, Block)
    assert order_within(block, outer) == ORDERS[rung]


@pytest.mark.parametrize(
    ("position", "norms", "acts", "order"),
    [
        ("middle", 3, 2, "pnasnapn+"),
        ("middle", 3, 1, "pnsnapn+"),
        ("middle", 2, 3, "pnasnap+a"),
        ("middle", 1, 3, "pasnap+a"),
        ("middle", 1, 1, "psnap+"),
        ("first", 2, 2, "snapnap+"),
        ("first", 2, 1, "snpnap+"),
        ("first", 1, 3, "snapap+a"),
    ],
)
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_norms_and_activations_mix_freely(position: str, norms: int, acts: int, order: str, norm: str) -> None:
    spec = NetSpec(
        depths=(2,), widths=(8,), norm=norm, conv_position=position, norms_per_block=norms, acts_per_block=acts
    )
    block = build_net(spec).get_submodule("stages.0.blocks.1")
    assert isinstance(block, Block)
    assert order_within(block, 32) == order


def convolutions(net: nn.Module) -> dict[str, nn.Conv2d]:
    return {name: m for name, m in net.named_modules() if isinstance(m, nn.Conv2d)}


@pytest.mark.parametrize("position", ["middle", "first"])
def test_the_stride_is_on_the_spatial_convolution_and_the_shortcut(position: str) -> None:
    net = build_net(NetSpec(depths=(1, 2), widths=(8, 16), conv_position=position))
    spatial = "conv1" if position == "first" else "conv2"
    strided = {name for name, conv in convolutions(net).items() if conv.stride != (1, 1)} - {"stem.conv"}
    assert strided == {f"stages.1.blocks.0.{spatial}", "stages.1.blocks.0.shortcut.conv"}


def test_depthwise_means_a_group_for_each_channel() -> None:
    net = build_net(NetSpec(depths=(1, 1), widths=(8, 16), conv="depthwise", kernel_size=5))
    spatial = [c for name, c in convolutions(net).items() if name.endswith("conv2")]
    assert [(c.groups, c.in_channels, c.kernel_size) for c in spatial] == [(8, 8, (5, 5)), (16, 16, (5, 5))]


def test_separate_downsampling_leaves_no_stride_or_projection_in_the_blocks() -> None:
    net = build_model("convnext_32")
    assert not [name for name, _ in net.named_modules() if "shortcut." in name]
    strides = {name: conv.stride for name, conv in convolutions(net).items() if conv.stride != (1, 1)}
    assert strides == {"stem.conv": (2, 2), **{f"stages.{i}.downsample.conv": (2, 2) for i in (1, 2, 3)}}


@pytest.mark.parametrize("stride", [4, 2, 1])
def test_both_stems_have_the_stride_asked_for(stride: int) -> None:
    images = torch.randn(2, 3, 16, 24)
    for stem, norm, act in (("resnet", True, True), ("patchify", False, False), ("patchify", True, True)):
        net = build_net(NetSpec(depths=(1,), widths=(8,), stem=stem, stem_stride=stride, stem_norm=norm, stem_act=act))
        assert net.get_submodule("stem")(images).shape == (2, 8, 16 // stride, 24 // stride)
        kinds = [type(m).__name__ for m in net.get_submodule("stem")]
        expected = ["Conv2d"] + ["BatchNorm2d"] * norm + ["ReLU"] * act
        assert kinds == expected + ["MaxPool2d"] * (stem == "resnet" and stride > 1)


@settings(max_examples=30)
@given(spec=small_specs())
def test_a_convolution_has_a_bias_where_no_norm_follows_or_always(spec: NetSpec) -> None:
    net = build_net(spec)
    for name, conv in net.named_modules():
        if not isinstance(conv, nn.Conv2d | nn.Linear) or name == "head.fc":
            continue
        parent, own = name.rpartition(".")[::2]
        after = {"stem": "norm", "shortcut": "norm", "downsample": None}.get(
            parent.split(".")[-1], own.replace("conv", "norm")
        )
        followed = after is not None and isinstance(getattr(net.get_submodule(parent), after, None), NORMS)
        assert (conv.bias is not None) == (spec.conv_bias == "always" or not followed), name


def test_drop_path_grows_linearly_over_all_blocks() -> None:
    net = build_model("convnext_t", drop_path=0.4, widths=(4, 4, 4, 4))
    blocks = [m for m in net.modules() if isinstance(m, Block)]
    rates = [b.drop_path.drop_prob if isinstance(b.drop_path, DropPath) else 0.0 for b in blocks]
    assert rates == pytest.approx([0.4 * i / 17 for i in range(18)])
    assert (rates[0], rates[-1]) == (0.0, 0.4)


def test_start_weights_are_truncated_normal() -> None:
    net = build_model("convnext_32", layer_scale=1e-6)
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert module.bias is not None and not module.bias.any(), name
            if module.weight.numel() > 5000:
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.05), name
        elif isinstance(module, NORMS):
            assert (module.weight == 1).all() and not module.bias.any(), name
        elif isinstance(module, Block):
            assert module.gamma is not None and (module.gamma == 1e-6).all(), name


@pytest.mark.parametrize("rung", ["resnet50", "increase_width", "separate_downsampling"])
def test_at_the_papers_widths_scaled_start_weights_are_the_papers(rung: str) -> None:
    width = load_ladder("convnext_t").rung(rung).spec.to_dict()["widths"][0]
    states = []
    for base in (None, width):
        torch.manual_seed(0)
        shallow = build_model("convnext_t", rung, num_classes=10, depths=(1, 1, 1, 1), init_base_width=base)
        states.append(shallow.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_start_weights_keep_the_signal_of_the_width_that_they_were_chosen_for() -> None:
    net = build_net(NetSpec(widths=(16, 32, 64, 128), depths=(1, 1, 1, 1), conv="depthwise", init_base_width=64))
    wanted = {"stages.0.blocks.0.conv1": 0.04, "stages.3.blocks.0.conv3": 0.04, "head.fc": 0.04}
    for name, std in wanted.items():
        assert net.get_submodule(name).weight.std().item() == pytest.approx(std, rel=0.1), name  # type: ignore[union-attr]
    depthwise = torch.cat([net.get_submodule(f"stages.{i}.blocks.0.conv2").weight.flatten() for i in range(4)])  # type: ignore[union-attr]
    assert depthwise.std().item() == pytest.approx(0.02, rel=0.1)  # its fan-in is that of the kernel, at any width


@pytest.mark.parametrize(
    ("stem", "stride", "std"), [("patchify", 2, 0.04), ("resnet", 2, 0.14 / 3), ("resnet", 4, 0.02)]
)
def test_start_weights_of_a_stem_make_up_for_its_smaller_kernel(stem: str, stride: int, std: float) -> None:
    spec = NetSpec(depths=(1,), widths=(256,), stem=stem, stem_stride=stride, init_base_width=64)
    weight = build_net(spec).get_submodule("stem.conv").weight
    assert weight.std().item() == pytest.approx(std, rel=0.05)  # type: ignore[union-attr]


def test_start_weights_are_kaiming_normal_where_asked() -> None:
    net = build_model("convnext_32", 0, init="kaiming")
    for name, conv in convolutions(net).items():
        fan_out = conv.out_channels * math.prod(conv.kernel_size)
        if conv.weight.numel() > 5000:
            assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05), name


def test_batch_statistics_do_not_depend_on_checkpointing() -> None:
    images, outcomes = torch.randn(4, 3, 32, 32), []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = build_model("convnext_32", "gelu", num_classes=3, drop_path=0.5).train()
        model.set_grad_checkpointing(checkpointing)
        torch.manual_seed(1)
        outcomes.append(({k: v.clone() for k, v in gradients(model, images).items()}, model.state_dict()))
    (plain, plain_state), (again, again_state) = outcomes
    assert all(torch.equal(plain[k], again[k]) for k in plain)
    assert all(torch.equal(plain_state[k], again_state[k]) for k in plain_state)
    assert int(plain_state["stages.0.blocks.0.norm1.num_batches_tracked"]) == 1


@pytest.mark.parametrize("rung", [0, 12])
def test_networks_of_the_meta_device_take_no_memory_and_can_be_filled(rung: int) -> None:
    with torch.device("meta"):
        empty = build_model("convnext_32", rung, layer_scale=0.1)
    assert all(t.is_meta for t in (*empty.parameters(), *empty.buffers()))
    real = build_model("convnext_32", rung, layer_scale=0.1).eval()
    empty.load_state_dict(real.state_dict(), assign=True)
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(empty.eval()(images), real(images))


@pytest.mark.parametrize("rung", [0, 12])
def test_a_network_is_one_graph_for_the_compiler(rung: int) -> None:
    model = build_model("convnext_32", rung, depths=(1, 1), widths=(8, 16), drop_path=0.1).train()
    images = torch.randn(2, 3, 32, 32)
    torch.manual_seed(0)
    expected = model(images)
    torch.manual_seed(0)
    assert torch.allclose(torch.compile(model, backend="eager", fullgraph=True)(images), expected)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("num_classes", -1),
        ("num_classes", 2.5),
        ("in_chans", 0),
        ("in_chans", True),
        ("drop_rate", 1.0),
        ("drop_rate", "half"),
        ("global_pool", "mean"),
    ],
)
def test_a_bad_option_of_a_network_is_one_line(option: str, value: object) -> None:
    with pytest.raises(UserError, match=option) as told:
        build_net(NetSpec(depths=(1,), widths=(4,)), **{option: value})
    assert "\n" not in str(told.value)


def test_a_head_with_a_norm_refuses_a_pooling_that_doubles_the_width() -> None:
    spec = NetSpec(depths=(1,), widths=(4,))
    assert build_net(spec, global_pool="catavgmax").head_hidden_size == 32
    with pytest.raises(UserError, match="catavgmax"):
        build_net(spec.replace(head_norm=True), global_pool="catavgmax")


def test_every_kind_of_spec_has_its_network() -> None:
    assert {kind.__name__ for kind in SPECS.values()} == {"NetSpec", "IsotropicSpec", "TimmSpec", "CallSpec"}
    with torch.device("meta"):
        for kind in (NetSpec, IsotropicSpec):
            assert isinstance(build_net(kind()), net_class(kind))
