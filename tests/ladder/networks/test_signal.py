"""Owns the tests of what untrained networks pass on: as large a signal in small as in the paper, and never none."""

from __future__ import annotations

import math
from typing import cast

import pytest
import torch

import ladder
from analysis.signal import random_subsets
from ladder.networks.base import Net
from ladder.networks.build import build_net
from ladder.networks.rungs import load_ladder
from ladder.networks.signal import Signal, measure_signal
from ladder.networks.spec import Spec


def signal(spec: Spec, size: int, batch: int = 8) -> list[Signal]:
    torch.manual_seed(0)
    return measure_signal(cast(Net, build_net(spec, num_classes=10)), size, batch)


@pytest.mark.parametrize("rung", ["fewer_norms", "separate_downsampling"])
def test_stages_of_the_small_ladder_put_out_what_the_papers_do(rung: str) -> None:
    small, paper = load_ladder("convnext_mini").rung(rung).spec, load_ladder("convnext_t").rung(rung).spec
    shallow = paper.replace(depths=small.to_dict()["depths"], layer_scale=None)
    ours, theirs = signal(small, 32), signal(shallow, 64, 4)  # the same sizes of feature maps
    for a, b in zip(ours[:-1], theirs[:-1], strict=True):  # the head averages over the batch's few images
        assert a.std == pytest.approx(b.std, rel=0.2), a.part
    before = signal(load_ladder("convnext_32").rung(rung).spec, 32)
    assert any(a.std < 0.6 * b.std for a, b in zip(before[:-1], theirs[:-1], strict=True))


def test_no_subset_of_the_steps_starts_from_a_signal_that_vanishes_or_explodes() -> None:
    for subset in random_subsets(load_ladder("convnext_mini"), 12):
        for part in signal(subset.spec, 16, 4):
            assert 0.05 < part.std < 5, (subset.name, part)
            assert 0.1 < part.gradient < 1e4, (subset.name, part)


def test_a_signal_is_what_the_parts_put_out_and_their_gradients() -> None:
    torch.manual_seed(0)
    net = cast(Net, ladder.build_model("convnext_mini", "gelu", num_classes=3))
    found = measure_signal(net, 16, batch=4, seed=1)
    assert [s.part for s in found] == ["stem", "stage 1", "stage 2", "stage 3", "stage 4", "head"]
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    assert found[0].std == pytest.approx(net.stem(images).std().item(), rel=1e-4)
    total = math.sqrt(sum(float(p.grad.square().sum()) for p in net.parameters() if p.grad is not None))
    assert math.sqrt(sum(s.gradient**2 for s in found)) == pytest.approx(total, rel=1e-4)
    assert not any(module._forward_hooks for module in net.modules())


def test_blocks_of_one_resolution_are_parts_too() -> None:
    net = cast(Net, ladder.build_model("convmixer_32", num_classes=3, depth=2, width=8))
    assert [s.part for s in measure_signal(net, 16, batch=2)] == ["stem", "block 1", "block 2", "head"]
