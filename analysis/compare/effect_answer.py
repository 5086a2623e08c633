"""Owns the answer to "what is each step worth?": the fit that is shown, what judges it, and what stands beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from analysis.compare import effects
from analysis.compare.cases import Cases, cases_of, collapsed
from analysis.compare.contexts import Pair
from analysis.compare.effect_search import Interaction, search
from analysis.compare.effects import Given, Model
from analysis.compare.other_answers import Share, cost_factors, shapley, walk_changes
from analysis.compare.stats import Change
from analysis.compare.summary import paper_table, spelled
from analysis.compare.trust import Judgement, judge, unforeseen
from ladder.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Answer:
    """Effects of all steps, and all that a table or a chart says of them."""

    cases: Cases
    fit: Model  # with the interactions that were found, the others random
    judgement: Judgement  # of the fit without interactions
    changes: dict[str, Change]  # the effect of each step and factor
    collapsed: tuple[str, ...]  # runs that did not learn
    without: dict[str, Change] | None  # the same without the runs that collapsed; None where none did
    walk: dict[str, Change]  # what the study's own runs of the walk changed
    beside: dict[str, Change]  # what another study, or the paper, says of the same steps
    beside_name: str
    costs: dict[str, tuple[float, float]]  # times the MACs, times the images/s
    interactions: tuple[Interaction, ...]
    shares: tuple[Share, ...]  # Shapley values
    interval: str

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The interactions in the fit."""
        return self.fit.pairs

    @cached_property
    def given(self) -> list[Given]:
        """Of the interactions in the fit, what each of the two steps is worth without and with the other."""
        return self.fit.given(len(self.interactions) if self.interval == "all" else 0)

    @cached_property
    def unforeseen(self) -> dict[str, float]:
        """Runs far from what the others foretell of them, and by how much."""
        return unforeseen(self.fit)

    @property
    def left_out(self) -> bool:
        """Whether runs that collapsed are not among the cases."""
        return bool(set(self.collapsed) - set(self.cases.runs["run"]))

    @property
    def paired(self) -> tuple[str, ...]:
        """The steps and factors of which some interaction is told."""
        told = {name for one in self.interactions for name in one.pair}
        return tuple(name for name in self.cases.names if name in told)

    @property
    def one_context(self) -> bool:
        """Whether each step was tried in one context alone, as in a walk: effects are its changes."""
        networks = {frozenset(row.steps) for row in self.cases.rows}
        tried = Counter(step for network in networks for step in network if network - {step} in networks)
        once = tried == Counter(self.cases.steps)
        return once and len(networks) == len(tried) + 1 and not self.cases.factors

    @property
    def data_name(self) -> str:
        """The data set of the runs as people write it."""
        return spelled(str(self.cases.runs.iloc[0]["data"]))

    @property
    def unit(self) -> str:
        """What effects are measured in."""
        return "points of top-1" if self.cases.response == "points" else "log odds of top-1"


def answer(
    runs: pd.DataFrame,
    *,
    where: Mapping[str, str] | None = None,
    response: str = "points",
    interval: str = "all",
    interactions: bool = False,
    equal_macs: bool = False,
    without_collapsed: bool = False,
    beside: str | None = None,
) -> Answer:
    """What each step is worth over all finished runs of a frame of `analysis.load`.

    Where replicates show that steps do not add up, the interactions that the runs show join the fit unasked. `beside`:
    a ladder with published numbers, or another study; the paper's own numbers of the ladder if nothing is given.

    Raises:
        UserError: as `cases_of`; `equal_macs` where a run does not tell its MACs.
    """
    every = cases_of(runs, where or {}, response)
    fallen = collapsed(every)
    data = every.part(~fallen) if without_collapsed and fallen.any() else every
    if equal_macs and data.log_macs.max() - data.log_macs.min() < 1e-6:
        raise UserError("--at-equal-macs: all runs have the same MACs, or do not tell them")
    fitted, judgement, tried = fit_effects(data, interactions, equal_macs)
    without = None
    if fallen.any() and not without_collapsed:
        without = effects.model(data.part(~fallen), fitted.pairs, equal_macs, random=True).main_effects(interval)
    name, others = _beside(every, beside, interval)
    return Answer(
        cases=data,
        fit=fitted,
        judgement=judgement,
        changes=fitted.main_effects(interval),
        collapsed=tuple(str(run) for run in every.runs["run"][fallen]),
        without=without,
        walk=walk_changes(data, interval),
        beside=others,
        beside_name=name,
        costs=cost_factors(data),
        interactions=tried,
        shares=tuple(shapley(data)),
        interval=interval,
    )


def fit_effects(
    data: Cases, interactions: bool = False, equal_macs: bool = False
) -> tuple[Model, Judgement, tuple[Interaction, ...]]:
    """The fit that is shown, the judgement of the fit without interactions, and the pairs that were looked at.

    Clear interactions are fixed effects, looked for where replicates show that steps do not add up or where asked for;
    all others are random ones.
    """
    judgement = judge(effects.model(data, equal_macs=equal_macs))
    searched = interactions or judgement.adds_up is False
    pairs, tried = search(data, equal_macs) if searched else ((), [])
    return effects.model(data, pairs, equal_macs, random=True), judgement, tuple(tried)


def _beside(data: Cases, source: str | None, interval: str) -> tuple[str, dict[str, Change]]:
    """The steps' changes elsewhere, in points of top-1, and what to call it."""
    from analysis.read.load import load
    from ladder.networks.rungs import list_ladders, load_ladder

    if data.response != "points":
        if source is not None:
            raise UserError("--beside is in points of top-1: it does not go with --response logit")
        return "", {}
    if source is not None and source not in list_ladders():
        other = cases_of(load(source), {})
        return source.rstrip("/").rpartition("/")[2], fit_effects(other)[0].main_effects(interval)
    ladder = data.ladder if source is None else load_ladder(source)
    if source is None and all(rung.paper.top1 is None for rung in ladder.rungs):
        return "", {}
    table = paper_table(ladder, interval)
    return f"paper ({ladder.name})", {row.rung: row.paper_change for row in table.rows if row.paper_change is not None}


def effects_of(
    runs: pd.DataFrame,
    where: Mapping[str, str] | None = None,
    interval: str = "all",
    beside: str | None = None,
    without_collapsed: bool = False,
) -> Answer | None:
    """The answer where a study has networks beside those of the walk, so that it says more than the study's table.

    Raises UserError for what `beside` can't be.
    """
    done = runs[runs["state"] == "done"]
    off = done["rung_index"].isna() & done["parent"].isna() & (done["group"] != "reference")
    if off.sum() < 3:
        return None
    try:
        return answer(runs, where=where, interval=interval, beside=beside, without_collapsed=without_collapsed)
    except UserError:  # the table tells why runs can't be compared
        if beside is not None:
            raise
        return None
