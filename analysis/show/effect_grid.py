"""Owns the tables of `ladder effects`: a row a step, the matrix of interactions, the best subsets, plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from analysis.compare.cases import FAR, few
from analysis.compare.effect_answer import Answer
from analysis.compare.effect_search import CHANCE, Foretold
from analysis.compare.effects import unknown_effects
from analysis.compare.stats import LEVEL, Change
from analysis.read.configs import show
from analysis.show.cells import NOISE, NONE, Column, Grid, Line, change_text, macs_unit, signed

_AT_ONCE = ", for all effects at once"


def grids(answer: Answer, *, titles: bool = False) -> list[Grid]:
    """What each step is worth; and where steps were found to depend on each other, without and with the other."""
    return [effects_grid(answer, titles=titles), *([given_grid(answer, titles=titles)] if answer.pairs else [])]


def effects_grid(answer: Answer, *, titles: bool = False) -> Grid:
    """A row for each step and factor."""
    columns = [Column("step", left=True), Column("effect ±95%"), Column("verdict", left=True)]
    columns += [Column("without collapsed")] if answer.without is not None else []
    columns += [Column("Shapley ±95%")] if answer.shares else []
    columns += [Column("MACs"), Column("images/s")]
    walk = answer.walk and not answer.one_context
    columns += [Column("walk ±95%")] if walk else []
    columns += [Column(f"{answer.beside_name} ±95%")] if answer.beside else []
    shares = {share.step: share for share in answer.shares}
    lines = []
    for name, change in answer.changes.items():
        known = not math.isnan(change.delta)
        cells = [answer.cases.title_of(name) if titles else name]
        cells += [change_text(change) if known else NONE, change.verdict if known else "not told apart"]
        cells += [_text(answer.without.get(name))] if answer.without is not None else []
        if answer.shares:
            share = shares.get(name)
            cells.append(NONE if share is None else _share(share.mean, share.error, share.orders))
        cells += [_times(value) for value in answer.costs[name]]
        cells += [_text(answer.walk.get(name))] if walk else []
        cells += [_text(answer.beside.get(name))] if answer.beside else []
        lines.append(Line(tuple(cells), "side" if name in _sides(answer) else "main"))
    return Grid(_title(answer), _subtitle(answer), tuple(columns), tuple(lines), tuple(_notes(answer)))


def _sides(answer: Answer) -> set[str]:
    return {step.name for step in answer.cases.ladder.side}


def _text(change: Change | None) -> str:
    return NONE if change is None or math.isnan(change.delta) else change_text(change)


def _share(mean: float, error: float, orders: int) -> str:
    from scipy.special import stdtrit

    if orders < 2:
        return f"{mean:+.2f}"
    return f"{mean:+.2f} ±{float(stdtrit(orders - 1, 0.5 + LEVEL / 2)) * error:.2f}"


def _times(value: float) -> str:
    return NONE if math.isnan(value) else f"x {value:.2f}"


def _title(answer: Answer) -> str:
    ladder = answer.cases.ladder
    return f"{ladder.title} ({ladder.name}) on {answer.data_name}: what each step is worth"


def _subtitle(answer: Answer) -> str:
    cases = answer.cases
    run = cases.runs.iloc[0]
    networks, seeds = len(set(cases.networks)), len({row.seed for row in cases.rows})
    parts = [f"{len(cases.rows)} runs of {networks} network{_s(networks)}, {seeds} seed{_s(seeds)}"]
    parts.append(f"{answer.unit} of the last epoch on the {run['eval_split']} split")
    parts += [f"recipe {run['recipe']}, {run['epochs']} epoch{_s(int(run['epochs']))}"]
    if answer.judgement.adds_up is False:
        parts.insert(0, f"STEPS DO NOT ADD UP ({_p(answer.judgement.lack_of_fit)}), read the interactions first")
    return "; ".join(parts)


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _p(value: float | None) -> str:
    return f"p {NONE}" if value is None else "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _notes(answer: Answer) -> list[str]:
    out = []
    alone = "in the one context that it was tried in" + (" (a walk)" if answer.walk else "")
    context = alone if answer.one_context else "averaged over contexts"
    at_macs = ", at equal MACs" if answer.fit.equal_macs else ""
    at_once = _AT_ONCE if answer.interval == "all" and len(answer.changes) > 1 else ""
    spread = f"by the spread about the model ({answer.fit.fit.std:.2f}, {answer.fit.freedom:.0f} degrees of freedom)"
    if answer.fit.spread_of_others:
        spread += f" and that of the interactions of all other pairs ({answer.fit.spread_of_others:.2f})"
    interval = f"±: 95% interval{at_once}, {spread}" if answer.fit.freedom >= 1 else "too few runs for intervals"
    out.append(f"effect: of a network with the step less one without it, {context}{at_macs}; {interval}")
    if any(c.within_noise for c in answer.changes.values()):
        out.append(f"{NOISE} within noise: the interval holds 0")
    both = [name for name, change in answer.walk.items() if answer.changes[name].half > 0 and change.half > 0]
    if both and not answer.one_context:
        mine, walk = (sum(of[name].half for name in both) / len(both) for of in (answer.changes, answer.walk))
        out.append(
            f"mean half width over {len(both)} steps: of the effects {mine:.2f}, of the walk's changes {walk:.2f}"
        )
    out += [_adding_up(answer)]
    if answer.collapsed:
        shown = "left out" if answer.left_out else "their effects pass for the steps': see --without-collapsed"
        below = f"more than {FAR:g} interquartile ranges below the rest in log odds"
        out.append(f"COLLAPSED, {below}: {few(answer.collapsed)}; {shown}")
    if answer.unforeseen:
        runs = [f"{run} by {signed(far)}" for run, far in answer.unforeseen.items()]
        out.append(f"FAR from what the others foretell, further than chance allows: {few(runs)}")
    contexts = "" if answer.one_context else ", averaged over contexts"
    out.append(f"MACs and images/s: how many times as many with the step{contexts}")
    if answer.shares:
        orders = max(share.orders for share in answer.shares)
        out.append(f"Shapley: the step's change averaged over {orders} random orders of the steps, each by itself")
    if answer.cases.common:
        out.append(f"in every run: {', '.join(answer.cases.common)}")
    return out + [*unknown_effects(answer.fit), *answer.cases.notes]


def _adding_up(answer: Answer) -> str:
    """Whether single effects may be trusted, and how well runs are foretold."""
    judged = answer.judgement
    unit = "" if answer.cases.response == "points" else " (log odds)"
    parts = []
    if judged.adds_up is None:
        why = "no network was trained twice" if judged.replicate_freedom < 1 else "so few networks fit any effects"
        why = "each network is a step of its own" if answer.one_context else why
        parts.append(f"whether steps add up is not known: {why}")
    elif judged.adds_up:
        parts.append(f"steps add up as far as replicates tell (lack of fit: {_p(judged.lack_of_fit)})")
    else:
        what = "clear interactions are in the fit" if answer.pairs else "no single interaction is clear"
        parts.append(f"steps do not add up (lack of fit: {_p(judged.lack_of_fit)}); {what}")
    if not math.isnan(judged.left_out):
        parts.append(f"a run is foretold by the others to ±{judged.left_out:.2f}{unit}")
    if not math.isnan(judged.replicates):
        parts.append(
            f"runs of one network spread by {judged.replicates:.2f}{unit}"
            f" ({judged.replicate_freedom:.0f} degrees of freedom)"
        )
    return "; ".join(parts)


def given_grid(answer: Answer, *, titles: bool = False) -> Grid:
    """Two rows for each interaction in the fit: each of the two steps, without and with the other one."""

    def name(step: str) -> str:
        return answer.cases.title_of(step) if titles else step

    columns = [Column("step", left=True), Column("depends on", left=True)]
    columns += [Column("without it ±95%"), Column("with it ±95%"), Column("difference ±95%")]
    lines = [
        Line((name(one.step), name(one.other), *map(_text, (one.without, one.with_it, one.difference))), "main")
        for one in answer.given
    ]
    at_once = f", for the effects, and for the differences, of all {len(answer.interactions)} pairs at once"
    notes = [
        f"effects in {answer.unit}, averaged over all other contexts",
        f"±: 95% interval{at_once if answer.interval == 'all' else ''}",
        "chosen by the runs that measure them: small differences are likely to be smaller than they look",
    ]
    if any(one.other in answer.cases.factors for one in answer.given):
        notes.append("without and with a recipe value: at the first and at the second of its two values")
    return Grid("Steps that depend on each other", "", tuple(columns), tuple(lines), tuple(notes))


def matrix_grid(answer: Answer) -> Grid:
    """What each step makes of another one's effect; only pairs that the runs tell apart, only steps that have such."""
    names = answer.paired
    known = {one.pair: one for one in answer.interactions}
    columns = [Column("step", left=True), *(Column(str(i + 1)) for i in range(len(names) - 1))]
    lines = []
    digits = 1 if answer.cases.response == "points" else 2
    for row, name in enumerate(names):
        cells = [f"{row + 1:>2} {name}"]
        for other in names[:-1][:row]:
            one = known.get((other, name))
            mark = "*" if one and one.found else "" if one is None or one.change.within_noise else "."
            cells.append(NONE if one is None else f"{signed(one.change.delta, digits)}{mark}")
        lines.append(Line((*cells, *[""] * (len(columns) - len(cells))), "main"))
    tried = len(answer.interactions)
    notes = [
        f"how much more the row's step is worth with the column's step than without, in {answer.unit}; {NONE} not told"
        " apart by any run",
        f"* in the fit: p times the {tried} pairs is below {CHANCE:g}; . clear of noise by itself, as one pair in"
        " twenty is by chance",
    ]
    return Grid("Interactions of two steps", "", tuple(columns), tuple(lines), tuple(notes))


