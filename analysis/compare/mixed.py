"""Owns the linear mixed model: random effects of one variance beside fixed ones, over all sizes that they may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.compare.model import Component, Fit, fit_design

Array = NDArray[np.float64]

_SIZES = np.geomspace(1e-5, 1e6, 120)  # the variance of a run's random effects over that of its noise


@dataclass(frozen=True)
class Mixed:
    """The fixed effects, and how large the random ones are."""

    fit: Fit
    ratio: float  # the variance of one random effect over that of a run's noise
    spread: float  # the standard deviation of one random effect, in the unit of the response


def fit_mixed(x: Array, z: Array, y: Array, names: Sequence[str]) -> Mixed:
    """Fixed effects `x` (runs, effects) beside random ones `z` (runs, any), all of one normal distribution.

    Nobody knows the variance of the random effects, and few runs tell little of it. So estimates are the mean over all
    sizes that it may have, and errors hold both those at each size and the spread of estimates between sizes. A size
    weighs by its restricted likelihood (Patterson and Thompson 1971). Before the runs speak, the random effects' part
    of a run's standard deviation is as likely to be any from 0 to 1 (uniform, as in Gelman 2006). Random effects that
    no run tells apart from the fixed ones, as those of a walk, are none.
    """
    plain = fit_design(x, y, names)
    rest = np.linalg.svd(x)[0][:, np.linalg.matrix_rank(x) :]  # what the fixed effects leave over
    told, axes = np.linalg.eigh(rest.T @ z @ (z.T @ rest))
    squares = (axes.T @ (rest.T @ y)) ** 2
    if len(told) < 2 or told.max() < 1e-6 or squares.sum() < 1e-18 * max(float(y @ y), 1.0):
        return Mixed(plain, 0.0, 0.0)
    part = float((z**2).sum(axis=1).mean())  # of a run's variance, for random effects of variance 1
    ratios = _SIZES / part
    shares = _SIZES / (1 + _SIZES)
    spreads = 1 + np.multiply.outer(ratios, told)
    noise = (squares / spreads).mean(axis=1)  # a run's variance, at each size
    likely = -(np.log(spreads).sum(axis=1) + len(told) * np.log(noise)) / 2
    # sizes are even in their logarithm; the standard deviation, the root of the share of the variance, is to be even
    weights = np.exp(likely - likely.max()) * np.sqrt(shares) * (1 - shares)
    weights /= weights.sum()
    own, turn = np.linalg.eigh(z @ z.T)
    turned_x, turned_y = turn.T @ x, turn.T @ y
    precision = 1 / (1 + np.multiply.outer(ratios, np.maximum(own, 0.0)))
    weighted = precision[:, :, None] * turned_x
    covers = np.linalg.pinv(turned_x.T @ weighted, rcond=1e-10, hermitian=True)
    estimates = np.einsum("sij,skj,k->si", covers, weighted, turned_y)
    mean = weights @ estimates
    covariance = np.einsum("s,sij->ij", weights * noise, covers)
    covariance += np.einsum("s,si,sj->ij", weights, estimates - mean, estimates - mean)
    fit = replace(
        plain,
        estimates=mean,
        components=(Component(covariance, plain.freedom),),
        std=float(np.sqrt(weights @ noise)),
    )
    share = float(weights @ shares)
    return Mixed(fit, share / (1 - share) / part, float(np.sqrt(weights @ (noise * ratios))))
