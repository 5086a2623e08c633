"""Owns the measurement of start-up: seconds from a process's start to its first optimiser step, ours beside the least.

    python benchmarks/startup.py [--rounds 5]

ours     `python -m ladder.train` of the smallest rung on digits: config, data, network, run folder, first step
tracked  the same with W&B writing offline files
least    import torch and timm, build timm's resnet18, one step of AdamW on noise: what no training does without

The sides run in turns, each in a fresh process with cached bytecode. Printed are medians and the ratios of medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
END = """
import os, time
from torch.optim.optimizer import register_optimizer_step_post_hook
register_optimizer_step_post_hook(lambda *_: (print("first step", time.time(), flush=True), os._exit(0)))
"""
OURS = """
import sys
from ladder.train import main
main()
"""
LEAST = """
import timm, torch
model = timm.create_model("resnet18", num_classes=10, in_chans=1)
optimizer = torch.optim.AdamW(model.parameters())
model(torch.randn(64, 1, 32, 32)).sum().backward()
optimizer.step()
"""
RUN = ["ladder=convnext_mini", "rung=resnet", "data=digits", "data.image_size=16", "device=cpu", "engine.threads=1"]


def seconds(side: str) -> float:
    """From the start of a process to the end of its first optimiser step."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        code, arguments = END + LEAST, []
        if side != "least":
            code = END + OURS
            arguments = [*RUN, f"runs_dir={folder}", f"wandb.mode={'offline' if side == 'tracked' else 'disabled'}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a fresh machine's first start compiles, the others don't
        began = time.time()
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        steps = [line for line in done.stdout.splitlines() if line.startswith("first step")]
        if not steps:
            raise SystemExit(f"{side} took no step: {done.stderr[-2000:]}")
        return float(steps[0].split()[-1]) - began


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    sides = ("ours", "tracked", "least")
    for side in sides:
        seconds(side)  # bytecode, file cache
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            taken[side].append(seconds(side))
    least = statistics.median(taken["least"])
    for side in sides:
        middle = statistics.median(taken[side])
        print(
            f"{side:8} {middle:6.2f} s to the first step ({min(taken[side]):.2f} to {max(taken[side]):.2f}),"
            f" {middle / least:.2f} x least"
        )


if __name__ == "__main__":
    main()
