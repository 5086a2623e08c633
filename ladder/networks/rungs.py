"""Owns ladders: a base spec and its ordered steps, read from one YAML file, and the rungs that they make."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ladder.common.yaml_files import read_yaml
from ladder.errors import UserError, unknown
from ladder.networks.arguments import written_over
from ladder.networks.spec import SPECS, CallSpec, FactorySpec, Spec, TimmSpec, spec_class
from ladder.paths import conf_dir

_KEYS = (
    *("name", "title", "network", "source", "paper_data", "image_size", "evaluation", "kind"),
    *("base", "steps", "side", "references"),
)
_FOLDER = "folder"  # where the file lies (`placed`): added by who reads it, never by the file itself

# What the command line reads as something else than a name: a place on the ladder, the top, nothing.
_NOT_A_NAME = re.compile(r"\s*|null|true|false|[+-]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(e[+-]?\d+)?|[+-]?(inf|nan)", re.I)


@dataclass(frozen=True)
class PaperRow:
    """What the paper printed for one step. top-1 and std in percent, gflops in 1e9 MACs; None where not given."""

    top1: float | None = None
    std: float | None = None
    gflops: float | None = None
    params_M: float | None = None
    macs_note: str | None = None  # why `gflops` is not what the network computes to
    note: str | None = None  # what a reader of `top1` must know

    def __post_init__(self) -> None:
        for name in ("top1", "std", "gflops", "params_M"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
                raise UserError(f"paper.{name}={value!r}: must be a number")


@dataclass(frozen=True)
class Step:
    """One named change of a spec (and, in an ablation of the training, of the recipe)."""

    name: str
    title: str
    group: str = ""
    change: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    paper: PaperRow = PaperRow()
    after: str | None = None  # side steps: the rung they hang off
    requires: tuple[str, ...] = ()  # steps without which a design never applies this one

    @property
    def sets(self) -> frozenset[str]:
        """What the step gives a value: dotted keys of the spec, and of the recipe."""
        return frozenset((*_leaves(self.change, "spec."), *_leaves(self.recipe, "recipe.")))


def _leaves(values: Mapping[str, Any], above: str) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}"


_NAMED = 3  # steps of a subset that folders call by name


@dataclass(frozen=True)
class Rung:
    """The network after a step, all earlier steps of its path applied. `index` is None for a side rung."""

    name: str
    title: str
    group: str
    index: int | None
    spec: Spec
    recipe: Mapping[str, Any]
    paper: PaperRow
    parent: str | None  # the rung that the step was applied to
    change: Mapping[str, Any] = field(default_factory=dict)  # the spec's fields as the ladder file writes them
    is_reference: bool = False  # a model of timm, trained beside the ladder by the same recipe

    @property
    def is_side(self) -> bool:
        """True for a variant that hangs off the chain and is not adopted."""
        return self.index is None


@dataclass(frozen=True)
class Reference:
    """A published row to set beside the ladder (Swin-T; rung 0 under its original recipe).

    `timm`: the same network's name there; a run of it (`reference=NAME`) stands in this row.
    """

    title: str
    paper: PaperRow
    recipe: str | None = None
    timm: str | None = None


@dataclass(frozen=True)
class Ladder:
    """A base spec and its steps. `kind` chain: each step builds on the one before. star: each on the base alone."""

    name: str
    title: str
    network: str
    source: str
    image_size: int
    kind: str
    base: Step
    steps: tuple[Step, ...]
    side: tuple[Step, ...]
    references: tuple[Reference, ...]
    paper_data: str = "imagenet"  # the data set that the paper's accuracies are of, by its name in conf/data/
    folder: str | None = None  # of the file, where functions of `network: call` and ladders of `from:` are looked for
    foreign: bool = False  # as a study's folder holds it: no function that it names is called
    values: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)  # what makes it anew, anywhere

    @cached_property
    def rungs(self) -> list[Rung]:
        """The main rungs in order, the base first."""
        base = self._rung(self.base, 0, [], None)
        if self.kind == "star":
            return [base] + [self._rung(s, i, [s], self.base.name) for i, s in enumerate(self.steps, 1)]
        names = [self.base.name, *(s.name for s in self.steps)]
        return [base] + [self._rung(s, i, self.steps[:i], names[i - 1]) for i, s in enumerate(self.steps, 1)]

    @cached_property
    def side_rungs(self) -> list[Rung]:
        """The variants that hang off the chain, in order of the file."""
        main = [self.base.name, *(s.name for s in self.steps)]
        paths = [self.steps[: main.index(str(s.after))] for s in self.side]
        if self.kind == "star":
            paths = [path[-1:] for path in paths]  # each step is on the base alone
        return [self._rung(s, None, [*path, s], s.after) for s, path in zip(self.side, paths, strict=True)]

    def _rung(self, step: Step, index: int | None, path: Iterable[Step], parent: str | None) -> Rung:
        spec, recipe, change = self._apply(path)
        return Rung(step.name, step.title, step.group, index, spec, recipe, step.paper, parent, change)

    def _apply(self, path: Iterable[Step]) -> tuple[Spec, dict[str, Any], dict[str, Any]]:
        kind = spec_class(self.network)
        change, recipe = dict(self.base.change), dict(self.base.recipe)
        for step in path:
            change = written_over(change, step.change) if issubclass(kind, FactorySpec) else {**change, **step.change}
            recipe.update(step.recipe)
        spec = kind.from_mapping(change)
        return spec.at(self.folder, self.foreign) if isinstance(spec, CallSpec) else spec, recipe, change

    def rung(self, key: str | int | None = None) -> Rung:
        """The rung of a name or a number; without one the top (of a star: the base).

        Raises UserError naming the nearest names.
        """
        main, side = self.rungs, self.side_rungs
        if key is None:
            return main[0] if self.kind == "star" else main[-1]
        text = str(key)
        if not isinstance(key, bool) and text.removeprefix("-").isdecimal():
            if 0 <= int(text) < len(main):
                return main[int(text)]
            raise UserError(f"rung {text} of {self.name}: allowed are 0 to {len(main) - 1}, or a name")
        for rung in (*main, *side):
            if rung.name == text:
                return rung
        raise unknown(f"rung of {self.name}", key, [r.name for r in (*main, *side)])

    def subset(self, steps: Iterable[str] | None = None, without: Iterable[str] | None = None) -> Rung:
        """The network with only `steps` applied to the base, or all steps but `without`, in ladder order.

        Side steps may be named in `steps` (they are applied after the chain's). Raises UserError on a wrong name.
        """
        if steps is not None and without is not None:
            raise UserError("steps and without exclude each other: give one of them")
        names = list(steps if steps is not None else without or [])
        every = [*self.steps, *self.side] if steps is not None else list(self.steps)
        for name in names:
            if name not in [s.name for s in every]:
                raise unknown(f"step of {self.name}", name, [s.name for s in every])
        path = [s for s in every if (s.name in names) == (steps is not None)]
        spec, recipe, change = self._apply(path)
        label = "+".join(s.name for s in path) or self.base.name
        if without is not None:
            label = "without_" + "+".join(dict.fromkeys(names)) if names else self.rungs[-1].name
        return Rung(label, label.replace("_", " "), "", None, spec, recipe, PaperRow(), None, change)

    def short_name(self, name: str) -> str:
        """What folders call a rung or subset: a subset of many steps by their numbers, those of the rungs.

        "stage_ratio+patchify_stem+kernel_7+gelu" of `convnext_t` is "steps_1-2-7-8".
        """
        numbers = {step.name: str(number) for number, step in enumerate(self.steps, 1)}
        names = name.split("+")
        if len(names) <= _NAMED or not numbers.keys() >= set(names):
            return name
        return "steps_" + "-".join(numbers[step] for step in names)

    def reference(self, model: str) -> Rung:
        """A model of timm as what stands beside the rungs. Raises UserError on a name that timm does not know."""
        known = next((r for r in self.references if r.timm == model), None)
        title, paper = (known.title, known.paper) if known else (model, PaperRow())
        return Rung(model, title, "reference", None, TimmSpec(model), {}, paper, None, is_reference=True)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], foreign: bool = False, after: tuple[str, ...] = ()) -> Ladder:
        """A ladder from the content of its YAML file; the spec of every rung is made, so a bad file is told at once.

        `foreign`: the content comes from a study's folder, and may be a stranger's. `after`: the files of the ladders
        that go on from this one.
        """
        try:
            for key in values:
                if key not in _KEYS and (foreign or key != _FOLDER):
                    raise unknown("key", key, _KEYS)
            if foreign and "from" in values["base"]:
                raise UserError("a study's ladder holds its base in full: base.from is for a file of one's own")
            values = _continued(values, after)
            base, steps, side = values["base"], values.get("steps") or [], values.get("side") or []
            ladder = cls(
                name=str(values["name"]),
                title=str(values.get("title", values["name"])),
                network=str(values["network"]),
                source=str(values.get("source", "")),
                image_size=int(values.get("image_size", 224)),
                kind=str(values.get("kind", "chain")),
                base=_step({**base, "change": base["spec"]}, {"spec"}),
                steps=tuple(_step(s) for s in steps),
                side=tuple(_step(s, {"after"}) for s in side),
                references=tuple(
                    Reference(str(r["title"]), PaperRow(**r["paper"]), r.get("recipe"), r.get("timm"))
                    for r in values.get("references") or []
                ),
                paper_data=str(values.get("paper_data", "imagenet")),
                folder=values.get(_FOLDER),
                foreign=foreign,
                values={key: value for key, value in values.items() if key != _FOLDER},
            )
        except UserError as error:
            raise UserError(f"ladder {values.get('name', '?')}: {error}") from None
        except KeyError as error:
            raise UserError(f"ladder {values.get('name', '?')}: lacks the key {error}") from None
        except (TypeError, AttributeError, ValueError) as error:
            raise UserError(f"ladder {values.get('name', '?')}: a key holds what it cannot: {error}") from None
        if ladder.kind not in ("chain", "star"):
            raise UserError(f"ladder {ladder.name}: kind={ladder.kind!r}; allowed: chain, star")
        evaluation = values.get("evaluation") or {}  # read where rungs are registered with timm
        for key in evaluation if isinstance(evaluation, Mapping) else [evaluation]:
            if key not in ("recipe", "data"):
                raise unknown(f"key of evaluation of ladder {ladder.name}", key, ("recipe", "data"))
        if ladder.network not in SPECS:
            raise UserError(f"ladder {ladder.name}: {unknown('network', ladder.network, SPECS)}")
        names = [s.name for s in (ladder.base, *ladder.steps, *ladder.side)]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise UserError(f"ladder {ladder.name}: {', '.join(twice)} named twice")
        main = [ladder.base.name, *(s.name for s in ladder.steps)]
        for i, step in enumerate(ladder.steps):
            for name in step.requires:
                if name not in main[1 : i + 1]:
                    raise unknown(
                        f"earlier step that step {step.name} of {ladder.name} requires", name, main[1 : i + 1]
                    )
        for step in ladder.side:
            if step.after not in main:
                raise unknown(f"rung that side step {step.name} of {ladder.name} comes after", step.after, main)
        try:
            ladder.rungs, ladder.side_rungs  # noqa: B018  (validates every spec)
        except UserError as error:
            raise UserError(f"ladder {ladder.name}: {error}") from None
        return ladder


def _continued(values: Mapping[str, Any], after: tuple[str, ...]) -> Mapping[str, Any]:
    """A ladder whose base is another one's rung (`base: {from: LADDER, rung: NAME}`), written out in full.

    `after`: the ladders that led to this one.
    """
    base = values["base"]
    if "from" not in base:
        return values
    own = {key: value for key, value in base.items() if key not in ("from", "rung")}
    beside = Path(values[_FOLDER], f"{base['from']}.yaml") if values.get(_FOLDER) else None
    source = str(beside if beside is not None and beside.is_file() else base["from"])
    if source in after:
        raise UserError(f"base.from={base['from']} leads back to this ladder")
    other = load_ladder(source, (*after, source))
    rung = other.rung(base.get("rung"))
    if values.get("network", other.network) != other.network:
        raise UserError(f"base.from={other.name}: its network is {other.network}, not {values['network']}")
    spec = own.get("spec") or {}
    flat_keys = issubclass(spec_class(other.network), FactorySpec)
    change = written_over(rung.change, spec) if flat_keys else {**rung.change, **spec}
    recipe = {**rung.recipe, **(own.get("recipe") or {})}
    start = {"name": rung.name, "title": rung.title, **own, "spec": change, "recipe": recipe}
    return {"network": other.network, "image_size": other.image_size, **values, "base": start}


def _step(values: Mapping[str, Any], extra: set[str] | None = None) -> Step:
    allowed = {"name", "title", "group", "change", "recipe", "paper", "requires"} | (extra or set())
    for key in values:
        if key not in allowed:
            raise unknown("key of a step", key, sorted(allowed))
    name = "null" if values["name"] is None else str(values["name"])
    if _NOT_A_NAME.fullmatch(name):
        raise UserError(f"step {name!r}: a name must not be a number, null, true or false: rung={name} means another")
    return Step(
        name=name,
        title=str(values.get("title", name.replace("_", " "))),
        group=str(values.get("group", "")),
        change=dict(values.get("change") or {}),
        recipe=dict(values.get("recipe") or {}),
        paper=PaperRow(**(values.get("paper") or {})),
        after=values.get("after"),
        requires=tuple(str(name) for name in values.get("requires") or ()),
    )


def list_ladders() -> list[str]:
    """The names of the ladders that come with the project (`conf/ladder/*.yaml`)."""
    return sorted(path.stem for path in (conf_dir() / "ladder").glob("*.yaml"))


def placed(path: Path, values: Mapping[str, Any]) -> dict[str, str]:
    """Where a ladder file lies, if what it names is looked for beside it: other files than the project's own."""
    ours = path.resolve().parent == conf_dir() / "ladder" and values.get("network") != CallSpec.network
    return {} if ours else {_FOLDER: str(path.resolve().parent)}


def is_installed(name: str, values: object) -> bool:
    """Whether a ladder of this name comes with the project, and is what `values` say."""
    return name in list_ladders() and load_ladder(name).values == values


def load_ladder(name: str | Path, after: tuple[str, ...] = ()) -> Ladder:
    """A ladder by its name, or by the path of a YAML file (`after`: the files of those that go on from it).

    Raises UserError with the nearest names.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = conf_dir() / "ladder" / f"{name}.yaml"
        if str(name) not in list_ladders():
            raise unknown("ladder", name, list_ladders())
    try:
        values = read_yaml(path)
    except UserError as error:
        raise UserError(f"ladder file {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"ladder file {path}: must hold a mapping with name, network, base, steps")
    return Ladder.from_mapping({"name": path.stem, **values, **placed(path, values)}, after=after)
