"""Owns the command `ladder tuning`: what a search over settings found, one row for each setting.

`ladder table` compares networks at one setting; this compares settings, over the few networks they were tried on.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.compare.overrides import OWN, ladder_of, overrides
from analysis.compare.selection import natural, of_known_settings, only, unreadable, without_copies
from analysis.compare.stats import LEVEL, Summary
from analysis.read.configs import may_change_results, read_config, show
from analysis.show import options
from analysis.show.cells import NOISE, NONE, Column, Grid, Line, spread
from analysis.show.files import deliver
from analysis.show.formats import markdown_grid, text_grid
from ladder.common.command import command
from ladder.common.nested import flatten
from ladder.errors import UserError, run_cli

if TYPE_CHECKING:
    import pandas as pd

BEST = "*"
EXAMPLES = """examples:
  ladder train -m rung=0,12 recipe.lr=1e-3,2e-3,4e-3 data=cifar10 data.holdout=0.1 study=tuning ...
  ladder tuning runs/tuning

Columns on the left are the config keys that differ among the runs, whichever they are; then one for each network.
"""


def grid(runs: pd.DataFrame, interval: str = "all") -> Grid:
    """The settings that were tried, and their top-1; marked: the best of each network, and what is not clear of it.

    Raises:
        UserError: no done run; one setting alone; several data sets or splits, whose top-1 can't be compared.
    """
    runs = of_known_settings(runs, ("seed",))
    done, notes = without_copies(runs[runs["state"] == "done"])
    notes += unreadable(runs)
    if not len(done):
        raise UserError("no run is done yet: nothing to compare")
    sets = list(dict.fromkeys(f"{name} {split}" for name, split in zip(done["data"], done["eval_split"], strict=True)))
    if len(sets) > 1:
        raise UserError(f"runs of several data sets or splits ({', '.join(sets)}): keep one with --where KEY=VALUE")
    settings = [_setting(str(run.path), str(run.ladder)) for run in done.itertuples()]
    keys = _differing(settings, list(done["rung"]))
    if not keys:
        raise UserError("all runs have one setting: compare their networks with ladder table")
    tried: dict[str, list[Any]] = {}
    found: dict[str, dict[str, dict[tuple[int, int], float]]] = {}  # setting, network, seed and how often it was met
    for setting, run in zip(settings, done.itertuples(), strict=True):
        values = [setting.get(key, OWN if key.startswith("spec.") else None) for key in keys]
        tried.setdefault(repr(values), values)  # lists are no keys
        cell = found.setdefault(repr(values), {}).setdefault(str(run.rung), {})
        seed = int(str(run.seed))
        cell[seed, sum(met == seed for met, _ in cell)] = float(str(run.top1))
    rungs = list(dict.fromkeys(done.sort_values("rung_index", kind="stable")["rung"].astype(str)))
    means = {s: {rung: Summary.of(by[rung].values()) for rung in by} for s, by in found.items()}
    best = {rung: max(m.mean for by in means.values() if (m := by.get(rung))) for rung in rungs}
    size = done["eval_size"].max()
    even = _not_clear(found, 0.0 if size != size or not size else 100 / float(size), interval)
    numbers = sorted({one.n for by in means.values() for one in by.values() if one})
    lines = []
    for setting_id in sorted(means, key=lambda s: natural(tried[s])):
        cells = []
        for rung in rungs:
            one = means[setting_id].get(rung)
            mark = f" {BEST}" if one is not None and one.mean == best[rung] else ""
            mark = mark or (f" {NOISE}" if (setting_id, rung) in even else "")
            count = f" ({one.n})" if one is not None and len(numbers) > 1 else ""
            cells.append(NONE if one is None else spread(one.mean, one.std) + count + mark)
        lines.append(Line((*(show(value) for value in tried[setting_id]), *cells), "main"))
    columns = (*(Column(key) for key in keys), *(Column(rung) for rung in rungs))
    notes = [*notes, *_notes(numbers, set(done["eval_split"]), bool(even), interval)]
    return Grid(_title(done), "top-1 % ±std of the last epoch", columns, tuple(lines), tuple(notes))


def _not_clear(
    found: Mapping[str, Mapping[str, Mapping[tuple[int, int], float]]], floor: float, interval: str
) -> set[tuple[str, str]]:
    """The settings (and networks) whose difference to the best of that network is within noise, by the linear model.

    Its intervals hold at once for all pairs of settings of a network: the best is not known before the runs.
    """
    from analysis.compare.model import fit

    values = {f"{setting}\0{rung}": cell for setting, by in found.items() for rung, cell in by.items()}
    means = {name: sum(cell.values()) / len(cell) for name, cell in values.items()}
    columns: dict[str, list[str]] = {}
    for name in values:
        columns.setdefault(name.split("\0")[1], []).append(name)
    pairs = []
    for names in columns.values():
        ordered = sorted(names, key=means.__getitem__, reverse=True)
        pairs += list(itertools.combinations(ordered, 2))
    tops = {pair[0] for pair in pairs} - {pair[1] for pair in pairs}
    changes = fit(values, floor).changes(pairs, LEVEL, interval)
    close = set()
    for (before, after), change in zip(pairs, changes, strict=True):
        if before in tops and change is not None and change.within_noise:
            setting, rung = after.split("\0")
            close.add((setting, rung))
    return close


def _setting(path: str, ladder: str) -> dict[str, Any]:
    """A run's settings by dotted key: all but which network, which repetition and where; `spec.` as far as given."""
    flat = flatten(read_config(path) or {})
    given = {f"spec.{key}": value for key, value in overrides(path, ladder_of(ladder, [path])).items()}
    return {key: value for key, value in flat.items() if may_change_results(key)} | given


