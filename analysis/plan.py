"""Owns the command `ladder plan`: what a sweep will cost, and what it will resolve, before it is launched."""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.read.speeds import PEAKS, UTILISATION, Estimate, Speeds, from_bench, from_result, from_study
from analysis.show import options
from ladder.common.command import FILE, FOLDER, command
from ladder.data.content import SIZES
from ladder.errors import UserError, run_cli
from ladder.networks.outline import spec_cost
from ladder.paths import strict_json
from ladder.runs import completion
from ladder.runs.resolve import Run

if TYPE_CHECKING:
    from analysis.compare.power import Resolution, Spread, Widths

MOMENTS = {"momentum": 1, "sgd": 1, "lion": 1}  # tensors an optimiser keeps for each parameter; others: 2
RUN_FILES = 2_000_000  # bytes of a run's log, metrics and W&B files

EXAMPLES = f"""examples:
  ladder plan experiment=cifar10 --measure          measures the rungs on this machine first (a minute)
  ladder plan experiment=paper_t --bench h100.json --gpus 64
  ladder plan experiment=paper_t --gpu h100 --gpus 64      from the data sheet: a guess, and says so
  ladder plan ladder=convnext_mini 'rung=range(13)' seed=0,1,2 data=cifar10 --study runs/cifar10

  ladder plan experiment=cifar10 --study runs/cifar10 --resolve 0.5    the seeds that half a point takes, and their cost

What it resolves: a change that shows in 80% of all such studies, its 95% interval leaving 0 out, by the linear model
that `ladder table` uses and the spread of the runs of --study, else an assumed one, which is said.

The overrides are those of `ladder train`. A bench file comes from
  ladder bench ladder=convnext_t precision=bf16 batch_size=256 format=json out=h100.json
GPUs known by data sheet: {", ".join(PEAKS)}.
"""


@dataclass(frozen=True)
class Line:
    """The runs of one rung. `hours` of one run, None where the speed isn't known; `disk` bytes of one run."""

    ladder: str
    rung: str
    runs: int
    steps: int
    params: int
    macs: int
    images_per_s: float | None
    how: str | None  # measured | scaled | assumed
    note: str | None
    device: str | None  # whose speed it is
    hours: float | None
    disk: int


_THREADS = re.compile(r", (\d+) threads?$")  # of a CPU's name, as runs note it


@dataclass(frozen=True)
class Plan:
    """A sweep's cost. `macs`: multiply-accumulates of all runs, forward and backward and evaluation."""

    lines: list[Line]
    runs: int
    steps: int
    macs: float
    gpu_hours: float | None
    gpus: int
    wall_hours: float | None
    disk_bytes: int
    assumptions: list[str]
    spread: Spread | None = None  # of runs of one rung
    resolution: Resolution | None = None  # None: no two rungs to compare
    resolve: Resolve | None = None
    widths: Widths | None = None  # of runs of subsets: what they tell of each step

    @property
    def on_gpus(self) -> bool:
        """Whether the speeds are a GPU's, as far as their source names one."""
        sources = " ".join(line.note or "" for line in self.lines).lower()
        return any(word in sources for word in (*PEAKS, "nvidia", "cuda", "gpu", "rtx"))

    @property
    def cores(self) -> int | None:
        """How many cores a run takes on the CPUs that the speeds are of; None on GPUs, and where that isn't known."""
        found = {_THREADS.search(line.device or "") for line in self.lines} if not self.on_gpus else {None}
        numbers = {int(match[1]) if match else None for match in found}
        return numbers.pop() if len(numbers) == 1 else None

    def price(self, hours: float) -> str:
        """Hours of runs as what they take of a machine: "12.0 core-hours"."""
        if self.on_gpus:
            return f"{_hours(hours)} GPU-hours"
        return f"{_hours(hours)} hours" if self.cores is None else f"{_hours(hours * self.cores)} core-hours"


@dataclass(frozen=True)
class Resolve:
    """The seeds a rung that a change of `points` takes, and what all runs with them cost."""

    points: float
    interval: str  # each | all
    seeds: int
    runs: int
    gpu_hours: float | None
    disk_bytes: int


