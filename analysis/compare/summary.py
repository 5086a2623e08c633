"""Owns the summary of a study: which runs may be compared, and per rung the numbers that tables and charts show."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from analysis.compare.layout import Entry, Row, layout
from analysis.compare.reproduce import to_come
from analysis.compare.selection import Group, groups
from analysis.compare.stats import LEVEL, Change, Summary
from analysis.read.configs import read_config
from ladder.errors import UserError, unknown
from ladder.runs.doubts import doubts
from ladder.training.progress import in_words

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from analysis.compare.model import Fit
    from ladder.networks.rungs import Ladder, PaperRow, Reference
    from ladder.runs.predictions import Predictions

INTERVALS = ("all", "each")
_JUDGED = ("top1", "num_classes", "train_loss", "epochs")  # columns that tell a doubtful run
NOISES = ("seeds", "images", "both")
_WRITTEN = {  # data sets as people write them, by our names and timm's without their marks
    **{"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "fashionmnist": "Fashion-MNIST", "mnist": "MNIST"},
    **{"imagenet": "ImageNet", "imagenet1k": "ImageNet-1k", "ilsvrc2012": "ImageNet-1k", "svhn": "SVHN"},
    **{"stl10": "STL-10", "tinyimagenet": "Tiny ImageNet", "imagenette": "Imagenette", "imagewoof": "Imagewoof"},
}
_SAME_DATA = {"imagenet": ("imagenet", "imagenet1k", "ilsvrc2012")}
PAPER_SEEDS = 3  # seeds behind each std that the ladders quote (arXiv:2201.03545v2, Table 10)
PAPER_DIGIT = 0.01  # of the published top-1: no interval is narrower


@dataclass(frozen=True)
class Table:
    """One ladder on one data set with one configuration: what a table or a roadmap chart shows."""

    ladder: str
    title: str
    kind: str  # chain | star
    rows: tuple[Row, ...]
    references: tuple[Reference, ...] = ()
    source: str = ""  # where the paper's numbers are from
    paper_data: str = "imagenet"  # the data set that they are of
    data: str | None = None
    eval_split: str | None = None
    eval_size: int | None = None
    train_size: int | None = None
    image_size: int | None = None
    recipe: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    seeds: tuple[int, ...] = ()
    num_classes: int | None = None
    in_chans: int | None = None
    paths: Mapping[str, str] = field(default_factory=dict)  # folders of its runs, each with the rung of its row
    overridden: bool = False  # some network is not the ladder's rung of its name
    choice: Mapping[str, Any] = field(default_factory=dict)  # values of the compared config keys
    notes: tuple[str, ...] = ()
    fit: Fit | None = None  # of the runs: where the changes are from
    paper_fit: Fit | None = None  # of the published numbers
    interval: str = "all"  # all: the intervals of the changes hold at once; each: one by one
    noise: str = "seeds"  # what the intervals are for: other seeds, other test images, or both
    whole: Change | None = None  # from the first to the last trained rung of a chain, its interval by itself
    complete: bool = False  # rungs that were never run are shown too

    @property
    def on_paper_data(self) -> bool:
        """Whether the runs are on the paper's data set, so that its numbers may stand in one chart with ours."""
        return _bare(self.data or "") in _SAME_DATA.get(self.paper_data, (self.paper_data,))

    @property
    def paper_data_name(self) -> str:
        """The paper's data set as people write it."""
        return spelled(self.paper_data)

    @property
    def data_name(self) -> str:
        """The data set of the runs as people write it."""
        return spelled(self.data or "")

    @property
    def training(self) -> str:
        """The recipe and how much of it: "recipe cifar, 30 epochs of 50,000 images"."""
        images = f" of {self.train_size:,} images" if self.train_size else ""
        return f"recipe {self.recipe}" + (
            f", {self.epochs} epoch{'s' * (self.epochs != 1)}{images}" if self.epochs else ""
        )

    @property
    def has_runs(self) -> bool:
        """Whether any rung has a finished run."""
        return any(row.top1 is not None for row in self.rows)

    @property
    def has_paper(self) -> bool:
        """Whether the paper gives a top-1 for any rung."""
        return any(row.paper is not None and row.paper.top1 is not None for row in self.rows)

    def row(self, rung: str | None) -> Row | None:
        """The row of a rung; None where there is none."""
        return next((row for row in self.rows if row.rung == rung), None)

    @property
    def shown(self) -> tuple[Row, ...]:
        """The rows to show: without rungs that were never run, unless the table is to be complete."""
        return self.rows if self.complete or not self.has_runs else tuple(row for row in self.rows if row.runs)

    @property
    def not_run(self) -> tuple[Row, ...]:
        """Rungs of the main chain that no run was started of."""
        return tuple(row for row in self.rows if row.kind == "main" and not row.runs) if self.has_runs else ()


