"""Isotropic networks: each choice of a spec is in the modules, the order of a block, what is added to what, sizes."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from specs import ISOTROPIC_CHOICES, isotropic_specs
from timm.layers import DropPath
from torch import Tensor, nn

from ladder.errors import UserError
from ladder.networks.build import build_net, check_image_size
from ladder.networks.cost import measure_cost
from ladder.networks.isotropic import Add, Block
from ladder.networks.rungs import load_ladder
from ladder.networks.spec import IsotropicSpec
from ladder.networks.zoo import build_model

BRIDGES = {"isotropic_to_convmixer": 16, "isotropic_to_convmixer_32": 2}
STEPS = [step.name for step in load_ladder("isotropic_to_convmixer_32").steps]

# Within one block in the order of execution: d depthwise, p pointwise, n norm, a activation, + added to the input of
# the part (depthwise or pointwise), * added to the input of the block.
ORDERS = {
    "convnext_isotropic": "dnpap*",
    "patch_embedding": "dnpap*",
    "no_head_norm": "dnpap*",
    "more_activations": "danpapa*",
    "more_norms": "danpanpan*",
    "batch_norm": "danpanpan*",
    "no_expansion": "danpanpan*",
    "one_pointwise": "danpan*",
    "residual_depthwise": "dan+pan",
    "kernel_9": "dan+pan",
    "torch_init": "dan+pan",
}


def order_within(block: Block) -> str:
    """Letters of ORDERS as the block's modules are called."""
    called: list[str] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            called.append("d" if module.groups > 1 else "p")
        elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            called.append("n")
        elif isinstance(module, Add):
            called.append("*" if module is block.add_block else "+")
        elif not list(module.children()) and not isinstance(module, nn.Identity | nn.ZeroPad2d):
            called.append("a")

    handles = [m.register_forward_hook(note) for m in block.modules() if m is not block]
    block(torch.randn(2, block.depthwise.get_submodule("conv").in_channels, 6, 6))
    for handle in handles:
        handle.remove()
    return "".join(called)


@pytest.mark.parametrize("rung", ORDERS)
def test_the_bridge_changes_the_order_of_a_block_step_by_step(rung: str) -> None:
    net = build_model("isotropic_to_convmixer", rung, width=8, depth=2, num_classes=3)
    block = net.get_submodule("blocks.1")
    assert isinstance(block, Block)
    assert order_within(block) == ORDERS[rung]


@pytest.mark.parametrize(
    ("changes", "order"),
    [
        ({}, "dan+pan"),
        ({"order": "norm_act"}, "dna+pna"),
        ({"residual_pointwise": True}, "dan+pan+"),
        ({"residual_depthwise": False}, "danpan"),
        ({"residual_depthwise": False, "residual_pointwise": True}, "danpan+"),
        ({"residual_pointwise": True, "residual_block": True}, "dan+pan+*"),
        ({"acts": "inner", "norms": "first"}, "dn+pa"),
        ({"expansion": 2, "acts": "inner", "order": "norm_act"}, "dn+pnapn"),
        ({"expansion": 2, "norms": "first"}, "dan+papa"),
    ],
)
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_choices_of_a_block_mix_freely(changes: dict[str, object], order: str, norm: str) -> None:
    block = build_net(IsotropicSpec(width=6, depth=1, kernel_size=3, norm=norm, **changes)).get_submodule("blocks.0")
    assert isinstance(block, Block)
    assert order_within(block) == order


def test_what_is_added_is_the_input_of_the_part_or_of_the_block() -> None:
    for name in ("depthwise", "pointwise", "block"):
        spec = IsotropicSpec(width=6, depth=1, kernel_size=3, residual_depthwise=False)
        with_it, without = (
            build_net(spec.replace(**{f"residual_{name}": on})).eval().get_submodule("blocks.0") for on in (True, False)
        )
        without.load_state_dict(with_it.state_dict())
        x = torch.randn(2, 6, 5, 5)
        with torch.no_grad():
            if name == "depthwise":  # what the pointwise part then makes of the sum
                expected = without.pointwise(without.depthwise(x) + x)
            else:
                expected = without(x) + (x if name == "block" else without.depthwise(x))
            assert torch.allclose(with_it(x), expected, atol=1e-6), name