def plan(runs: Sequence[Run], speeds: Speeds, gpus: int = 1, images: tuple[int, int] | None = None) -> Plan:
    """What `runs` cost at these speeds on `gpus` GPUs, one a run. Raises UserError for data of unknown size."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps({**run.identity, "seed": None}, sort_keys=True), []).append(run)
    lines, macs_total = [], 0.0
    for group in groups.values():
        line, macs = _line(group, speeds, images)
        lines.append(line)
        macs_total += macs * len(group)
    known = [line for line in lines if line.hours is not None]
    hours = [line.hours for line in known for _ in range(line.runs) if line.hours is not None]
    complete = len(known) == len(lines)
    return Plan(
        lines=lines,
        runs=len(runs),
        steps=sum(line.steps * line.runs for line in lines),
        macs=macs_total,
        gpu_hours=sum(hours) if complete else None,
        gpus=gpus,
        wall_hours=makespan(hours, gpus) if complete else None,
        disk_bytes=sum(line.disk * line.runs for line in lines),
        assumptions=_assumptions(lines),
    )


def resolving(
    made: Plan, runs: Sequence[Run], studies: Sequence[str], points: float | None, interval: str = "all"
) -> Plan:
    """The plan with what it resolves, and with `points` the seeds that such a change takes.

    Raises UserError for `points` that can't be, or where the sweep has no two rungs to compare.
    """
    if points is not None and not points > 0:
        raise UserError(f"--resolve {points:g}: must be points of top-1 above 0")
    from analysis.compare import power

    ladder = runs[0].ladder
    seeds: dict[str, int] = {}
    for line in made.lines:
        seeds[line.rung] = min(line.runs, seeds.get(line.rung, line.runs))
    known = {rung.name for rung in (*ladder.rungs, *ladder.side_rungs)}
    kinds = {line.ladder for line in made.lines}
    try:
        if len(kinds) > 1 or not seeds.keys() <= known | {r.rung.name for r in runs if r.rung.is_reference}:
            raise UserError("what is resolved is known for the rungs of one ladder, not for several or for subsets")
        walk = power.walk(ladder, seeds)
    except UserError:
        if points is not None:
            raise
        return _with_widths(made, runs, studies) if len(kinds) == 1 else made
    spread = power.spread(studies, runs[0].data.name)
    found = walk.resolution(min(seeds.values()), spread.std)
    resolve = None
    if points is not None:
        needed = walk.seeds(points, spread.std, interval)
        hours = [None if line.hours is None else line.hours * needed for line in made.lines]
        resolve = Resolve(
            points=points,
            interval=interval,
            seeds=needed,
            runs=needed * len(made.lines),
            gpu_hours=None if None in hours else sum(h for h in hours if h is not None),
            disk_bytes=sum(line.disk * needed for line in made.lines),
        )
    return replace(made, spread=spread, resolution=found, resolve=resolve)


def _with_widths(made: Plan, runs: Sequence[Run], studies: Sequence[str]) -> Plan:
    """The plan with what runs of subsets tell of each step."""
    from analysis.compare import power
    from ladder.launch.design_file import steps_applied
    from ladder.launch.designed import macs_of
    from ladder.launch.designs import Row

    run = runs[0]
    applied = [(steps_applied(each.config, each.ladder), each.seed) for each in runs]
    rows = [Row(steps, {}, seed) for steps, seed in applied if steps is not None]
    if len({json.dumps({**each.recipe.__dict__, "drop_path": 0}, default=str) for each in runs}) > 1:
        return made  # recipe values vary along
    spread = power.spread(studies, run.data.name)
    macs = macs_of(run.ladder, run.data.image_size, run.data.num_classes or 10, run.data.in_chans)
    return replace(made, spread=spread, widths=power.widths(rows, run.ladder, spread.std, macs))


def makespan(hours: Sequence[float], places: int) -> float:
    """When the last run ends, the longest started first, each on the place that is free first."""
    ends = [0.0] * places
    for each in sorted(hours, reverse=True):
        heapq.heapreplace(ends, ends[0] + each)
    return max(ends)


def _line(group: Sequence[Run], speeds: Speeds, images: tuple[int, int] | None) -> tuple[Line, float]:
    """The runs that differ in nothing but the seed; and the MACs of one of them."""
    run = group[0]
    train, evaluated, classes = _sizes(run, images)
    recipe = run.recipe
    steps = train // recipe.batch_size * recipe.epochs
    if not steps:
        raise UserError(f"recipe.batch_size={recipe.batch_size}: {run.data.name} has {train} training images")
    cost = spec_cost(run.spec, run.data.image_size, classes, run.data.in_chans)
    trained, tested = steps * recipe.batch_size, evaluated * -(-recipe.epochs // run.engine.eval_every)
    estimate: Estimate | None = speeds.of(run.rung.name, cost.macs, run.data.image_size, run.engine.precision)
    hours = None if estimate is None else (trained / estimate.train + tested / estimate.infer) / 3600
    tensors = 1 + MOMENTS.get(recipe.optimizer, 2) + (recipe.ema_decay is not None)
    disk = 4 * cost.params * (2 * tensors + 1) + RUN_FILES  # two checkpoints and the exported model
    line = Line(
        ladder=run.ladder.name,
        rung=run.rung.name,
        runs=len(group),
        steps=steps,
        params=cost.params,
        macs=cost.macs,
        images_per_s=None if estimate is None else estimate.train,
        how=None if estimate is None else estimate.how,
        note=None if estimate is None else estimate.note,
        device=None if estimate is None else estimate.device,
        hours=hours,
        disk=disk,
    )
    return line, cost.macs * (3 * trained + tested)


def _sizes(run: Run, images: tuple[int, int] | None) -> tuple[int, int, int]:
    """Images to train on and to evaluate on, and classes."""
    data = run.data
    if images is not None:
        train, evaluated = images
        classes = data.num_classes or SIZES.get(data.name, (0, 0, 1000))[2]
    elif data.name in SIZES and data.source != "timm":
        train, evaluated, classes = SIZES[data.name]
        if (found := run.content) is not None and found.classes:  # a part of it, in a folder
            train, evaluated, classes = found.train, found.evaluation or 0, found.classes
        if data.holdout:
            evaluated = round(train * data.holdout)
            train -= evaluated
        train = round(train * data.fraction)
    else:
        from ladder.data.sources import open_source

        try:
            source = open_source(data)
        except UserError as error:
            raise UserError(f"{error}; or say its size: --images TRAIN,EVALUATION") from None
        train, evaluated, classes = len(source.train.labels), len(source.evaluation.labels), len(source.class_names)
    return train, evaluated, data.num_classes or classes


def _assumptions(lines: Sequence[Line]) -> list[str]:
    said = [
        "one device a run, the longest runs first; the data keeps up with it; start-up and checkpoints take no time",
        "each epoch trains on whole batches only; evaluation is as often as engine.eval_every says",
    ]
    by_how = {how: [line for line in lines if line.how == how] for how in ("measured", "scaled", "assumed", None)}
    if found := by_how["measured"]:
        said.append(f"measured: {len(found)} of {len(lines)} rungs ({found[0].note})")
    if found := by_how["scaled"]:
        said.append(
            f"EXTRAPOLATED: {len(found)} of {len(lines)} rungs were not measured so; time is taken to grow with MACs,"
            f" which for networks of another kind is off by a factor of 2 and more. Nearest: {found[0].note}"
        )
    if found := by_how["assumed"]:
        said.append(
            f"EXTRAPOLATED: nothing was measured; every rung is taken to reach {found[0].note}, which rungs with"
            " depthwise convolutions fall short of. Measure with ladder bench and give --bench FILE"
        )
    if by_how[None]:
        said.append("no speed is known: give --bench FILE, --study FOLDER, --measure or --gpu NAME for times")
    return said


def render(plan: Plan) -> str:
    """What a person reads."""
    in_millions = all(line.macs < 1e9 for line in plan.lines)
    scale, unit = (1e6, "M") if in_millions else (1e9, "G")
    each = "GPU-h" if plan.on_gpus else "h in all" if plan.cores is None else "core-h"
    cells = [["rung", "runs", "steps", "params M", f"MACs {unit}", "images/s", "", "h a run", each]]
    for line in plan.lines:
        timed = line.images_per_s is not None and line.hours is not None
        cells.append(
            [
                line.rung,
                str(line.runs),
                f"{line.steps:,}",
                f"{line.params / 1e6:.2f}",
                f"{line.macs / scale:.{1 if in_millions else 3}f}",
                f"{line.images_per_s:,.0f}" if timed else "?",
                line.how or "",
                _hours(line.hours) if line.hours is not None else "?",
                _hours(line.hours * line.runs * (plan.cores or 1)) if line.hours is not None else "?",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rows = [
        "  ".join([c[0].ljust(widths[0]), *(x.rjust(w) for x, w in zip(c[1:], widths[1:], strict=True))]) for c in cells
    ]
    total = [f"{plan.runs} runs, {plan.steps:,} steps, {si(plan.macs)}MACs"]
    if plan.gpu_hours is not None and plan.wall_hours is not None:
        at_once = f"on {plan.gpus} GPUs" if plan.on_gpus else f"with {plan.gpus} at a time"
        total += [f"{plan.price(plan.gpu_hours)}, {_hours(plan.wall_hours)} h {at_once}"]
    total += [f"{plan.disk_bytes / 1e9:.1f} GB on disk"]
    return "\n".join(
        [*rows, "", "; ".join(total), *_resolution(plan), "", "Assumed:", *(f"- {each}" for each in plan.assumptions)]
    )


def _resolution(plan: Plan) -> list[str]:
    """What the sweep resolves, in words."""
    found, spread = plan.resolution, plan.spread
    if plan.widths is not None and spread is not None:
        wide = plan.widths
        told = [f"±{wide.mean:.2f} points on average ({wide.least:.2f} to {wide.most:.2f})"]
        told += [f"a walk of {price} ({seeds} seeds) ±{half:.2f}" for price, seeds, half in wide.walks]
        return [
            "",
            f"Each of {wide.steps} steps, by itself, if steps add up: {'; '.join(told)}",
            f"at a spread of ±{spread.std:.2f} between runs of one network ({spread.source})",
        ]
    if found is None or spread is None:
        return []
    seeds = "1 seed" if found.seeds == 1 else f"{found.seeds} seeds"
    lines = [""]
    if found.each is None or found.at_once is None:
        lines.append(f"Resolves: nothing: {seeds} a rung leaves no spread to judge changes by")
    else:
        each, every = f"{found.each:.2f} points by itself", f"{found.at_once:.2f} among all {found.changes} at once"
        lines.append(f"Resolves, with {seeds} a rung: a change of {each}, {every} (80% power)")
    lines.append(f"at a spread of ±{spread.std:.2f} between runs of one rung ({spread.source})")
    if plan.resolve is not None:
        needed = plan.resolve
        among = f"among all {found.changes} at once" if needed.interval == "all" else "by itself"
        cost = [f"{needed.runs:,} runs"]
        cost += [plan.price(needed.gpu_hours)] if needed.gpu_hours is not None else []
        cost += [f"{needed.disk_bytes / 1e9:.1f} GB on disk"]
        lines.append(f"A change of {needed.points:g} points, {among}: {needed.seeds} seeds a rung; {', '.join(cost)}")
    return lines


def si(number: float) -> str:
    """Three digits and a prefix from G to E, to be followed by the unit."""
    for unit, scale in (("E", 1e18), ("P", 1e15), ("T", 1e12)):
        if number >= scale:
            return f"{number / scale:,.3g} {unit}"
    return f"{number / 1e9:,.3g} G"


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}" if hours >= 1 else f"{hours:.3f}"


def _measure(runs: Sequence[Run]) -> list[Any]:
    """Speeds of the rungs on this machine: a turn of a second each."""
    import sys

    from ladder.bench import BenchConfig, bench

    measured = []
    for name in dict.fromkeys(run.ladder.name for run in runs):
        of_ladder = [run for run in runs if run.ladder.name == name]
        run = of_ladder[0]
        known = {rung.name for rung in (*run.ladder.rungs, *run.ladder.side_rungs)}
        own = run.ladder.folder
        config = BenchConfig(
            ladder=name if own is None else str(Path(own, f"{name}.yaml")),
            rungs=list(dict.fromkeys(r.rung.name for r in of_ladder if r.rung.name in known)),
            batch_size=max(1, run.recipe.batch_size // run.engine.accumulate),
            image_size=run.data.image_size,
            in_chans=run.data.in_chans,
            num_classes=run.data.num_classes or SIZES.get(run.data.name, (0, 0, 10))[2],
            device=run.device,
            threads=run.engine.threads,
            precision=run.engine.precision,
            channels_last=run.engine.channels_last,
            compile=run.engine.compile,
            rounds=2,
        )
        result = bench(config, lambda text: print(text, file=sys.stderr, flush=True))
        measured += from_result(result, run.engine.precision, "measured now")
    return measured


def _pair(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.replace("_", "").split(",")
    if len(parts) != 2 or not all(part.isdigit() and int(part) for part in parts):
        raise UserError(f"--images {text}: must be two numbers of images, such as 50000,10000")
    return int(parts[0]), int(parts[1])


@command("plan", examples=EXAMPLES)
@click.argument(
    "overrides",
    nargs=-1,
    required=True,
    metavar="KEY=VALUE...",
    shell_complete=completion.items,
    help="as of ladder train -m",
)
@click.option("--gpus", type=int, default=1, show_default=True, metavar="N", help="runs at a time, one on each")
@click.option("--bench", type=FILE, multiple=True, metavar="FILE", help="speeds of ladder bench")
@click.option("--study", type=FOLDER, multiple=True, metavar="FOLDER", help="speeds and spread of done runs")
@click.option("--measure", is_flag=True, help="measure the rungs here, first")
@click.option("--gpu", metavar="NAME", help="where nothing was measured: guess from this GPU's data sheet")
@click.option("--utilisation", type=float, default=UTILISATION, show_default=True, metavar="PART", help="of its peak")
@click.option("--images", metavar="TRAIN,EVAL", callback=_pair, help="numbers of images, for data that isn't here")
@click.option("--config-dir", type=FOLDER, metavar="DIR", help="more configs: DIR/ladder/NAME.yaml, DIR/recipe/...")
@click.option("--resolve", type=float, metavar="POINTS", help="the seeds that a change of top-1 takes, and their cost")
@options.interval()
@options.output_format("text", "json")
def main(
    overrides: tuple[str, ...],
    gpus: int,
    bench: tuple[Path, ...],
    study: tuple[Path, ...],
    measure: bool,
    gpu: str | None,
    utilisation: float,
    images: tuple[int, int] | None,
    config_dir: Path | None,
    resolve: float | None,
    interval: str,
    kind: str,
) -> None:
    """What a sweep will cost (runs, steps, MACs, GPU-hours, wall time, disk), and the changes that it will resolve."""
    if gpus < 1:
        raise UserError(f"--gpus {gpus}: must be 1 or more")
    measured = [speed for path in bench for speed in from_bench(path)]
    measured += [speed for path in study for speed in from_study(path)]
    Speeds(gpu=gpu, utilisation=utilisation)  # a mistake is told before anything takes time
    from ladder.launch.sweeper import runs_of

    runs = runs_of(overrides, config_dir)
    if measure:
        measured += _measure(runs)
    made = plan(runs, Speeds(measured, gpu, utilisation), gpus, images)
    made = resolving(made, runs, [str(path) for path in study], resolve, interval)
    print(strict_json(asdict(made), 1) if kind == "json" else render(made))


if __name__ == "__main__":
    run_cli(main)
