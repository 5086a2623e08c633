"""Layers of our networks at random shapes against the same layers in float64; prints what differs. A program.

    python layer_fuzz.py SEED COUNT [plain]

Each case is printed before it runs, so that the last line names the one that a crash came with. `plain`: with torch's
own convolutions in place of the rerouted ones. What oneDNN may use is fixed when a process starts: the caller sets
ONEDNN_MAX_CPU_ISA, and MALLOC_CHECK_ for what is written outside its memory.
"""

from __future__ import annotations

import copy
import random
import sys
import warnings
from typing import Any

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from ladder.networks import isotropic, roadmap
from ladder.networks.pointwise import reroute
from ladder.networks.spec import IsotropicSpec, NetSpec

TOLERANCE = 1e-5  # of the largest number of a tensor, beside what rounding explains
KINDS = ("pointwise", "pointwise", "dense", "depthwise", "patches", "norm", "pool", "staged block", "isotropic block")


def draw(r: random.Random) -> dict[str, Any]:
    """One case: a kind of layer, and its sizes."""
    kind, stride = r.choice(KINDS), r.choice([1, 2, 2, 3, 4])
    few, many = r.randint(1, 12), r.randint(1, 64)
    # where the stride divides the size, oneDNN has kernels of its own, and for large 1x1 convolutions others
    largest = r.choice([33] * 5 + [128]) if kind == "pointwise" else 33
    height, width = (r.choice([r.randint(1, largest), stride * r.randint(1, largest // stride)]) for _ in range(2))
    return {
        "kind": kind,
        "stride": stride,
        "channels": r.choice([few, many]),
        "out": r.choice([r.randint(1, 12), r.randint(1, 64)]),
        "kernel": r.choice([1, 3, 5, 7, 9, 11]),
        "bias": r.random() < 0.5,
        "batch": r.choice([2, 3, 4, 8, 32] if largest == 33 else [2, 8]),
        "height": height,
        "width": width,
        "channels_last": r.random() < 0.7,
        "seed": r.randrange(2**31),
    }


def layer(case: dict[str, Any], r: random.Random) -> nn.Module:
    """The layer of a case; what the case does not say is drawn."""
    kind, c, out, k, s = (case[key] for key in ("kind", "channels", "out", "kernel", "stride"))
    if kind == "pointwise":
        return nn.Conv2d(c, out, 1, stride=s, bias=case["bias"])
    if kind == "dense":
        return nn.Conv2d(c, out, k, stride=s, padding=k // 2, bias=case["bias"])
    if kind == "depthwise":
        return nn.Conv2d(c, c, k, stride=s, padding=k // 2, groups=c, bias=case["bias"])
    if kind == "patches":
        return nn.Conv2d(c, out, s, stride=s, bias=case["bias"])
    if kind == "norm":
        return r.choice([LayerNorm2d(c, eps=1e-6), nn.BatchNorm2d(c)])
    if kind == "pool":
        return r.choice([nn.MaxPool2d(3, stride=2, padding=1), nn.AdaptiveAvgPool2d(1)])
    if kind == "staged block":
        spec = NetSpec(
            depths=(1,),
            widths=(r.randint(1, 16),),
            block=r.choice(["bottleneck", "inverted"]),
            conv=r.choice(["dense", "depthwise"]),
            conv_position=r.choice(["first", "middle"]),
            kernel_size=k,
            act="gelu",  # no kink, on either side of which rounding could fall
            norm="layer",
            shortcut_norm=case["bias"],
        )
        return roadmap.Block(spec, 0, c, s, 0.0)
    spec = IsotropicSpec(width=c, kernel_size=r.choice([k, k + 1]), expansion=r.choice([None, 1, 4]), norm="layer")
    return isotropic.Block(spec, 0.0)


def run(module: nn.Module, x: Tensor, grad: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
    """The output, and with the gradients by input and parameters."""
    module.zero_grad()
    x = x.detach().requires_grad_()
    y = module(x)
    y.backward(torch.ones_like(y) if grad is None else grad)
    grads = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return y.detach(), {"output": y.detach(), "input": x.grad, **grads}  # type: ignore[dict-item]


def differences(case: dict[str, Any], rerouted: bool) -> dict[str, float]:
    """Output and gradients that are further from those in float64 than rounding explains, and how many times so."""
    r = random.Random(case["seed"])
    torch.manual_seed(case["seed"])
    module = layer(case, r)
    oracle = copy.deepcopy(module).double()
    if rerouted:
        reroute(module)
    layout = torch.channels_last if case["channels_last"] else torch.contiguous_format
    module = module.to(memory_format=layout)  # type: ignore[call-overload]
    x = torch.randn(case["batch"], case["channels"], case["height"], case["width"])
    y, _ = run(oracle, x.double(), None)
    grad = torch.randn(y.shape)
    _, expected = run(oracle, x.double(), grad.double())
    with torch.backends.mkldnn.flags(enabled=False):  # what rounding alone does: norms of few channels magnify it
        _, rounded = run(module, x, grad)
    found: dict[str, float] = {}
    for _ in range(2):  # the second time with memory that was used before
        _, got = run(module, x.contiguous(memory_format=layout), grad.contiguous(memory_format=layout))
        assert got.keys() == expected.keys()
        for name, exact in expected.items():
            allowed = TOLERANCE * float(exact.abs().max()) + 50 * float((rounded[name] - exact).abs().max()) + 1e-6
            error = float((got[name] - exact).abs().max())
            if not error <= allowed:
                found[name] = error / allowed
    return found


def main() -> None:
    """Run the program."""
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # torch warns of GPUs that are not there when mkldnn is switched
    r, differ = random.Random(seed), 0
    for _ in range(count):
        case = draw(r)
        if case["kind"] == "patches" and min(case["height"], case["width"]) < case["stride"]:
            continue  # not one patch
        print(case, flush=True)
        if found := differences(case, rerouted="plain" not in sys.argv):
            print("DIFFERS", found, flush=True)
            differ += 1
    print("end", flush=True)
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
