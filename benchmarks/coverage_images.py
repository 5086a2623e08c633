"""Owns the measurement of `--noise`: how often intervals hold the truth when test images, seeds or both are drawn anew.

    python benchmarks/coverage_images.py                # 2,000 simulated studies

Rungs have equal true top-1 over all images there are. Each study draws test images of different difficulty, which
differs from rung to rung too, seeds with an effect on all images, and noise for each answer. What is counted is how
often the interval of a change, by itself, holds 0.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from analysis.compare import model
from analysis.compare.images import judged

RUNGS, SEEDS = 4, 3


def drawn(random: np.random.Generator, images: int, apart: float) -> dict[str, list[NDArray[np.bool_]]]:
    """Right or wrong, by rung and seed. `apart`: how much rungs differ in which images are hard for them, in logits."""
    difficulty = random.normal(0.5, 1.5, images) + apart * random.normal(size=(RUNGS, images))
    seeds = 0.15 * random.normal(size=(RUNGS, SEEDS))
    logits = difficulty[:, None, :] + seeds[:, :, None] + random.logistic(0, 0.5, (RUNGS, SEEDS, images))
    return {str(rung): list(logits[rung] > 0) for rung in range(RUNGS)}


def held(noise: str, studies: int, images: int, apart: float) -> float:
    """The share of intervals that hold the true change, 0."""
    random, inside, count = np.random.default_rng(0), 0, 0
    for _ in range(studies):
        right = drawn(random, images, apart)
        values = {name: {s: 100 * float(r.mean()) for s, r in enumerate(runs)} for name, runs in right.items()}
        fit = judged(model.fit(values, 100 / images), right, noise)
        for change in fit.changes([(str(i), str(i + 1)) for i in range(RUNGS - 1)], kind="each"):
            assert change is not None
            inside, count = inside + (abs(change.delta) <= change.half), count + 1
    return inside / count


def main() -> None:
    """Print a table: the kinds of noise, and what their intervals hold for small and large test sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    studies = parser.parse_args().studies
    cases = [(400, 2.0), (400, 0.5), (4000, 2.0)]
    heads = [f"{images:,} images, rungs {apart} apart" for images, apart in cases]
    print("| intervals for | " + " | ".join(heads) + " |\n| --- |" + " ---: |" * len(cases))
    for noise in ("seeds", "images", "both"):
        shares = [f"{100 * held(noise, studies, *case):.1f}%" for case in cases]
        print(f"| {noise} | " + " | ".join(shares) + " |", flush=True)


if __name__ == "__main__":
    main()