def spelled(data: str) -> str:
    """A data set's name as people write it (cifar10: CIFAR-10); one that is not known as it is."""
    return _WRITTEN.get(_bare(data), data)


def _bare(data: str) -> str:
    return data.lower().replace("-", "").replace("_", "")


def summarise(
    runs: pd.DataFrame,
    *,
    compare: Sequence[str] = (),
    where: Mapping[str, str] | None = None,
    interval: str = "all",
    noise: str = "seeds",
    complete: bool = False,
) -> list[Table]:
    """One table for each ladder, data set and (with `compare`) value of the compared config keys.

    Another choice of a compared `spec.FIELD` is a row under the plain rung, where that has runs as well.

    `runs` is a frame of `analysis.load`. `where` keeps only the runs whose config has these values. `interval` all:
    the intervals of a table's changes hold at once with 95%; each: every one by itself. `noise`: what they are for,
    other seeds, other test images, or both (the last two by what each run predicted). `complete`: tables show rungs
    that were never run too.

    Raises:
        UserError: where runs of one table differ in more than rung and seed, naming the config keys that differ;
            where there is no finished run; where a key of `compare` or `where` is no config key; where `noise` takes
            predictions that some run has not.
    """
    check_interval(interval)
    if noise not in NOISES:
        raise unknown("noise", noise, NOISES)
    found = groups(runs, tuple(compare), dict(where or {}), variants=True)
    # Of which table a run is that has no folder yet is known where there is but one.
    waiting = to_come(runs) if len(found) == 1 and not where else []
    return [_table(group, interval, noise, complete, waiting) for group in found]


def check_interval(kind: str) -> None:
    """Raise UserError for intervals of a kind that there isn't."""
    if kind not in INTERVALS:
        raise unknown("interval", kind, INTERVALS)


def paper_table(ladder: Ladder, interval: str = "all") -> Table:
    """The published numbers of a ladder alone. Raises UserError where its file quotes none."""
    entries = layout(ladder, None)
    table = Table(
        ladder=ladder.name,
        title=ladder.title,
        kind=ladder.kind,
        rows=tuple(_row(entry, None, {}) for entry in entries),
        references=ladder.references,
        source=ladder.source,
        paper_data=ladder.paper_data,
        image_size=ladder.image_size,
        interval=interval,
    )
    check_interval(interval)
    if not table.has_paper:
        raise UserError(f"ladder {ladder.name} quotes no published top-1: nothing to show without runs")
    return _with_changes(table)


def _table(group: Group, interval: str, noise: str, complete: bool, waiting: Sequence[str]) -> Table:
    runs, ladder = group.runs, group.ladder
    entries = layout(ladder, runs)
    by_rung = {str(rung): part for rung, part in runs.groupby("rung", dropna=True)}
    values = {rung: _by_seed(part) for rung, part in by_rung.items()}
    rows = tuple(_row(entry, by_rung.get(entry.rung), values.get(entry.rung, {})) for entry in entries)
    first = runs[runs["state"] == "done"].iloc[0]
    seeds = tuple(sorted({int(s) for s in runs["seed"].dropna()}))
    table = Table(
        ladder=group.name,
        title=ladder.title if ladder else group.name,
        kind=str(first["kind"] or "chain"),
        rows=rows,
        references=_without_runs(ladder.references, rows) if ladder else (),
        source=ladder.source if ladder else "",
        paper_data=ladder.paper_data if ladder else "imagenet",
        data=str(first["data"]),
        eval_split=first["eval_split"],
        eval_size=_int(first["eval_size"]),
        train_size=_int(first["train_size"]),
        image_size=_int(first["image_size"]),
        recipe=first["recipe"],
        epochs=_int(first["epochs"]),
        batch_size=_int(first["batch_size"]),
        num_classes=_int(first["num_classes"]),
        in_chans=_int(first["in_chans"]),
        paths=dict(zip(map(str, runs["path"]), map(str, runs["rung"]), strict=True)),
        overridden=group.overridden,
        seeds=seeds,
        choice=group.choice,
        interval=interval,
        noise=noise,
        complete=complete,
    )
    right = _answers(runs[runs["state"] == "done"])
    table = _with_changes(table, right)
    return replace(table, notes=(*group.notes, *_of_images(table, right), *_notes(runs, table, waiting)))


