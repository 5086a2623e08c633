"""Owns the reference pages: every command, config key and column, read from the code that they describe.

`docs/build.py` puts them where a page says `<!-- made by: docs/reference.py PART -->`; a part is a name in `PARTS`.
What a value may be is asked of the code: a value that can't be is refused in words that name what can.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from ladder import cli
from ladder.bench import BenchConfig
from ladder.errors import UserError
from ladder.networks.rungs import list_ladders, load_ladder
from ladder.networks.spec import SPECS
from ladder.paths import conf_dir
from ladder.runs.config import TrainConfig

NEVER = ("no such value", -1, 10**9, 0.5, "", [], [-1.0, -1.0], None)  # each is refused by some key, in helpful words
WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", types.NoneType: "null", Any: "any"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; a bar within a cell stays one."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def comments(schema: type) -> dict[str, str]:
    """What stands behind each field of a dataclass in its source, or alone on the line before it."""
    found, before = {}, ""
    for line in inspect.getsource(schema).splitlines():
        field = re.match(r"    (\w+): .*?(?:  # (?P<words>.*))?$", line)
        if field:
            found[field[1]] = field["words"] or (before if ":" in before else "")  # a heading has no colon
        alone = re.match(r"    # (.*)$", line)
        before = alone[1] if alone else ""
    return found


def type_words(kind: Any) -> str:
    """A type as a person writes the value: "number or null", "list of numbers"."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(type_words(each) for each in typing.get_args(kind))
    if typing.get_origin(kind) in (list, tuple):
        return f"list of {type_words(typing.get_args(kind)[0])}s".replace("texts", "names")
    return WORDS.get(kind, "any")


def value_words(value: Any) -> str:
    """A default as YAML has it."""
    if value is dataclasses.MISSING or value == "???":
        return ""
    text = yaml.safe_dump(list(value) if isinstance(value, tuple) else value, default_flow_style=True, width=1000)
    return f"`{text.removesuffix(chr(10)).removesuffix('...').strip()}`"


def allowed(key: str, refuse: Callable[[Any], object]) -> str:
    """What the code says may stand for a key, when it is given what may not. `refuse` gets a value and raises."""
    for value in NEVER:
        try:
            refuse(value)
        except UserError as error:
            said = re.search(rf"\b{re.escape(key)}\b.*?(?:allowed(?: are)?:?|must be) (.+)", str(error))
            if said:
                return said[1].partition(": ")[0] if "such as" not in said[1] else said[1]
        except (TypeError, ValueError, AttributeError):
            continue
    return ""


def fields_of(
    schema: type, prefix: str, refuse: Callable[[str, Any], object] | None, without: Sequence[str] = ()
) -> Iterator[tuple[str, ...]]:
    """A row for each field."""
    said, hints = comments(schema), typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        if field.name in without:
            continue
        if field.name == "args":
            yield f"`{prefix}args.NAME`", "any", "", "", said[field.name]
            continue
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        key = f"{prefix}{field.name}"
        kind, words = type_words(hints[field.name]), said.get(field.name, "")
        asked = refuse is not None and field.name not in ("rung", "device") and not kind.startswith("true")
        may = allowed(key, functools.partial(refuse, field.name)) if refuse and asked else ""
        words = words.removeprefix(" | ".join(may.split(", "))).strip(" :;") if may else words
        yield f"`{key}`", kind, value_words(default), may, words


KEYS = ("key", "type", "default", "allowed", "what it is")


def config() -> str:
    """Every key of a run's config, by group."""
    hints = typing.get_type_hints(TrainConfig)
    groups = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind) and name != "spec"}
    root = fields_of(TrainConfig, "", resolved(""), without=("ladder", "spec", *groups))
    parts = ["## The run", table(KEYS, root)]
    for name, kind in groups.items():
        about = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
        refuse = checked(kind) if hasattr(kind, "check") else resolved(f"{name}.")
        parts += [f"## `{name}.`", about, table(KEYS, fields_of(kind, f"{name}.", refuse))]
    for network, spec in SPECS.items():
        about = " ".join((spec.__doc__ or "").split("\n\n")[0].split())
        others = [f.name for f in dataclasses.fields(spec) if f.name not in spec.field_names()]
        rows = fields_of(spec, "spec.", lambda name, value, spec=spec: spec().replace(**{name: value}), others)
        parts += [f"## `spec.` of a ladder with `network: {network}`", about, table(KEYS, rows)]
    for launcher in sorted(path.stem for path in (conf_dir() / "hydra" / "launcher").glob("*.yaml")):
        parts += [f"## `hydra.launcher.` with `hydra/launcher={launcher}`", *launcher_keys(launcher)]
    return "\n\n".join(parts)


def checked(schema: type) -> Callable[[str, Any], object]:
    """Refuses as the `check` of a schema does."""

    def refuse(name: str, value: Any) -> None:
        made: Any = schema(name="mine", source="digits")
        setattr(made, name, value)
        made.check()

    return refuse