def _differing(settings: Sequence[Mapping[str, Any]], rungs: Sequence[Any]) -> list[str]:
    """The keys that differ among the runs of a rung (a step may change the recipe: that is no setting)."""
    keys: dict[str, None] = {}
    for rung in dict.fromkeys(rungs):
        mine = [setting for setting, of in zip(settings, rungs, strict=True) if of == rung]
        every = dict.fromkeys(key for setting in mine for key in setting)
        keys |= {key: None for key in every if any(s.get(key, OWN) != mine[0].get(key, OWN) for s in mine)}
    return list(keys)


def _title(done: pd.DataFrame) -> str:
    def met(column: str) -> str:
        return ", ".join(str(value) for value in dict.fromkeys(done[column].dropna()))

    return f"Settings of {met('ladder')} on {met('data')}, {met('eval_split')} split"


def _notes(numbers: Sequence[int], splits: set[str], even: bool, interval: str) -> list[str]:
    notes = [f"best of its column: {BEST}"]
    if even:
        at_once = " (of all pairs of a column at once)" if interval == "all" else ""
        notes.append(f"not clear of the best: {NOISE}, the 95% interval of the difference{at_once} holds 0")
    if list(numbers) == [1]:
        notes.append("one seed each: small differences are noise")
    else:
        notes.append(f"{numbers[0]} seeds each" if len(numbers) == 1 else "in brackets: seeds")
    if splits - {"holdout"}:
        seen = f"seen on the {', '.join(sorted(splits))} split: a choice made here biases what it reports"
        notes.append(f"{seen}; data.holdout=0.1 avoids that")
    return notes


@command("tuning", examples=EXAMPLES)
@options.studies()
@options.output_format("text", "md")
@options.where()
@options.interval()
@options.out()
def main(study: tuple[str, ...], kind: str, where: dict[str, str], interval: str, out: Path | None) -> None:
    """What a search over settings found: top-1 by setting, one column for each network."""
    from analysis.read.load import load

    found = grid(only(load(study), where), interval)
    deliver({"text": text_grid, "md": markdown_grid}[kind](found), out)


if __name__ == "__main__":
    run_cli(main)
