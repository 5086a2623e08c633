"""Owns the tests of the convolutions for CPUs: the same numbers as torch's, wherever they step in."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import ladder
from ladder.training import cpu

LAYOUTS = st.sampled_from([torch.channels_last, torch.contiguous_format])


def outcomes(conv: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """Output and gradients, of a loss whose gradient differs from pixel to pixel."""
    x = images.clone().requires_grad_()
    conv.zero_grad()
    out = conv(x)
    (out * torch.arange(out.numel()).reshape(out.shape).sin()).sum().backward()
    assert x.grad is not None
    return [out.detach(), x.grad, *(p.grad for p in conv.parameters() if p.grad is not None)]


def same(conv: nn.Conv2d, images: torch.Tensor) -> type:
    """Hold the class that `speed_up` gives a convolution to torch's own, computed in float64; return the class."""
    ours = nn.Sequential(copy.deepcopy(conv))
    cpu.speed_up(ours)
    exact = outcomes(nn.Sequential(copy.deepcopy(conv)).double(), images.double())
    for got, want in zip(outcomes(ours, images), exact, strict=True):
        assert got.shape == want.shape
        torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-4)
    return type(ours[0])


@settings(max_examples=80, deadline=None)
@given(
    size=st.tuples(st.integers(1, 6) | st.integers(7, 20), st.integers(1, 6) | st.integers(7, 20)),
    kernel=st.tuples(st.sampled_from([1, 3, 5, 7]), st.sampled_from([3, 5, 7, 11])),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    bias=st.booleans(),
    layout=LAYOUTS,
)
def test_a_depthwise_convolution_has_torchs_numbers(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], bias: bool, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    padding = (kernel[0] // 2, kernel[1] // 2)
    conv = nn.Conv2d(8, 8, kernel, stride=stride, padding=padding, groups=8, bias=bias)
    assert same(conv, torch.randn(3, 8, *size).contiguous(memory_format=layout)) is cpu.Depthwise


@pytest.mark.parametrize(
    ("batch", "channels", "size"), [(64, 24, 16), (5, 40, 56), (1, 8, 64), (2, 8, 130), (300, 8, 7)]
)
def test_a_large_kernel_has_torchs_numbers_in_any_number_of_parts(batch: int, channels: int, size: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
    images = torch.randn(batch, channels, size, size) / (size * batch**0.5)  # gradients by the weights of size 1
    assert same(conv, images.contiguous(memory_format=torch.channels_last)) is cpu.Depthwise


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    bias=st.booleans(),
    layout=LAYOUTS,
)
def test_a_pointwise_convolution_has_torchs_numbers(
    size: tuple[int, int], stride: tuple[int, int], bias: bool, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 24, 1, stride=stride, bias=bias)
    assert same(conv, torch.randn(3, 8, *size).contiguous(memory_format=layout)) is cpu.Pointwise


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Conv2d(8, 8, 7, padding=2, groups=8),
        nn.Conv2d(8, 8, 7, padding=6, dilation=2, groups=8),
        nn.Conv2d(8, 16, 3, padding=1, groups=8),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, padding_mode="circular"),
        nn.Conv2d(8, 8, 3, padding="same", groups=8),
        nn.Conv2d(8, 8, 1, padding=1),
    ],
    ids=str,
)
def test_any_other_convolution_stays_torchs(conv: nn.Conv2d) -> None:
    assert same(conv, torch.randn(2, 8, 4, 4)) is nn.Conv2d


@pytest.mark.parametrize("rung", ["inverted_bottleneck", "separate_downsampling"])
def test_a_network_keeps_its_keys_its_cost_and_its_numbers(rung: str) -> None:
    torch.manual_seed(0)
    plain = ladder.build_model("convnext_mini", rung, num_classes=3).double().eval()
    fast = copy.deepcopy(plain).float().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    cpu.speed_up(fast)
    assert {type(m) for m in fast.modules()} >= {cpu.Depthwise}
    assert list(fast.state_dict()) == list(plain.state_dict())
    assert ladder.measure_cost(fast, 16) == ladder.measure_cost(plain, 16)
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)  # maps of 8, 4, 2 and 1 pixels
    got = fast(images.float().contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(got.double(), plain(images), rtol=1e-3, atol=1e-4)


def test_lower_precision_is_left_to_torch() -> None:
    net = nn.Sequential(nn.Conv2d(8, 8, 7, padding=3, groups=8), nn.Conv2d(8, 8, 1))
    images, same_weights = torch.randn(2, 8, 2, 2).contiguous(memory_format=torch.channels_last), copy.deepcopy(net)
    cpu.speed_up(net)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(images), same_weights(images))
        net(images).sum().backward()