def _answers(done: pd.DataFrame) -> dict[str, list[NDArray[np.bool_]]] | None:
    """Which images each run of each rung gets right; None where some run kept no predictions."""
    from analysis.compare.images import answers
    from analysis.read.predictions import readable

    by_rung: dict[str, list[Predictions]] = {}
    for rung, path in zip(done["rung"], done["path"], strict=True):
        if (found := readable(str(path))) is None:
            return None
        by_rung.setdefault(str(rung), []).append(found)
    return answers(by_rung)


def _of_images(table: Table, right: Mapping[str, Any] | None) -> list[str]:
    """What the test images add to the intervals of a table that are for other seeds alone."""
    from analysis.compare.images import judged

    if right is None or table.fit is None or table.noise != "seeds":
        return []
    rows = [row for row in table.rows if row.against and row.change]
    if all(len(runs) == 1 for runs in right.values()):
        return ["one seed: intervals are for other test images and these very runs; other seeds would add to them"]
    against = {row.rung: str(row.against) for row in rows}
    wider = _judged(judged(table.fit, right, "both"), against, table.interval)
    halves = [(row.change.half, new.half) for row in rows if row.change and (new := wider[row.rung])]
    known = [(mine, both) for mine, both in halves if mine == mine and both == both]
    if not known:
        return []
    mean, wide = (sum(values) / len(known) for values in zip(*known, strict=True))
    return [
        f"test images: intervals are ±{mean:.2f} on average for other seeds on these images, ±{wide:.2f} for other"
        " images too (--noise both)"
    ]


def _with_changes(table: Table, right: Mapping[str, Any] | None = None) -> Table:
    """The table with the models of its runs and of the published numbers, and each row with its changes."""
    from analysis.compare.images import judged
    from analysis.compare.model import fit, fit_summaries

    published = {row.rung: found for row in table.rows if row.paper and (found := paper_summary(row.paper))}
    theirs = fit_summaries(published, PAPER_DIGIT) if published else None
    ours = None
    if table.has_runs:
        ours = fit({row.rung: row.values for row in table.rows}, 100 / table.eval_size if table.eval_size else 0.0)
        ours = judged(ours, right, table.noise)
    against = neighbours(table.rows, {row.rung for row in table.rows if row.values})
    changes = _judged(ours, against, table.interval)
    walk = [row.rung for row in table.rows if row.kind == "main" and row.values]
    whole = ours.changes([(walk[0], walk[-1])])[0] if ours and len(walk) > 1 and table.kind == "chain" else None
    # Beside a change of ours the paper's is to the same rung, also where that is not the neighbour.
    against = {row.rung: row.parent for row in table.rows if row.parent} | against
    quoted = _judged(theirs, against, table.interval)
    rows = tuple(
        replace(row, against=against.get(row.rung), change=changes.get(row.rung), paper_change=quoted.get(row.rung))
        for row in table.rows
    )
    return replace(table, rows=rows, fit=ours, paper_fit=theirs, whole=whole)


def _judged(model: Fit | None, against: Mapping[str, str], interval: str) -> dict[str, Change | None]:
    pairs = [(before, rung) for rung, before in against.items()]
    return dict(zip(against, model.changes(pairs, LEVEL, interval), strict=True)) if model else {}


