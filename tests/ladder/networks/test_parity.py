"""The ends of the ladders are the published networks: the same logits from the same weights, by any set of names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import timm
import torch
import torchvision
from timm.models.convmixer import ConvMixer
from timm.models.convnext import ConvNeXtBlock, checkpoint_filter_fn
from torch import Tensor, nn

from ladder.errors import UserError
from ladder.networks.zoo import build_model, load_timm_state

STAGES = {
    "small": {"depths": [3, 3, 27, 3]},
    "large": {"depths": [3, 3, 27, 3], "widths": [192, 384, 768, 1536]},
    "xlarge": {"depths": [3, 3, 27, 3], "widths": [256, 512, 1024, 2048]},
}


def unfilled(make: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
    """A network whose weights nobody has set: drawing them twice takes longer than all else here."""
    with torch.device("meta"):
        return make(*args, **kwargs).to_empty(device="cpu")


def randomised(net: nn.Module) -> nn.Module:
    """Weights, norms' scales, shifts and statistics, and layer scales at random; logits stay of the order of 1."""
    generator = torch.Generator().manual_seed(0)

    def uniform(tensor: Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.empty(tensor.shape).uniform_(low, high, generator=generator))

    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("gamma") or ".grn." in name:
                uniform(parameter, 0.1, 0.4)
            elif name.endswith("bias"):
                uniform(parameter, -0.2, 0.2)
            elif parameter.ndim == 1:  # a block's last norm small, or two hundred layers end in 1e13
                uniform(parameter, *((0.1, 0.3) if "bn3" in name or ".0.fn.2" in name else (0.6, 1.4)))
            else:
                bound = (3 / parameter[0].numel()) ** 0.5
                uniform(parameter, -bound, bound)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                uniform(module.running_mean, -0.2, 0.2)
                uniform(module.running_var, 0.6, 1.6)
                module.num_batches_tracked.zero_()
    return net.eval()


@torch.inference_mode()
def assert_same_logits(theirs: nn.Module, ours: nn.Module, size: int = 64) -> None:
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    expected, logits = theirs(images), ours.eval()(images)
    assert 0.01 < expected.std() < 100  # else the comparison means nothing
    assert (logits - expected).abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("name", "ladder", "rung", "changes"),
    [
        ("resnet50", "convnext_t", "resnet50", {}),
        ("resnet200", "convnext_b", "resnet200", {}),
        ("convnext_tiny", "convnext_t", None, {}),
        ("convnext_small", "convnext_t", None, STAGES["small"]),
        ("convnext_base", "convnext_b", None, {}),
        ("convnextv2_tiny", "convnext_v2", "grn", {}),
        ("seresnet50", "convnext_t", "resnet50", {"se": True}),
    ],
)
def test_logits_are_those_of_timm(name: str, ladder: str, rung: str | None, changes: dict[str, Any]) -> None:
    theirs = randomised(unfilled(timm.create_model, name))
    ours = unfilled(build_model, ladder, rung, **changes)
    load_timm_state(ours, theirs.state_dict())
    assert_same_logits(theirs, ours)


@pytest.mark.parametrize("name", ["large", "xlarge"])
def test_larger_convnexts_have_the_same_parameters(name: str) -> None:
    with torch.device("meta"):
        theirs, ours = timm.create_model(f"convnext_{name}"), build_model("convnext_b", **STAGES[name])
    load_timm_state(ours, theirs.state_dict())  # raises where a name or a shape differs


@pytest.mark.parametrize(
    ("name", "rung", "size"),
    [
        ("convmixer_1536_20", "convmixer_1536_20", 28),
        ("convmixer_768_32", "convmixer_768_32", 42),
        ("convmixer_1024_20_ks9_p14", "convmixer_1024_20", 56),
    ],
)
def test_logits_of_a_convmixer_are_those_of_timm(name: str, rung: str, size: int) -> None:
    theirs = randomised(unfilled(timm.create_model, name))
    ours = unfilled(build_model, "convmixer_imagenet", rung)
    load_timm_state(ours, theirs.state_dict())
    assert_same_logits(theirs, ours, size)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # timm's own
@pytest.mark.parametrize(
    ("ladder", "rung", "shape"),
    [
        ("isotropic_to_convmixer", None, {"dim": 384, "depth": 18, "kernel_size": 9, "patch_size": 16}),
        ("isotropic_to_convmixer_32", None, {"dim": 256, "depth": 8, "kernel_size": 9, "patch_size": 2}),
        ("convmixer_cifar10", None, {"dim": 256, "depth": 8, "kernel_size": 9, "patch_size": 1}),
        ("convmixer_cifar10", "kernel_5", {"dim": 256, "depth": 8, "kernel_size": 5, "patch_size": 1}),
        ("convmixer_cifar10", "relu", {"dim": 256, "depth": 8, "patch_size": 1, "act_layer": nn.ReLU}),
        ("convmixer_imagenet", "convmixer_512_16", {"dim": 512, "depth": 16, "kernel_size": 8, "patch_size": 7}),
    ],
)
def test_convmixers_that_have_no_name_are_those_of_timms_class(
    ladder: str, rung: str | None, shape: dict[str, Any]
) -> None:
    theirs = randomised(ConvMixer(num_classes=10, **shape))
    ours = build_model(ladder, rung, num_classes=10)
    load_timm_state(ours, theirs.state_dict())
    assert_same_logits(theirs, ours, 9 * shape["patch_size"] if shape["patch_size"] < 7 else 48)


