"""Owns whether effects may be trusted: lack of fit, how well runs are foretold, and runs that nothing foretells."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc, stdtr

from analysis.compare.cases import Cases
from analysis.compare.effects import Model
from analysis.compare.stats import LEVEL, NAN


@dataclass(frozen=True)
class Judgement:
    """What the runs say of their own model."""

    replicates: float  # the spread of runs of one network, in the unit of the response; nan without such runs
    replicate_freedom: float
    lack_of_fit: float | None  # p value of "the steps add up"; None where it can't be told
    left_out: float  # root mean square error of a run foretold by the others

    @property
    def adds_up(self) -> bool | None:
        """Whether steps may be told one by one; None: no run says."""
        return None if self.lack_of_fit is None else self.lack_of_fit >= 1 - LEVEL


def judge(found: Model) -> Judgement:
    """Residuals against the spread of replicates, and leave-one-out errors."""
    data = found.cases
    errors = found.left_out[~np.isnan(found.left_out)]
    pure, behind = _replicates(data, found)
    lack = None
    total = found.squares
    rest = found.freedom - behind
    if behind >= 1 and rest >= 1 and pure > 0:
        ratio = max(total - pure**2 * behind, 0.0) / rest / pure**2
        lack = float(fdtrc(rest, behind, ratio))
    return Judgement(
        replicates=pure,
        replicate_freedom=behind,
        lack_of_fit=lack,
        left_out=float(np.sqrt((errors**2).mean())) if len(errors) else NAN,
    )


def _replicates(data: Cases, found: Model) -> tuple[float, float]:
    """The spread of runs of one network and its degrees of freedom, by a mean for each network (and seeds)."""
    labels = sorted(set(data.networks))
    x = np.array([[float(label == other) for other in labels] for label in data.networks])
    seeds = [i for i, name in enumerate(found.names) if name.startswith("seed ")]
    x = np.hstack([x, found.x[:, seeds]])
    freedom = len(x) - int(np.linalg.matrix_rank(x))
    if freedom < 1:
        return NAN, 0.0
    residuals = data.y - x @ (np.linalg.pinv(x, rcond=1e-10) @ data.y)
    return math.sqrt(float((residuals**2).sum()) / freedom), float(freedom)


def unforeseen(found: Model) -> dict[str, float]:
    """Runs that lie further from what the others foretell of them than chance lets any of so many, and how far.

    By deleted studentised residuals, p times the number of runs below 5 % (Cook and Weisberg 1982, section 2.2.2).
    """
    rest, freedom = np.diag(found.precision), found.freedom - 1
    if freedom < 1:
        return {}
    squares = found.residuals**2 / np.maximum(rest, 1e-6)
    others = np.maximum(found.squares - squares, np.finfo(float).tiny)
    with np.errstate(over="ignore"):  # infinitely far, where the others leave nothing over
        p = 2 * stdtr(freedom, -np.sqrt(freedom * squares / others))
    far = (rest > 1e-6) & (p * len(p) < 1 - LEVEL) & (np.abs(found.left_out) > 1e-6 * np.abs(found.cases.y).max())
    return {str(run): float(found.left_out[i]) for i, run in enumerate(found.cases.runs["run"]) if far[i]}