def neighbours(rows: Sequence[Row], rungs: Container[str]) -> dict[str, str]:
    """The nearest of `rungs` before each of them; without those that have none."""
    parents = {row.rung: row.parent for row in rows}
    found = {}
    for rung, before in parents.items():
        while before is not None and before not in rungs:
            before = parents.get(before)
        if rung in rungs and before is not None:
            found[rung] = before
    return found


def _without_runs(references: Sequence[Reference], rows: Sequence[Row]) -> tuple[Reference, ...]:
    """The published rows that no run of ours stands beside."""
    ours = [row.paper for row in rows if row.kind == "reference"]
    return tuple(reference for reference in references if not any(reference.paper is paper for paper in ours))


def _row(entry: Entry, runs: pd.DataFrame | None, mine: Mapping[int, float]) -> Row:
    done = None if runs is None else runs[runs["state"] == "done"]
    return Row(
        rung=entry.rung,
        title=entry.title,
        group=entry.group,
        index=entry.index,
        kind=entry.kind,
        parent=entry.parent,
        top1=Summary.of(mine.values()),
        values=mine,
        params=_mean(done, "params"),
        macs=_mean(done, "macs"),
        images_per_s=_mean(done, "images_per_s"),
        doubts=() if done is None else tuple(_doubts(done)),
        states={} if runs is None else {str(k): int(v) for k, v in runs["state"].value_counts().items()},
        paper=entry.paper,
    )


def _doubts(done: pd.DataFrame) -> Iterator[str]:
    """What is doubtful about the finished runs of a rung; their recipe is that of the first."""
    recipe = (read_config(str(done["path"].iloc[0])) or {}).get("recipe") if len(done) else None
    warmup = recipe.get("warmup_epochs") if isinstance(recipe, dict) else None
    for run in done[["rung", "seed", *_JUDGED]].astype(object).where(done.notna(), None).to_dict("records"):
        known = {name: run[name] for name in _JUDGED}
        for doubt in doubts(**known, warmup_epochs=warmup if isinstance(warmup, int | float) else None):
            yield f"{run['rung']} seed {run['seed']}: {doubt}"


def paper_summary(paper: PaperRow) -> Summary | None:
    """A published top-1 and its std; None where it gives none."""
    if paper.top1 is None:
        return None
    return Summary(
        paper.top1, float("nan") if paper.std is None else paper.std, 1 if paper.std is None else PAPER_SEEDS
    )


def _by_seed(runs: pd.DataFrame) -> dict[int, float]:
    done = runs[runs["state"] == "done"]
    return {int(seed): float(top1) for seed, top1 in sorted(zip(done["seed"], done["top1"], strict=True))}


def _mean(runs: pd.DataFrame | None, column: str) -> float | None:
    if runs is None or not runs[column].notna().any():
        return None
    return float(runs[column].mean())


def _int(value: Any) -> int | None:
    import pandas as pd

    return None if pd.isna(value) else int(value)


