"""Owns what Hydra is told of our config, and how its errors read: one line that names the cause and what is allowed."""

from __future__ import annotations

import difflib
import re
import shlex
import sys
import traceback
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ladder.errors import OURS, UserError, one_line, unknown
from ladder.networks.rungs import placed
from ladder.paths import conf_dir
from ladder.runs.config import TrainConfig
from ladder.common.yaml_files import read_yaml

_THEIRS = ("hydra", "omegaconf", "antlr4", "yaml")  # what reads the user's config, and may refuse it with any error


def register_schema() -> None:
    """Tell Hydra the types of our keys, and how to read files."""
    from hydra._internal.core_plugins import file_config_source
    from hydra._internal.sources_registry import SourcesRegistry
    from hydra.core.config_store import ConfigStore
    from hydra.plugins.config_source import ConfigResult
    from omegaconf import OmegaConf
    from omegaconf._utils import get_yaml_loader

    class FileConfigSource(file_config_source.FileConfigSource):  # of this name: Hydra takes it for its own
        """Hydra's files, read by us: bounded, and a mistake told with its place."""

        def load_config(self, config_path: str) -> ConfigResult:
            path = Path(self.path, self._normalize_file_name(config_path))
            shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
            values = read_yaml(shown, get_yaml_loader())
            if values is not None and not isinstance(values, dict):
                raise UserError(f"{shown}: must hold keys and values, not {type(values).__name__}")
            if values and path.parent == Path(self.path, "ladder"):
                values = {"name": path.stem, **values, **placed(path, values)}
            with open(path, encoding="utf-8") as file:
                header = self._get_header_dict(file.read(512))
            config = OmegaConf.create(values or {})
            return ConfigResult(config=config, path=f"file://{self.path}", provider=self.provider, header=header)

    SourcesRegistry.instance().types["file"] = FileConfigSource
    ConfigStore.instance().store(name="schema", node=TrainConfig)


@contextmanager
def explained(overrides: Sequence[str]) -> Iterator[None]:
    """Within the block Hydra's refusals of a config made of `overrides` become a UserError; bugs of ours stay."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        mistake = explain(error, overrides)
        if mistake is None:
            raise
        raise mistake from error


def explain(error: Exception, overrides: Sequence[str] = ()) -> UserError | None:
    """What Hydra, OmegaConf or a plugin says on many lines, as one line of ours; None where it isn't theirs to say."""
    from hydra.errors import HydraException, MissingConfigException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException

    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    for link in chain:
        if isinstance(link, UserError):
            return link
    for link in chain:
        if isinstance(link, MissingConfigException):
            return _missing(str(link))
        if isinstance(link, OverrideParseException):
            return _unreadable(link.override, str(link))
    for link in chain:
        if isinstance(link, OmegaConfBaseException):
            return of_omegaconf(link)
        # a file of the user's: Hydra tells of OmegaConf's error in its own, but doesn't name it as the cause
        if (file := re.match(r"In '([^']+)': \w+ raised while composing", str(link))) and link.__context__:
            if isinstance(link.__context__, OmegaConfBaseException):
                return UserError(f"{file[1]}.yaml: {of_omegaconf(link.__context__)}")
    if not isinstance(error, HydraException) and not _raised_by_hydra(error):
        return None
    for override in overrides:
        if (odd := _odd_group(override) or _odd_number(override)) is not None:
            return odd
    text = str(error)
    if gone := re.search(r"Could not delete (?:from config\. (?:The value of )?)?'([^']+)'", text):
        return UserError(f"~{gone[1]}: {_STAYS}")
    if group := re.search(r"Could not override '([^']+)'", text):
        return unknown("config group", group[1], groups())
    if isinstance(error, HydraException | ValueError) and text:
        return UserError(one_line(re.sub(r"\nSee https://\S+ for details|\n?full_key: \S+", "", text)))
    if isinstance(error, RecursionError):
        return UserError("the config is nested too deep")
    culprits = f" of {' '.join(overrides)}" if overrides else ""
    return UserError(one_line(f"Hydra can't make a config{culprits}: {type(error).__name__}: {error}"))