def resolved(prefix: str) -> Callable[[str, Any], object]:
    """Refuses as a whole run does."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from ladder.runs.hydra import register_schema
    from ladder.runs.resolve import resolve

    register_schema()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train")
    chain = load_ladder("convnext_mini")

    def refuse(name: str, value: Any) -> None:
        mine = config.copy()
        OmegaConf.update(mine, f"{prefix}{name}", value)
        resolve(mine, chain)

    return refuse


def launcher_keys(name: str) -> list[str]:
    """What the file says of itself, and its keys with the comments behind them."""
    lines = (conf_dir() / "hydra" / "launcher" / f"{name}.yaml").read_text().splitlines()
    about = " ".join(line.removeprefix("# ") for line in lines if line.startswith("# "))
    found = (re.match(r"(\w+): *(.*?) *(?:# (.*))?$", line) for line in lines)
    rows = [(f"`{f[1]}`", f"`{f[2]}`", f[3] or "") for f in found if f and f[1] != "_target_"]
    return [about, table(("key", "default", "what it is"), rows)]


def choices() -> str:
    """What comes with it: ladders, recipes, data sets."""
    ladders = []
    for name in list_ladders():
        ladder = load_ladder(name)
        side = f" and {len(ladder.side_rungs)} side rungs" if ladder.side_rungs else ""
        ladders.append((f"`{name}`", ladder.title, ladder.kind, f"{len(ladder.rungs)}{side}", f"{ladder.image_size}"))
    parts = ["## Ladders: `ladder=`", table(("name", "title", "kind", "rungs", "px"), ladders)]
    for group, heading in (("recipe", "Recipes"), ("data", "Data sets"), ("design", "Designs")):
        rows = [(f"`{path.stem}`", first_sentence(path)) for path in sorted((conf_dir() / group).glob("*.yaml"))]
        parts += [f"## {heading}: `{group}=`", table(("name", "what it is"), rows)]
    return "\n\n".join(parts)


def first_sentence(path: Path) -> str:
    """Of the comment that a YAML file begins with."""
    lines = [line.removeprefix("#").strip() for line in path.read_text().splitlines() if line.startswith("#")]
    lines = [line for line in lines if not line.startswith("@package")]
    return re.split(r"(?<=[^.][.;]) ", " ".join(lines), maxsplit=1)[0].rstrip(".;")


def commands() -> str:
    """What each command prints when asked for help."""
    parts = []
    for heading, group in cli.COMMANDS.items():
        parts.append(f"## {heading}")
        for name, (module, _) in group.items():
            main = importlib.import_module(module).main
            if name == "train":
                text = importlib.import_module(module).help_text()
            else:  # at one width, whatever the terminal's
                text = main.make_context(f"ladder {name}", [], resilient_parsing=True, terminal_width=100).get_help()
            parts.append(f"### `ladder {name}`\n\n```text\n{text.strip()}\n```")
    return "\n\n".join(parts)


def bench() -> str:
    """The keys of the bench."""
    rows = fields_of(BenchConfig, "", None)
    return table(("key", "type", "default"), (row[:3] for row in rows))


def frames() -> str:
    """Every column of the two frames."""
    from analysis.read.columns import CURVE_KEYS, DTYPES, RESULT, STATUS
    from analysis.read.load import load
    from ladder.runs.folder import METRICS

    rows, told = [], set()
    for names, meaning in re.findall(r"^    \| ([a-z_0-9, ]+?) \| (.+) \|$", load.__doc__ or "", re.M):
        group = [name for name in names.split(", ") if name != "column"]
        each = meaning.split("; ") if meaning.count("; ") == len(group) - 1 else [meaning] * len(group)
        told |= set(group)
        for name, words in zip(group, each, strict=True):
            file, key = (
                ("result.json", RESULT[name][1]) if name in RESULT else ("status.json", STATUS.get(name, ("", ""))[1])
            )
            rows.append((f"`{name}`", DTYPES[name], f"`{file}: {key}`" if key else "", words))
    if missing := set(DTYPES) - told:
        raise UserError(f"the docstring of analysis.load says nothing of {', '.join(sorted(missing))}")
    curves = ", ".join(f"`{name}`" for name in (*CURVE_KEYS, *METRICS))
    return "\n\n".join([
        "## `analysis.load(study)`: a row a run", table(("column", "dtype", "from", "what it is"), rows),
        "## `analysis.load_curves(study)`: a row an epoch", f"Columns: {curves}.",
    ])  # fmt: skip


PARTS = {part.__name__: part for part in (commands, config, choices, bench, frames)}


def main(argv: Sequence[str]) -> int:
    """Print a part. Raises UserError for one that there isn't."""
    from ladder.errors import unknown

    if len(argv) != 1 or argv[0] not in PARTS:
        raise unknown("part", " ".join(argv), PARTS)
    print(PARTS[argv[0]]())
    return 0