def _notes(runs: pd.DataFrame, table: Table, waiting: Sequence[str]) -> list[str]:
    """What a reader must know about the runs behind a table: counts, failures, gaps, mixed code and devices.

    `waiting`: runs that the study was asked for, and that have no folder yet.
    """
    rows = table.rows
    counts = {str(k): int(v) for k, v in runs["state"].value_counts().items()}
    counts |= {"pending": counts.get("pending", 0) + len(waiting)} if waiting else {}
    rest = [f"{counts[s]} {s}" for s in ("failed", "unreadable", "running", "stopped", "pending") if s in counts]
    notes = [f"! {doubt}" for doubt in _few([doubt for row in rows for doubt in row.doubts])]
    notes += _spread(table)
    notes += [f"{counts['done']} of {len(runs) + len(waiting)} runs done" + (f" ({', '.join(rest)})" if rest else "")]
    failed = [f"{r.rung} seed {r.seed}: {_clip(r.error)}" for r in runs[runs["state"] == "failed"].itertuples()]
    if failed:
        notes.append("failed: " + _some(failed, "; "))
    if table.not_run:
        notes.append("not run: " + _some([row.rung for row in table.not_run], ", ", 16))
    have = {f"{rung}-s{seed}" for rung, seed in zip(runs["rung"], runs["seed"], strict=True)}
    have |= {name.rpartition("-")[0] for name in waiting}  # of RUNG-sSEED-HASH
    rungs = [row.rung for row in rows if row.runs and row.kind in ("main", "side")]  # subsets have what seeds they have
    gaps = [f"{rung} seed {s}" for rung in rungs for s in table.seeds if f"{rung}-s{s}" not in have]
    if gaps:
        notes.append(f"{len(gaps)} not launched, by the seeds of the other rungs: " + _some(gaps, ", "))
    done = runs[runs["state"] == "done"]
    if done["wall_s"].notna().any():
        devices = done["device"].dropna().unique()
        on = f" on {devices[0]}" if len(devices) == 1 else ""
        notes.append(f"{in_words(float(done['wall_s'].sum()))} of training, one run after another{on}")
    commits = done["git_commit"].dropna().value_counts()
    if len(commits) > 1:
        notes.append("code of several commits: " + ", ".join(f"{str(c)[:10]} ({_runs(n)})" for c, n in commits.items()))
    if dirty := int((done["git_dirty"] == True).sum()):  # noqa: E712  (missing values)
        notes.append(f"{_runs(dirty)} trained with uncommitted changes")
    notes += [note for column in ("epochs", "batch_size") if (note := _differing(done, column))]
    for column, what in (("device", "devices"), ("precision", "precisions")):
        kinds = sorted({str(v) for v in done[column].dropna()})
        if len(kinds) > 1:
            notes.append(f"several {what}, so images/s are not comparable: " + ", ".join(kinds))
    return notes


def _spread(table: Table) -> list[str]:
    """What the intervals stand on, as far as the heading of the column doesn't say it."""
    model = table.fit
    if model is None:
        return []
    single = any(row.top1 is not None and row.top1.n == 1 for row in table.rows)
    if not model.components:
        return ["no std and no interval where a rung has one seed"] if single else []
    notes = []
    if single:
        notes.append("no std where a rung has one seed; the interval of its change is by the spread of all runs")
    if model.apart:
        odd = ", ".join(f"{row.rung} ±{row.top1.std:.2f}" for row in table.rows if row.rung in model.apart and row.top1)
        own = "their spreads are" if len(model.apart) > 1 else "its spread is"
        notes.append(f"{odd}: {own} not that of the others, so changes to and from there are by their own runs (Welch)")
    ragged = len({frozenset(row.values) for row in table.rows if row.values}) > 1
    if ragged and model.blocked:
        notes.append("changes are within seeds: where rungs have different ones, not the difference of the two means")
    elif ragged and len(model.names) > 2:
        notes.append("rungs share too few seeds to be compared within them")
    if any(row.change is not None and row.change.half == model.floor for row in table.rows):
        notes.append(
            f"no interval is narrower than one of the {table.eval_size:,} images, ±{model.floor:.2f}: the split"
            " resolves no less"
        )
    return notes


def _differing(done: pd.DataFrame, column: str) -> str | None:
    """Which rungs have another number than the one that the subtitle names; steps may change the recipe."""
    usual = done[column].iloc[0]
    others = done[done[column].notna() & (done[column] != usual)].groupby("rung", sort=False)[column].first()
    if others.empty:
        return None
    name = column.replace("_size", "")
    return f"{name}: {int(usual)}, but " + _some([f"{int(value)} for {rung}" for rung, value in others.items()], ", ")


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"


def _few(items: Sequence[str], most: int = 4) -> list[str]:
    return [*items[:most], *([f"and {len(items) - most} more like these"] if len(items) > most else [])]


def _some(items: Sequence[str], separator: str, most: int = 6) -> str:
    more = f"{separator}and {len(items) - most} more" if len(items) > most else ""
    return separator.join(items[:most]) + more


def _clip(error: object, length: int = 80) -> str:
    text = " ".join(str(error).split()) if isinstance(error, str) and error.strip() else "no message"
    return text if len(text) <= length else text[: length - 3] + "..."