class Isotropic(nn.Module):
    """Section 3.3 of the paper from timm's blocks, under the names of convnext_isotropic.py of the authors."""

    def __init__(self, dim: int, depth: int, scale: float | None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, dim, 16, stride=16)
        self.blocks = nn.Sequential(*[ConvNeXtBlock(dim, ls_init_value=scale) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.stem(x)).mean((2, 3))))


def of_the_authors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights with their names of the parts of a block."""
    names = {"conv_dw": "dwconv", "mlp.fc1": "pwconv1", "mlp.fc2": "pwconv2"}
    return {re.sub("|".join(names), lambda m: names[m[0]], key): value for key, value in state.items()}


@pytest.mark.parametrize(
    ("ladder", "rung", "shape"),
    [
        ("convnext_isotropic", "small", (384, 18, None)),
        ("convnext_isotropic", "base", (768, 18, None)),
        ("isotropic_to_convmixer", 0, (384, 18, None)),
    ],
)
def test_isotropic_convnexts_are_the_authors_networks(ladder: str, rung: str | int, shape: Any) -> None:
    theirs = randomised(unfilled(Isotropic, *shape))
    ours = unfilled(build_model, ladder, rung, num_classes=10)
    load_timm_state(ours, {"model": of_the_authors(theirs.state_dict())})
    assert_same_logits(theirs, ours, 48)


def test_the_largest_isotropic_convnext_has_the_authors_parameters_and_layer_scale() -> None:
    with torch.device("meta"):
        theirs, ours = Isotropic(1024, 36, 1e-6), build_model("convnext_isotropic", "large", num_classes=10)
    load_timm_state(ours, of_the_authors(theirs.state_dict()))  # raises where a name or a shape differs
    assert ours.spec.layer_scale == 1e-6


def test_pointwise_convolutions_load_where_the_network_has_linear_layers() -> None:
    theirs = randomised(timm.create_model("convnext_atto"))  # built with 1 x 1 convolutions
    assert theirs.state_dict()["stages.0.blocks.0.mlp.fc1.weight"].ndim == 4
    ours = build_model("convnext_t", depths=[2, 2, 6, 2], widths=[40, 80, 160, 320])
    load_timm_state(ours, theirs.state_dict())
    assert_same_logits(theirs, ours)


def test_torchvision_and_old_checkpoints_are_understood() -> None:
    theirs = randomised(unfilled(torchvision.models.resnet50))
    state = {k: v for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
    ours = build_model("convnext_t", "resnet50")
    load_timm_state(ours, {"state_dict": {f"module.{k}": v for k, v in state.items()}})
    assert_same_logits(theirs, ours)


def as_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's ConvNeXt under the names of facebookresearch/ConvNeXt."""
    names: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"^stages\.(\d)\.blocks\.", r"stages.\1."),
        (r"conv_dw", "dwconv"),
        (r"mlp\.fc(\d)", r"pwconv\1"),
        (r"^head\.norm\.", "norm."),
        (r"^head\.fc\.", "head."),
    ]
    out = {}
    for key, value in state.items():
        for pattern, replacement in names:
            key = re.sub(pattern, replacement, key)
        out[key] = value
    return out


def test_the_authors_names_are_understood() -> None:
    theirs = randomised(unfilled(timm.create_model, "convnext_tiny"))
    published = {"model": as_published(theirs.state_dict())}
    assert set(checkpoint_filter_fn(published, theirs)) == set(theirs.state_dict())  # timm reads them as the authors'
    ours = unfilled(build_model, "convnext_t")
    load_timm_state(ours, published)
    assert_same_logits(theirs, ours)


def test_another_number_of_classes_or_channels_loads_where_both_agree() -> None:
    theirs = randomised(timm.create_model("convnext_tiny", num_classes=7, in_chans=1))
    ours = build_model("convnext_t", num_classes=7, in_chans=1)
    load_timm_state(ours, theirs.state_dict())
    images = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(ours.eval()(images), theirs(images), atol=1e-5)


@pytest.fixture(scope="module")
def tiny() -> dict[str, Tensor]:
    with torch.device("meta"):
        return dict(timm.create_model("convnext_tiny").state_dict())


def without(state: dict[str, Tensor], key: str) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if k != key}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda s: without(s, "head.fc.bias"), "missing: head.fc.bias"),
        (lambda s: {**s, "head.extra": s["head.fc.bias"]}, "left over: head.extra"),
        (lambda s: {**s, "epoch": 300}, "left over: epoch"),
        (lambda s: {**s, "head.fc.bias": torch.zeros(10)}, r"of another shape: head.fc.bias \(10,\) for \(1000,\)"),
        (lambda s: {}, r"missing: .* and \d+ more"),
    ],
)
def test_weights_that_do_not_fit_are_named_in_a_line(tiny: dict[str, Tensor], spoil: Any, says: str) -> None:
    with torch.device("meta"):
        ours = build_model("convnext_t")
    with pytest.raises(UserError, match=says) as told:
        load_timm_state(ours, spoil(tiny))
    assert "\n" not in str(told.value) and len(str(told.value)) < 500


def test_weights_that_do_not_fit_change_nothing() -> None:
    ours = build_model("convnext_32", num_classes=3)
    before = {k: v.clone() for k, v in ours.state_dict().items()}
    with pytest.raises(UserError):
        load_timm_state(ours, {**{k: torch.zeros_like(v) for k, v in before.items()}, "more": torch.zeros(1)})
    assert all(torch.equal(before[k], v) for k, v in ours.state_dict().items())


def test_weights_of_the_wrong_end_of_the_ladder_are_refused(tiny: dict[str, Tensor]) -> None:
    with torch.device("meta"):
        ours = build_model("convnext_t", "resnet50")
    with pytest.raises(UserError, match="do not fit"):
        load_timm_state(ours, tiny)
