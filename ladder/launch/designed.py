"""Owns the way from `design=NAME` on a sweep's command line to its jobs, and what is said of the design."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from ladder.errors import UserError
from ladder.launch import design_file, designs
from ladder.launch.compose import Composer
from ladder.launch.designs import Design, Row
from ladder.networks.outline import spec_cost
from ladder.networks.rungs import Ladder
from ladder.networks.spec import Spec
from ladder.runs.config import DesignConfig

_NETWORKS = ("rung", "steps", "without", "reference")  # the keys that a design sets, or that exclude it


@dataclass(frozen=True)
class Designed:
    """A design, the jobs that train it (for each combination of what else is swept), and the study that keeps it."""

    design: Design
    identity: str
    study: Path
    jobs: list[list[str]]

    @property
    def message(self) -> str:
        """What the launch says of the design: its runs, and how well they will tell the steps' effects."""
        return f"design: {described(self.design)}"

    def remember(self) -> None:
        """Keep the design in the study's folder. Raises UserError where it can't be written."""
        design_file.remember(self.study, self.identity, self.design)


def described(design: Design) -> str:
    """A line: kind, number of runs, and the half width that each step's interval is expected to have."""
    count, steps = len(design.rows), len(design.steps)
    beside = f" beside {len(design.existing)} that the study has" if design.existing else ""
    seeds = len({row.seed for row in design.rows})
    text = f"{design.kind}, {count} runs{beside} of {steps} steps"
    if design.factors:
        text += f" and {', '.join(design.factors)}"
    text += f", {seeds} seed{'s' if seeds > 1 else ''}"
    widths = [width for name, width in design.half_widths().items() if name in design.steps]
    if not widths or any(math.isnan(width) for width in widths):
        return f"{text}; too few to judge every step by itself"
    text += f"; each step's effect ±{sum(widths) / steps:.2f} s expected if steps add up, s the spread of a run"
    if (chain := chain_half_width(steps, count)) is not None and design.kind != "chain":
        text += f" (a chain of as many runs ±{chain:.2f} s)"
    return text


def chain_half_width(steps: int, runs: int, level: float = 0.95) -> float | None:
    """What a walk of at most `runs` runs tells of each step, in s, each interval by itself; None below two seeds."""
    from scipy.special import stdtrit

    seeds = runs // (steps + 1)
    if seeds < 2:
        return None
    return float(stdtrit(steps * (seeds - 1), 0.5 + level / 2)) * math.sqrt(2 / seeds)


def designed_jobs(composer: Composer, overrides: Sequence[Override]) -> Designed | None:
    """The jobs of the design that a sweep's overrides ask for; None where they ask for none. Raises UserError."""
    common = [str(o.input_line) for o in overrides if not o.is_sweep_override()]
    asked = [o for o in overrides if o.key_or_group == "design" or o.key_or_group.startswith("design.")]
    if any(o.is_sweep_override() for o in asked):
        raise UserError("design: one at a time, so that a study can be told apart; launch the other one by itself")
    fixed = [text for text in common if not _is_network(text)]
    config = composer.config(fixed)
    if config.design.kind is None:
        if asked:
            raise UserError(f"{asked[-1].input_line}: needs design=NAME, such as design=optimal")
        return None
    wanted: DesignConfig = OmegaConf.to_object(config.design)  # type: ignore[assignment]
    for override in overrides:
        if override.key_or_group in _NETWORKS and override.value() is not None:
            raise UserError(f"{override.input_line} and design={wanted.kind} exclude each other: give one of them")
        if override.key_or_group == "ladder" and override.is_sweep_override():
            raise UserError(f"{override.input_line}: a design is of one ladder; launch each by itself")
    ladder = Ladder.from_mapping(OmegaConf.to_container(config.ladder, resolve=True))  # type: ignore[arg-type]
    seeds = _seeds(overrides, int(config.seed))
    first = composer.run([*fixed, *_first_values(overrides)])
    study = first.dir.path.parent
    identity = designs.identity(ladder, wanted, seeds)
    design = design_file.stored(study, identity)
    if design is None:
        factors = {key: list(values) for key, values in (wanted.factors or {}).items()} if wanted.augment else {}
        macs = macs_of(ladder, first.data.image_size, first.data.num_classes or 10)
        existing = design_file.runs_in(study, ladder, factors) if wanted.augment else []
        design = designs.make(ladder, wanted, seeds, macs, existing)
    rest = [
        [f"{o.key_or_group}={value}" for value in o.sweep_string_iterator()]
        for o in overrides
        if o.is_sweep_override() and o.key_or_group not in ("seed", *_NETWORKS)
    ]
    left_out = ("design", "seed", *_NETWORKS)
    plain = [
        str(o.input_line)
        for o in overrides
        if not o.is_sweep_override() and o.key_or_group.partition(".")[0] not in left_out
    ]
    jobs = [
        [*plain, *combination, *_overrides(ladder, row)]
        for combination in itertools.product(*rest)
        for row in design.rows
    ]
    return Designed(design, identity, study, jobs)


def _is_network(text: str) -> bool:
    return text.partition("=")[0].lstrip("+~") in _NETWORKS


def _seeds(overrides: Iterable[Override], default: int) -> list[int]:
    seeds: list[Any] = [default]
    for override in overrides:
        if override.key_or_group == "seed":
            seeds = list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
    if any(type(seed) is not int for seed in seeds):
        raise UserError(f"seed={','.join(map(str, seeds))}: a design takes whole numbers")
    return list(dict.fromkeys(seeds))


def _first_values(overrides: Iterable[Override]) -> list[str]:
    swept = [o for o in overrides if o.is_sweep_override() and o.key_or_group not in _NETWORKS]
    return [f"{o.key_or_group}={next(iter(o.sweep_string_iterator()))}" for o in swept]


def macs_of(ladder: Ladder, image_size: int, num_classes: int, in_chans: int = 3) -> Callable[[tuple[str, ...]], float]:
    """A function from steps to the MACs of the network with these steps applied."""
    return lambda steps: _macs(ladder.subset(steps).spec.for_images(image_size), image_size, num_classes, in_chans)


@lru_cache(4096)  # a plan and its half-widths ask for the same networks; of timm's, a tenth of a second each
def _macs(spec: Spec, image_size: int, num_classes: int, in_chans: int) -> float:
    return float(spec_cost(spec, image_size, num_classes, in_chans).macs)


def _overrides(ladder: Ladder, row: Row) -> list[str]:
    """A row as overrides; a subset that is a rung of the ladder is named as one, so that both are one run."""
    names = [step.name for step in ladder.steps]
    place = len(row.steps)
    network = f"rung={ladder.rungs[place].index}" if list(row.steps) == names[:place] else f"steps={_text(row.steps)}"
    return [network, *(f"{key}={_text(value)}" for key, value in row.levels.items()), f"seed={row.seed}"]


def _text(value: Any) -> str:
    """A value as Hydra's overrides are written."""
    if isinstance(value, tuple | list):
        return f"[{','.join(map(_text, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    return "'" + str(value).replace("'", "\\'") + "'"
