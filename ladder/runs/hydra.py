"""Owns what Hydra is told of our config, and how its errors read: one line, the allowed names in it."""

from __future__ import annotations

import re
import sys
import typing
from typing import Any

import yaml

from ladder.errors import UserError, one_line, unknown
from ladder.paths import conf_dir
from ladder.runs.config import TrainConfig


def register_schema() -> None:
    """Tell Hydra the types of our keys."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=TrainConfig)


def explain(error: Exception) -> UserError:
    """Hydra's and OmegaConf's many-line errors as one line of ours, the allowed names in it."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None:
        if isinstance(cause, UserError):
            return cause
        chain.append(cause)
    text = "\n".join(str(e) for e in chain)
    if missing := re.search(
        r"(?:Could not find|Cannot find primary config|In '[^']*': Could not find) '([^']+)'", text
    ):
        group, _, name = missing[1].rpartition("/")
        options = re.findall(r"^\t(?!provider=)(\S+)", text, re.M)  # the search path is listed alike
        return unknown(group or "config", name, options)
    if key := re.search(r"Key '([^']+)' (?:is )?not in", text):
        full = re.search(r"full_key: (\S+)", text)
        parent = full[1].rpartition(".")[0] if full else ""
        allowed = _launcher_keys() if parent == "hydra.launcher" else keys_of(TrainConfig, parent)
        return unknown(f"config key{f' of {parent}' if parent else ''}", key[1], allowed)
    if group_error := re.search(r"Could not override '([^']+)'", text):
        return unknown("config group", group_error[1], ["ladder", "recipe", "data", "experiment"])
    if value := re.search(r"Value '([^']*)'.*?(?:could not be converted to|is not a valid) (\w+)", text, re.S):
        full = re.search(r"full_key: (\S+)", text)
        return UserError(f"{full[1] if full else 'config'}={value[1]}: must be of type {value[2]}")
    return UserError(one_line(error))


def _launcher_keys() -> list[str]:
    asked = [text.partition("=")[2] for text in sys.argv if text.startswith("hydra/launcher=")]
    path = conf_dir() / "hydra" / "launcher" / f"{(asked or ['local'])[-1]}.yaml"
    return [key for key in yaml.safe_load(path.read_text()) if key != "_target_"] if path.is_file() else []


def keys_of(schema: type, dotted: str) -> list[str]:
    kind: Any = schema
    for part in filter(None, dotted.split(".")):
        kind = typing.get_type_hints(kind).get(part)
        if not hasattr(kind, "__dataclass_fields__"):
            return []
    return list(kind.__dataclass_fields__)