def best_grid(answer: Answer, found: Sequence[Foretold]) -> Grid:
    """Subsets that are expected to be best."""
    unit, scale = macs_unit([one.macs for one in found if not math.isnan(one.macs)])
    columns = [Column("subset", left=True), Column("expected top-1 %"), Column("95%")]
    columns += [Column(f"MACs {unit}"), Column("images/s"), Column("tried", left=True)]
    lines = []
    for one in found:
        levels = "".join(f", {key}={show(value)}" for key, value in one.levels.items())
        name = ("+".join(one.steps) or answer.cases.ladder.base.name) + levels
        expected, *ends = (_percent(answer, value) for value in (one.top1.delta, one.top1.low, one.top1.high))
        speed = NONE if math.isnan(one.images_per_s) else f"{one.images_per_s:,.0f}"
        interval = f"{ends[0]:.2f} to {ends[1]:.2f}"
        cells = (
            name,
            f"{expected:.2f}",
            interval,
            NONE if math.isnan(one.macs) else f"{one.macs / scale:.3g}",
            speed,
            "yes" if one.tried else "",
        )
        lines.append(Line(cells, "main"))
    split = answer.cases.runs.iloc[0]["eval_split"]
    notes = ["95%: where one run will be, each by itself; the best of many guesses is likely to be too high"]
    if answer.cases.response == "points" and any(one.top1.delta > 100 for one in found):
        notes.append("above 100%: near it points do not add up, --response logit does better")
    if split != "holdout":
        notes.append(
            f"chosen on the {split} split: confirm the choice on other images before you quote it, such as"
            " data.holdout=0.1 while choosing"
        )
    return Grid("Expected to be best", "", tuple(columns), tuple(lines), tuple(notes))


