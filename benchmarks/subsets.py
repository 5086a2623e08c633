"""Owns the proof that a step can be measured in any context: networks with random subsets of the steps all learn.

    python benchmarks/subsets.py [LADDER] [--count 100] [--seed 0] [--below 85] [--study subsets_LADDER]

Trains random subsets, each step there or not with equal chances and never without the steps that it requires, at the
settings of experiment=demo, one seed each, by `ladder train`: what is done is not trained again. Prints how top-1 is
spread, and each subset below `--below` percent.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys

from analysis.read.load import load
from ladder.errors import run_cli
from ladder.networks.rungs import Ladder, load_ladder


def subsets(ladder: Ladder, count: int, seed: int) -> list[str]:
    """Different subsets as `steps` takes them."""
    chances, found = random.Random(seed), dict[str, None]()
    while len(found) < count:
        steps = {step.name: step for step in ladder.steps if chances.random() < 0.5}
        if all(needed in steps for step in steps.values() for needed in step.requires):
            found[f"[{','.join(steps)}]"] = None
    return list(found)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ladder", nargs="?", default="convnext_mini")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--below", type=float, default=85.0)
    parser.add_argument("--study")
    args = parser.parse_args()
    study = args.study or f"subsets_{args.ladder}"
    asked = ["experiment=demo", f"ladder={args.ladder}", f"study={study}", "seed=0", "~hydra.sweeper.params.rung"]
    asked.append("steps=" + ",".join(subsets(load_ladder(args.ladder), args.count, args.seed)))
    subprocess.run([sys.executable, "-m", "ladder.train", *asked], check=True)
    runs = load(f"runs/{study}").sort_values("top1")
    low = runs[runs["top1"] < args.below]
    spread = runs["top1"].quantile([0, 0.05, 0.5, 1])
    print(f"{len(runs)} subsets of {args.ladder}, top-1 %: " + ", ".join(f"{v:.1f}" for v in spread), end=" ")
    print("(least, 5 %, median, most)")
    print(f"{len(low)} below {args.below:g} %" + ":" * (len(low) > 0))
    for _, run in low.iterrows():
        print(f"  {run['top1']:5.1f}  {run['rung']}")


run_cli(main)