def _raised_by_hydra(error: BaseException) -> bool:
    """Whether Hydra refused, not code of ours that it called."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in OURS or package in _THEIRS:
            return package in _THEIRS
    return False


# --- a config or a key that isn't there -------------------------------------------------------------------------------


def groups() -> list[str]:
    """The config groups of a run: the folders of conf/."""
    return sorted(path.name for path in conf_dir().iterdir() if path.is_dir() and path.name != "hydra")


def _missing(text: str) -> UserError:
    found = re.search(r"(?:Could not (?:find|load)|Cannot find primary config) '([^']+)'", text)
    if not found:
        return UserError(one_line(text.partition("Config search path")[0]))
    group, _, name = found[1].rpartition("/")
    options = re.findall(r"^\t(?!provider=)(\S+)", text, re.M)  # the search path is listed alike
    return unknown(group or "config", name, options or _files(group))


def _files(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def _odd_group(override: str) -> UserError | None:
    """What is wrong with an override of a config group that is no name of a file: recipe=null, data=1.5."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(override)
    except (HydraException, ValueError, TypeError):
        return None
    group = parsed.key_or_group
    if not group or not (conf_dir() / group).is_dir():
        return None
    if parsed.is_sweep_override() or parsed.is_delete():
        return None
    value = parsed.value()
    if isinstance(value, str) or (isinstance(value, list) and all(isinstance(v, str) for v in value)):
        return None
    return UserError(f"{override}: must be the name of a file; allowed: {', '.join(_files(group)) or 'none'}")


def _odd_number(override: str) -> UserError | None:
    """What is wrong with an override of more digits than any number has."""
    if (digits := re.search(r"[\d_]{50,}", override)) is None:
        return None
    return UserError(f"{override[: digits.start() + 10]}...: a number of {len(digits[0]):,} digits; allowed: 50")


def _unknown_key(dotted: str, key: object) -> UserError:
    parent = dotted.rpartition(".")[0] if "." in dotted else ""
    if parent in ("hydra.launcher", "hydra.sweeper"):
        kind, allowed = _plugin_keys(parent.partition(".")[2])
        what = f"setting of hydra/{parent.partition('.')[2]}={kind}"
        return unknown(what, key, allowed) if allowed else UserError(f"hydra/{parent[6:]}={kind} has no settings")
    allowed = keys_of(TrainConfig, parent)
    name = str(key)
    if not parent and not difflib.get_close_matches(name, allowed, n=1, cutoff=0.75):
        deep = {full: full.rpartition(".")[2] for full in all_keys() if "." in full}
        near = difflib.get_close_matches(name, [*deep.values()], n=3, cutoff=0.75)
        same = [full for full, last in deep.items() if last == (near[0] if near else None)]
        if same:
            return UserError(f"unknown config key {name!r}; did you mean {' or '.join(same)}?")
        allowed = [*allowed, *(g for g in groups() if g not in allowed)]
    return unknown(f"config key{f' of {parent}' if parent else ''}", key, allowed)


def _plugin_keys(kind: str) -> tuple[str, list[str]]:
    """Which launcher or sweeper was asked for, and the settings that it has."""
    from hydra.core.config_store import ConfigStore

    default = {"launcher": "local", "sweeper": "study"}[kind]
    asked = [text.partition("=")[2] for text in sys.argv if text.startswith(f"hydra/{kind}=")]
    name = (asked or [default])[-1]
    path = conf_dir() / "hydra" / kind / f"{name}.yaml"
    if path.is_file():
        values = read_yaml(path)
    else:
        stored = ConfigStore.instance().repo.get("hydra", {}).get(kind, {}).get(f"{name}.yaml")
        values = getattr(stored, "node", None) or {}
    return name, [str(key) for key in values if not str(key).startswith("_")]


def check_experiments(overrides: Iterable[Any]) -> None:
    """Raise UserError for several experiments in one config: Hydra would make one of them that is neither."""
    for override in overrides:
        value = override.value()
        if override.key_or_group == "experiment" and isinstance(value, list) and len(value) > 1:
            names = ",".join(map(str, value))
            raise UserError(f"experiment=[{names}] would blend them into one; -m experiment={names} runs each in turn")


def keys_of(schema: type, dotted: str) -> list[str]:
    """The keys below a dotted key of a schema; none where it has none."""
    kind = _type_at(schema, dotted)
    return list(kind.__dataclass_fields__) if hasattr(kind, "__dataclass_fields__") else []


def all_keys() -> list[str]:
    """Every key of a run's config, dotted."""
    return [
        full
        for key in TrainConfig.__dataclass_fields__
        for full in (key, *(f"{key}.{below}" for below in keys_of(TrainConfig, key)))
    ]


