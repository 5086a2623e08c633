"""Owns what another draw of test images would change: the part of an interval that is the images', not the seeds'.

Runs of several seeds on the same images are a table of seeds by images, both drawn at random and crossed. The mean of
the table varies with both (Bickel and Doksum's two-way random effects; for classifiers: Bouthillier et al., Accounting
for Variance in Machine Learning Benchmarks, MLSys 2021). The seeds' part is the linear model's; this is the images'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from analysis.compare.model import Component, Fit
from ladder.errors import UserError
from ladder.runs.predictions import Predictions

Array = NDArray[np.float64]
_LEAST = 1e-18  # so that equal answers have an interval, that of one image
Answers = Mapping[str, Sequence[NDArray[np.bool_]]]  # of each network: for each seed, which images are right


def answers(found: Mapping[str, Sequence[Predictions]]) -> dict[str, list[NDArray[np.bool_]]] | None:
    """Which images each run of each network gets right; None where the runs did not all see the same images."""
    every = [each for runs in found.values() for each in runs]
    if not every or any(
        not np.array_equal(every[0].image, each.image) or not np.array_equal(every[0].label, each.label)
        for each in every[1:]
    ):
        return None
    return {name: [each.correct for each in runs] for name, runs in found.items()}


def covariance(right: Answers, names: Sequence[str], *, seeds_vary: bool) -> Array:
    """The covariance, (networks, networks) in squared points of top-1, that another draw of images gives the means.

    With `seeds_vary` it is what the images add to the seeds' own part (which holds what differs from seed to seed on a
    single image already); without, all of it for these very runs.
    """
    count = len(next(iter(right.values()))[0])
    means = np.array([np.mean(right[name], axis=0) for name in names])  # (networks, images)
    centred = means - means.mean(axis=1, keepdims=True)
    out = centred @ centred.T / (count - 1)
    if seeds_vary:
        for place, name in enumerate(names):
            seeds = len(right[name])
            if seeds > 1:  # the mean over seeds of an image varies by its seeds, too: that is not the image's
                out[place, place] -= float(np.var(_without_seed(right[name]), axis=0, ddof=1).mean()) / seeds
        values, vectors = np.linalg.eigh(out)
        out = (vectors * np.maximum(values, 0)) @ vectors.T  # no contrast varies less than not at all
    return np.asarray(out / count * 100**2 + _LEAST * np.eye(len(names)), float)


def _without_seed(runs: Sequence[NDArray[np.bool_]]) -> Array:
    """Answers, (seeds, images), without what a seed does to all images."""
    table = np.array(runs, float)
    return np.asarray(table - table.mean(axis=1, keepdims=True))


def judged(model: Fit, right: Answers | None, noise: str) -> Fit:
    """The model with the noise asked for. seeds: other seeds, the same images; images: other images, the same runs;
    both: other seeds and other images.

    Where no network has two seeds, the images are the only noise that can be judged. Raises UserError where the images
    are asked for, and the runs kept no predictions of them.
    """
    if right is None or any(name not in right for name in model.names):
        if noise == "seeds":
            return model
        raise UserError(
            f"--noise {noise} takes what each run predicted (predictions.npz), for the same images; some runs of this"
            " table kept none (an earlier version trained them, or W&B holds them): train them again, or --noise seeds"
        )
    if noise == "images" or not model.components:
        known = Component(covariance(right, model.names, seeds_vary=False), np.inf)
        return replace(model, components=(known,), apart=(), silent=())
    if noise == "seeds":
        return model
    return model.plus(Component(covariance(right, model.names, seeds_vary=True), np.inf))
