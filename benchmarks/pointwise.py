"""Owns the comparison of a strided 1 x 1 convolution with the way around its faulty kernel, in one run, in turns.

    python benchmarks/pointwise.py [rounds]

Forward and backward of one layer, in processor time of one thread; a ratio above 1: the way around is faster. See
`ladder.networks.pointwise`. With ONEDNN_MAX_CPU_ISA=AVX2 torch's own layer corrupts memory.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time

import pandas as pd
import torch
from torch import nn

from ladder.networks.pointwise import reroute

# Channels in, out, batch, side; small enough for torch's own layer to be sound with AVX-512.
SHAPES = [(4, 8, 32, 8), (4, 16, 48, 16), (6, 24, 32, 32)]
STEPS = 10  # a turn


def seconds(layer: nn.Module, x: torch.Tensor) -> float:
    """One turn."""
    since = time.process_time()
    for _ in range(STEPS):
        layer(x).sum().backward()
    return time.process_time() - since


def main() -> None:
    """Run the command line."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    torch.set_num_threads(1)
    rows = []
    for layout in (torch.channels_last, torch.contiguous_format):
        for channels, out, batch, side in SHAPES:
            own = nn.Conv2d(channels, out, 1, stride=2).to(memory_format=layout)  # type: ignore[call-overload]
            around = copy.deepcopy(own)
            reroute(around)
            x = torch.randn(batch, channels, side, side).contiguous(memory_format=layout).requires_grad_()
            seconds(own, x), seconds(around, x)  # untimed: kernels are compiled
            pairs = [(seconds(own, x), seconds(around, x)) for _ in range(rounds)]
            rows.append(
                {
                    "layout": str(layout).removeprefix("torch."),
                    "layer": f"{channels} to {out}, {batch} x {side} x {side}",
                    "torch us": round(1e6 / STEPS * statistics.median(a for a, _ in pairs)),
                    "around us": round(1e6 / STEPS * statistics.median(b for _, b in pairs)),
                    "ratio": round(statistics.median(a / b for a, b in pairs), 2),
                }
            )
    print(pd.DataFrame(rows).to_string(index=False))
    print(f"\ntorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, 1 thread")


if __name__ == "__main__":
    main()
