"""Owns made-up cases of a study, for tests of what is computed from them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pandas as pd

from analysis.compare import cases as cases_module
from analysis.compare.cases import Cases
from ladder.launch.designs import Row
from ladder.networks.rungs import load_ladder

MINI = load_ladder("convnext_mini")
STEPS = [step.name for step in MINI.steps]


def cases(subsets: Sequence[tuple[str, ...]], top1: Sequence[float], seeds: Sequence[int] | None = None) -> Cases:
    """Runs of these subsets, without files."""
    seeds = seeds or [0] * len(subsets)
    frame = pd.DataFrame(
        {
            "run": [f"run-{i}" for i in range(len(subsets))],
            "path": "/nowhere/run",
            "top1": [float(v) for v in top1],
            "eval_size": 10_000,
            "macs": [1e6 * 2 ** len(subset) for subset in subsets],
            "images_per_s": 100.0,
            "device": "cpu",
        }
    )
    rows = tuple(
        Row(tuple(s for s in STEPS if s in subset), {}, seed) for subset, seed in zip(subsets, seeds, strict=True)
    )
    return cases_module._varied(Cases(MINI, frame, (), {}, rows))


def every(steps: Sequence[str]) -> list[tuple[str, ...]]:
    """All subsets."""
    return [tuple(c) for n in range(len(steps) + 1) for c in itertools.combinations(steps, n)]