@settings(max_examples=60, deadline=None)
@given(spec=isotropic_specs(), more=st.tuples(st.integers(0, 7), st.integers(0, 7)), in_chans=st.sampled_from([1, 3]))
def test_any_spec_trains_at_any_image_size(spec: IsotropicSpec, more: tuple[int, int], in_chans: int) -> None:
    torch.manual_seed(0)
    net = build_net(spec, num_classes=3, in_chans=in_chans).train()
    images = torch.randn(3, in_chans, *(2 * spec.patch_size + m for m in more))
    nn.functional.cross_entropy(net(images), torch.arange(3)).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    with torch.no_grad():
        features, maps = net.eval().forward_intermediates(images)
    height, width = (images.shape[-2] // spec.patch_size, images.shape[-1] // spec.patch_size)
    assert [m.shape for m in maps] == [(3, spec.width, height, width)] * spec.depth
    assert features.shape == maps[-1].shape
    assert [i["reduction"] for i in net.feature_info] == [spec.reduction] * spec.depth


@settings(max_examples=30, deadline=None)
@given(spec=isotropic_specs())
def test_one_patch_is_the_smallest_image(spec: IsotropicSpec) -> None:
    net = build_net(spec, num_classes=3).eval()
    check_image_size(spec, spec.patch_size)
    assert net(torch.randn(1, 3, spec.patch_size, spec.patch_size)).shape == (1, 3)
    if spec.patch_size > 1:
        with pytest.raises(UserError, match=f"needs at least {spec.patch_size} px"):
            check_image_size(spec, spec.patch_size - 1)


@settings(max_examples=60, deadline=None)
@given(steps=st.sets(st.sampled_from(STEPS)), changes=st.fixed_dictionaries({}, optional=ISOTROPIC_CHOICES))
def test_any_subset_of_the_bridges_steps_is_a_network(steps: set[str], changes: dict[str, object]) -> None:
    size = {"width": 8, "depth": 2, "num_classes": 3}
    model = build_model("isotropic_to_convmixer_32", steps=steps, **{**size, **changes}).eval()
    assert model(torch.randn(1, 3, 9, 8)).isfinite().all()


@settings(max_examples=40, deadline=None)
@given(
    h=st.integers(1, 40),
    d=st.integers(1, 5),
    k=st.integers(1, 9),
    p=st.integers(1, 7),
    classes=st.integers(1, 20),
    channels=st.integers(1, 4),
)
def test_parameters_of_a_convmixer_follow_the_papers_formula(
    h: int, d: int, k: int, p: int, classes: int, channels: int
) -> None:
    spec = IsotropicSpec(width=h, depth=d, kernel_size=k, patch_size=p)
    with torch.device("meta"):
        net = build_net(spec, num_classes=classes, in_chans=channels)
    params = h * (d * (k**2 + h + 6) + channels * p**2 + classes + 3) + classes  # arXiv:2201.09792
    side = 3
    macs = side**2 * h * (channels * p**2 + d * (k**2 + h)) + h * classes
    assert measure_cost(net, p * side) == type(measure_cost(net, p * side))(params, macs)


@pytest.mark.parametrize("ladder", BRIDGES)
def test_the_bridge_walks_from_one_published_network_to_the_other(ladder: str) -> None:
    first, last = load_ladder(ladder).rungs[0].spec, load_ladder(ladder).rung().spec
    size = {"width": first.width, "depth": first.depth, "patch_size": BRIDGES[ladder]}
    assert first == load_ladder("convnext_isotropic").rung("small").spec.replace(**size)
    assert last == load_ladder("convmixer_imagenet").rung("convmixer_1536_20").spec.replace(**size)
    assert (last.width, last.depth, last.patch_size) == (first.width, first.depth, first.patch_size)


def test_the_small_bridge_ends_in_a_row_of_the_cifar10_ablation() -> None:
    bridge, star = load_ladder("isotropic_to_convmixer_32"), load_ladder("convmixer_cifar10")
    assert bridge.rung().spec == star.rung("patch_2").spec


@pytest.mark.parametrize("ladder", BRIDGES)
def test_each_step_of_the_bridge_changes_what_it_says_and_nothing_else(ladder: str) -> None:
    rungs = load_ladder(ladder).rungs
    for before, after, step in zip(rungs, rungs[1:], load_ladder(ladder).steps, strict=False):
        changed = {f for f in IsotropicSpec.field_names() if getattr(before.spec, f) != getattr(after.spec, f)}
        assert changed == set(step.change), after.name


@pytest.mark.parametrize("kernel", [1, 2, 4, 7, 8])
def test_every_kernel_keeps_the_size_and_sees_as_far_on_both_sides_as_can_be(kernel: int) -> None:
    spec = IsotropicSpec(width=1, depth=1, kernel_size=kernel)
    conv = copy.deepcopy(build_net(spec).get_submodule("blocks.0.depthwise"))
    for name, _ in list(conv.named_children()):
        if name not in ("pad", "conv"):
            delattr(conv, name)
    nn.init.ones_(conv.get_submodule("conv").weight)
    nn.init.zeros_(conv.get_submodule("conv").bias)
    point = torch.zeros(1, 1, 21, 21)
    point[0, 0, 10, 10] = 1
    with torch.no_grad():
        seen = conv(point)[0, 0]
    assert seen.shape == (21, 21)
    rows = seen.sum(1).nonzero().flatten().tolist()
    assert rows == list(range(10 - kernel // 2, 10 + (kernel - 1) // 2 + 1))


def test_drop_path_and_layer_scale_are_on_everything_that_is_added() -> None:
    spec = IsotropicSpec(width=4, depth=5, residual_block=True, drop_path=0.4, layer_scale=0.1)
    net = build_net(spec)
    adds = [m for m in net.modules() if isinstance(m, Add)]
    assert len(adds) == 10
    assert all(a.gamma is not None and (a.gamma == 0.1).all() for a in adds)
    rates = [a.drop_path.drop_prob if isinstance(a.drop_path, DropPath) else 0.0 for a in adds]
    assert rates == pytest.approx([0.4 * i / 4 for i in range(5) for _ in range(2)])


def test_start_weights_are_torchs_own_or_truncated_normal() -> None:
    for init in ("torch", "trunc_normal"):
        torch.manual_seed(0)
        net = build_net(IsotropicSpec(width=64, depth=2, init=init))
        pointwise = net.get_submodule("blocks.1.pointwise.conv1")
        assert isinstance(pointwise, nn.Conv2d) and pointwise.bias is not None
        std, largest = pointwise.weight.std().item(), pointwise.weight.abs().max().item()
        if init == "torch":  # uniform within 1 / sqrt(fan in), the bias too
            assert std == pytest.approx(1 / 8 / 3**0.5, rel=0.05) and largest <= 1 / 8
            assert 0 < pointwise.bias.abs().max().item() <= 1 / 8
        else:
            assert std == pytest.approx(0.02, rel=0.05)
            assert not any(m.bias.any() for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear))


def test_every_convolution_has_a_bias() -> None:
    net = build_net(IsotropicSpec(width=4, depth=1, expansion=2))
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 4 and all(c.bias is not None for c in convolutions)


@pytest.mark.parametrize("rung", [0, 10])
def test_a_network_is_one_graph_for_the_compiler(rung: int) -> None:
    model = build_model("isotropic_to_convmixer_32", rung, width=8, depth=2, drop_path=0.1).train()
    images = torch.randn(2, 3, 8, 8)
    torch.manual_seed(0)
    expected = model(images)
    torch.manual_seed(0)
    assert torch.allclose(torch.compile(model, backend="eager", fullgraph=True)(images), expected, atol=1e-6)


def test_batch_statistics_do_not_depend_on_checkpointing() -> None:
    images, outcomes = torch.randn(4, 3, 8, 8), []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        net = build_net(IsotropicSpec(width=8, depth=3, patch_size=2, drop_path=0.5), num_classes=3).train()
        net.set_grad_checkpointing(checkpointing)
        torch.manual_seed(1)
        net(images).square().sum().backward()
        outcomes.append(({n: p.grad for n, p in net.named_parameters()}, net.state_dict()))
    (plain, plain_state), (again, again_state) = outcomes
    assert all(torch.equal(plain[k], again[k]) for k in plain)
    assert all(torch.equal(plain_state[k], again_state[k]) for k in plain_state)