def _percent(answer: Answer, value: float) -> float:
    """A response as top-1 in percent."""
    return value if answer.cases.response == "points" else 100 / (1 + math.exp(-value))


def plain(answer: Answer) -> dict[str, Any]:
    """All of an answer as plain values, for JSON."""
    judged = answer.judgement
    return {
        "ladder": answer.cases.ladder.name,
        "data": str(answer.cases.runs.iloc[0]["data"]),
        "eval_split": str(answer.cases.runs.iloc[0]["eval_split"]),
        "unit": answer.unit,
        "interval": answer.interval,
        "runs": len(answer.cases.rows),
        "effects": records(answer),
        "interactions": [
            {"pair": list(one.pair), **_change(one.change), "p": one.p, "in_fit": one.found}
            for one in answer.interactions
        ],
        "given": [
            {
                "step": one.step,
                "other": one.other,
                **_change(one.without, "without"),
                **_change(one.with_it, "with"),
                **_change(one.difference, "difference"),
            }
            for one in answer.given
        ],
        "std": _number(float(answer.fit.fit.std)),
        "degrees_of_freedom": round(answer.fit.freedom, 6),
        "interaction_std": _number(answer.fit.spread_of_others),
        "replicate_std": _number(judged.replicates),
        "replicate_degrees_of_freedom": judged.replicate_freedom,
        "lack_of_fit_p": judged.lack_of_fit,
        "leave_one_out_error": _number(judged.left_out),
        "collapsed": list(answer.collapsed),
        "unforeseen": answer.unforeseen,
        "notes": [*unknown_effects(answer.fit), *answer.cases.notes],
    }


def records(answer: Answer) -> list[dict[str, Any]]:
    """A mapping a step, None for what is not known: what CSV and JSON hold."""
    shares = {share.step: share for share in answer.shares}
    out = []
    for name, change in answer.changes.items():
        macs, speed = answer.costs[name]
        share = shares.get(name)
        out.append(
            {
                "step": name,
                "title": answer.cases.title_of(name),
                **_change(change, "effect"),
                "verdict": change.verdict,
                **_change((answer.without or {}).get(name), "without_collapsed"),
                "times_macs": _number(macs),
                "times_images_per_s": _number(speed),
                "shapley": share.mean if share else None,
                "shapley_standard_error": _number(share.error) if share else None,
                **_change(answer.walk.get(name), "walk"),
                "beside": answer.beside_name or None,
                **_change(answer.beside.get(name), "beside_change"),
            }
        )
    return out


def _change(change: Change | None, name: str = "change") -> dict[str, float | None]:
    if change is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: _number(change.delta), f"{name}_low": _number(change.low), f"{name}_high": _number(change.high)}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