def _type_at(schema: type, dotted: str) -> Any:
    kind: Any = schema
    for part in filter(None, dotted.split(".")):
        if not hasattr(kind, "__dataclass_fields__"):
            return None
        kind = typing.get_type_hints(kind).get(part)
    return kind


# --- a value that isn't of its key's type -----------------------------------------------------------------------------


_STAYS = "a key can't be taken out of the config; give it another value"


def of_omegaconf(error: Any, schema: type = TrainConfig) -> UserError:
    """OmegaConf's refusal of a value of `schema`, in words of its types."""
    from omegaconf import errors

    key = str(error.full_key or error.key or "")
    says = one_line(str(error).partition("\n")[0])
    if isinstance(error, errors.ConfigAttributeError | errors.ConfigKeyError):
        return _unknown_key(key, error.key)
    if isinstance(error, errors.MissingMandatoryValue):
        return UserError(f"{key} is not set: give {key}=...")
    if "does not support deletion" in says:
        return UserError(f"~{key}: {_STAYS}")
    if isinstance(error, errors.InterpolationResolutionError):
        return UserError(f"{key}: {says}" if key else says)
    kind, whole = _type_at(schema, key.partition("[")[0]), True
    if key.endswith("]") and typing.get_args(kind):
        kind, whole = typing.get_args(kind)[0], False  # of one place in a list
    wanted = _in_words(kind)
    if wanted is None:
        return UserError(f"{key}: {says}" if key else says)
    if error.value is None and "is not Optional" not in says:
        return UserError(f"{key}: must be {wanted}")
    value = _shown(error.value)
    item = str if "names" in wanted else (int, float)
    listed = whole and wanted.startswith("a list") and isinstance(error.value, item)
    return UserError(f"{key}={value}: must be {wanted}{f': {key}=[{value}]' if listed else ''}")


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    text = one_line(str(value)) if str(value) else "''"
    return text if len(text) <= 80 else f"{text[:70]}..."


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_MANY = {int: "whole numbers", float: "numbers", bool: "true and false", str: "names"}


def _in_words(kind: Any) -> str | None:
    """A type of the schema as a person calls it; None where it may be anything, or there is no such key."""
    if kind is None or kind is Any:
        return None
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        inner = [_in_words(k) for k in typing.get_args(kind) if k is not types.NoneType]
        return f"{inner[0]}, or null" if inner and inner[0] else None
    if typing.get_origin(kind) is list:
        return f"a list of {_MANY[typing.get_args(kind)[0]]}"
    if hasattr(kind, "__dataclass_fields__"):
        return "keys and values"
    return _WORDS.get(kind)


# --- what Hydra's grammar can't read ----------------------------------------------------------------------------------


def _unreadable(override: str, says: str) -> UserError:
    """Why an override can't be read, and how to write it where its value was meant as text."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    says = re.sub(r"\nSee https://\S+ for details", "", says)
    says = says.removeprefix(f"Error parsing override '{override}'\n")
    key, equals, value = override.partition("=")
    shown = one_line(override)
    shown = shown if len(shown) <= 120 else f"{shown[:110]}..."
    if not equals:
        return UserError(f"{shown!r}: must be KEY=VALUE; see --help")
    parser = OverridesParser.create()

    def reads(text: str) -> bool:
        try:
            parser.parse_override(text)
        except (HydraException, ValueError, TypeError):
            return False
        return True

    if not reads(f"{key}=1"):
        return UserError(f"{shown!r}: {one_line(key) or 'nothing'!r} can't be a key; see --help for those there are")
    inner = value.replace('"', '\\"')
    quoted = f'{key}="{inner}"'
    if "while evaluating" in says:
        says = re.sub(r"^.*?while evaluating '.*?': ", "", says, flags=re.S)
        return UserError(f"{shown}: {one_line(says)}")
    if any(value.count(opens) != value.count(shuts) for opens, shuts in ("()", "[]", "{}")):
        says = "its brackets don't match"
    else:
        says = "brackets, quotes, commas and letters beyond ASCII stand for themselves only within quotes"
    if re.match(r"\w+\(", value) or len(value) > 80 or not reads(quoted):
        return UserError(f"{shown}: {says}")
    return UserError(f"{shown}: {says}; as text: {shlex.quote(quoted)}")
