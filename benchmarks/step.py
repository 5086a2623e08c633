"""Owns the comparison of a training step on a CPU before and after what `ladder.training.cpu` does, and of layouts.

    python benchmarks/step.py [LADDER] [--image-size 32] [--batch-size 32] [--rounds 8] [--avx2]

One thread; three sides in turns: torch's own convolutions channels-last (before) and channels-first, and ours
channels-last (after). Prints a row per rung: milliseconds of processor time of a step of each side (the least of all
rounds, so that a busy machine disturbs little), the ratio of before to after, and where the time of a step of ours
goes. `--avx2` runs all as on a processor without AVX-512.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from ladder.errors import run_cli

SIDES = ("channels-first", "before", "after")
KINDS = {
    "convolution": "convolutions, forward",
    "convolution_backward": "convolutions, backward",
    "mm": "matrix products",
    "addmm": "matrix products",
    "native_batch_norm": "norms",
    "native_batch_norm_backward": "norms",
    "native_layer_norm": "norms",
    "native_layer_norm_backward": "norms",
    "gelu": "activations",
    "gelu_backward": "activations",
    "relu_": "activations",
    "threshold_backward": "activations",
    "_fused_adamw_": "optimiser",
}
HEADS = ("convolutions, forward", "convolutions, backward", "matrix products", "norms", "activations", "optimiser")


def make_step(spec: Any, side: str, image_size: int, batch_size: int) -> Callable[[], None]:
    """One optimiser step of a rung, as the engine makes it."""
    import torch
    from torch import nn

    from ladder.networks.build import build_net
    from ladder.training import cpu

    torch.manual_seed(0)
    net = build_net(spec, num_classes=10).train()
    if side == "after":
        cpu.speed_up(net)
    layout = torch.contiguous_format if side == "channels-first" else torch.channels_last
    net = net.to(memory_format=layout)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    images = torch.randn(batch_size, 3, image_size, image_size).contiguous(memory_format=layout)
    labels = torch.arange(batch_size) % 10

    def step() -> None:
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def seconds(step: Callable[[], None]) -> float:
    """Processor time of one step."""
    began = time.process_time()
    step()
    return time.process_time() - began


def shares(step: Callable[[], None], rounds: int) -> dict[str, float]:
    """The part of a step's time that goes into each kind of operation, percent; `rest`: everything else."""
    from torch.utils._python_dispatch import TorchDispatchMode

    spent: Counter[str] = Counter()

    class Timed(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            began = time.process_time()
            out = func(*args, **(kwargs or {}))
            name = func.overloadpacket.__name__
            spent[KINDS.get(name, "rest")] += time.process_time() - began
            return out

    with Timed():  # type: ignore[no-untyped-call]
        for _ in range(rounds):
            step()
    total = sum(spent.values())
    return {head: 100 * spent[head] / total for head in (*HEADS, "rest")}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ladder", nargs="?", default="convnext_mini")
    parser.add_argument("--rungs", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--avx2", action="store_true")
    args = parser.parse_args()
    if args.avx2 and os.environ.get("ATEN_CPU_CAPABILITY") != "avx2":  # read when torch is loaded
        os.environ |= {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
        os.execv(sys.executable, [sys.executable, *sys.argv])

    import torch

    from ladder.networks.rungs import load_ladder
    from ladder.training import cpu
    from ladder.training.distributed import device_name

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    cpu.keep_memory()  # on all sides: it belongs to the process
    ladder = load_ladder(args.ladder)
    rungs = [ladder.rung(name) for name in args.rungs] if args.rungs else ladder.rungs
    print(f"| rung | {' | '.join(f'{side} ms' for side in SIDES)} | before / after | {' | '.join(HEADS)} | rest |")
    print(f"| --- |{' ---: |' * (len(SIDES) + len(HEADS) + 2)}")
    ratios = []
    for rung in rungs:
        steps = {side: make_step(rung.spec, side, args.image_size, args.batch_size) for side in SIDES}
        for step in steps.values():
            step()
        times = {side: float("inf") for side in SIDES}
        for _ in range(args.rounds):
            for side, step in steps.items():
                times[side] = min(times[side], seconds(step))
        ratios.append(times["before"] / times["after"])
        parts = shares(steps["after"], 3)
        cells = [rung.name, *(f"{1e3 * times[side]:.1f}" for side in SIDES), f"{ratios[-1]:.2f}"]
        print(f"| {' | '.join([*cells, *(f'{value:.0f} %' for value in parts.values())])} |", flush=True)
    what = f"{args.image_size} px, batch {args.batch_size}, {torch.backends.cpu.get_cpu_capability()}"
    where = f"{device_name(torch.device('cpu'))}, torch {torch.__version__}"
    print(f"\nmean ratio {statistics.geometric_mean(ratios):.2f}, least {min(ratios):.2f}; {what}, {where}")


if __name__ == "__main__":
    run_cli(main)
