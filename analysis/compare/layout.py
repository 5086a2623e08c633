"""Owns the order of rungs in tables and charts: the ladder's, side rungs under their parent, other networks last."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from analysis.compare.stats import Change, Summary
from analysis.read.configs import read_config

if TYPE_CHECKING:
    import pandas as pd

    from ladder.networks.rungs import Ladder, PaperRow


@dataclass(frozen=True)
class Entry:
    """Where a rung stands. kind: main, side, subset (some steps applied: not a rung of the ladder), or reference (a
    model of timm, trained beside the ladder)."""

    rung: str
    title: str
    group: str
    index: int | None
    kind: str
    parent: str | None
    paper: PaperRow | None = None


@dataclass(frozen=True)
class Row:
    """One rung. top-1 in percent; params, macs counts; images_per_s training throughput; None: not known."""

    rung: str
    title: str
    group: str
    index: int | None
    kind: str  # main | side | subset (some steps applied, off the ladder) | reference (a model of timm)
    parent: str | None
    top1: Summary | None = None
    values: Mapping[int, float] = field(default_factory=dict)  # top-1 by seed
    against: str | None = None  # the rung that the changes are to: the parent, or the nearest trained one before it
    change: Change | None = None
    params: float | None = None
    macs: float | None = None
    images_per_s: float | None = None
    doubts: tuple[str, ...] = ()  # about its runs
    states: Mapping[str, int] = field(default_factory=dict)  # number of runs by state
    paper: PaperRow | None = None
    paper_change: Change | None = None

    @property
    def runs(self) -> int:
        """Runs of this rung, in whatever state."""
        return sum(self.states.values())


def layout(ladder: Ladder | None, runs: pd.DataFrame | None) -> list[Entry]:
    """The entries to show: all main rungs; side rungs with runs or published numbers; then networks off the ladder.

    Without a ladder (a study of one that this installation does not have) the runs themselves say the order.
    """
    found = _from_runs(runs)
    if ladder is None:
        return _ordered(list(found.values()))
    entries = [Entry(r.name, r.title, r.group, r.index, "main", r.parent, r.paper) for r in ladder.rungs]
    for side in ladder.side_rungs:
        if side.name in found or side.paper.top1 is not None:
            entries.append(Entry(side.name, side.title, side.group, None, "side", side.parent, side.paper))
    known = {e.rung for e in entries}
    published = {r.timm: r for r in ladder.references if r.timm}
    for entry in found.values():
        if entry.kind == "reference" and (same := published.get(entry.rung.partition(".")[0])):
            entry = replace(entry, title=same.title, paper=same.paper)
        if entry.rung not in known:
            entries.append(entry)
    return _ordered(entries)


def _from_runs(runs: pd.DataFrame | None) -> dict[str, Entry]:
    if runs is None:
        return {}
    import pandas as pd

    entries: dict[str, Entry] = {}
    known = runs.dropna(subset=["rung"]).sort_values("state", key=lambda s: s != "done", kind="stable")
    for run in known.drop_duplicates("rung").itertuples():
        name = str(run.rung)
        place: Any = run.rung_index
        index = None if pd.isna(place) else int(place)
        parent = run.parent if isinstance(run.parent, str) else None
        kind = "main" if index is not None else "side" if parent else "subset"
        title = run.title if isinstance(run.title, str) else name.replace("_", " ")
        if kind == "subset" and _is_reference(run):
            entries[name] = Entry(name, run.title if isinstance(run.title, str) else name, *_REFERENCE)
            continue
        entries[name] = Entry(name, title, run.group if isinstance(run.group, str) else "", index, kind, parent)
    return entries


_REFERENCE = ("reference", None, "reference", None)  # group, index, kind, parent


def _is_reference(run: Any) -> bool:
    """A finished run says so as its group; one that isn't finished, in its config."""
    if run.state == "done":
        return bool(run.group == "reference")
    return bool((read_config(str(run.path)) or {}).get("reference"))


def _ordered(entries: list[Entry]) -> list[Entry]:
    main = sorted((e for e in entries if e.kind == "main"), key=lambda e: e.index or 0)
    out: list[Entry] = []
    rest = sorted((e for e in entries if e.kind not in ("main", "side")), key=lambda e: e.kind == "reference")

    def with_sides(entry: Entry) -> list[Entry]:
        sides = (e for e in entries if e.kind == "side" and e.parent == entry.rung)
        return [entry, *(below for side in sides for below in with_sides(side))]

    for entry in (*main, *rest):
        out += with_sides(entry)
    return out + [e for e in entries if e not in out]


def chart_order(rows: Sequence[Row]) -> list[Row]:
    """The rows as the paper's figure orders them: variants of one choice in its own order (kernel 5, 7, 9, 11)."""
    out: list[Row] = []
    for row in rows:
        if row.kind != "side":
            out.append(row)
            continue
        siblings = [r for r in rows if r.parent == row.parent and r is not row and r.kind == "main"]
        if any(_stem(r.rung) == _stem(row.rung) and _size(r.rung) < _size(row.rung) for r in siblings):
            continue  # it comes after the adopted one
        out.append(row)
    for row in rows:
        if row not in out:
            before = [r for r in out if r.parent == row.parent and _stem(r.rung) == _stem(row.rung)]
            out.insert(out.index(before[-1]) + 1, row)
    return out


def _stem(name: str) -> str:
    return re.sub(r"\d+", "", name)


def _size(name: str) -> int:
    return int((re.findall(r"\d+", name) or ["0"])[-1])
