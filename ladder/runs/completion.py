"""Owns what a shell is offered for an override of a run: Hydra's groups, files and keys, and the names of rungs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from ladder.errors import UserError
from ladder.networks.rungs import load_ladder
from ladder.paths import conf_dir


def complete(words: Sequence[str], word: str) -> list[str]:
    """What may stand in place of `word` after the overrides `words`, each as a whole: `recipe=` has `recipe=digits`.

    Of the folder that `--config-dir` names, too.
    """
    more, words = _config_dir(words)
    if word.startswith("rung="):
        return [name for rung in _rungs(words, more) if (name := f"rung={rung}").startswith(word)]
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.core.plugins import Plugins
    from hydra.plugins.completion_plugin import DefaultCompletionPlugin

    from ladder.runs.hydra import register_schema

    Plugins.instance()  # they register their configs: launchers, sweepers
    register_schema()
    path = create_config_search_path(str(conf_dir()))
    if more is not None:
        path.append("command line", f"file://{more.resolve()}")
    found = DefaultCompletionPlugin(ConfigLoaderImpl(path))._query("train", " ".join([*words, word]))
    return [each for each in found if each.startswith(word)]


def _config_dir(words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The folder that `--config-dir DIR` or `--config-dir=DIR` names, and the other words."""
    found, rest, left = None, [], iter(words)
    for word in left:
        option, _, given = word.partition("=")
        if option == "--config-dir":
            found = given or next(left, "")
        else:
            rest.append(word)
    return Path(found) if found and Path(found).is_dir() else None, rest


def _rungs(words: Sequence[str], more: Path | None) -> list[str]:
    named = next((word.partition("=")[2] for word in reversed(words) if word.startswith("ladder=")), "convnext_mini")
    own = more / "ladder" / f"{named}.yaml" if more else None
    with contextlib.suppress(UserError):
        ladder = load_ladder(own if own and own.is_file() else named)
        return [rung.name for rung in (*ladder.rungs, *ladder.side_rungs)]
    return []


def items(context: click.Context, parameter: click.Parameter | None, incomplete: str) -> list[CompletionItem]:
    """`complete` for click: as `shell_complete` of an argument, or of a command that keeps its arguments as they are.

    bash takes `rung=ge` for three words and wants the last one alone back; other shells take it for one.
    """
    given = context.args if parameter is None else list(context.params.get(str(parameter.name)) or ())
    words = re.sub(" = ?", "=", " ".join(given)).split()
    half = bool(words) and words[-1].partition("=")[2] == "" and not words[-1].startswith("-")
    half = half and not (len(words) > 1 and words[-2].startswith("--"))  # the value of an option
    before = f"{words.pop().removesuffix('=')}=" if half else ""
    try:
        found = complete(words, before + incomplete)
    except Exception:  # a shell can do nothing with it, and the command itself will tell
        return []
    return [CompletionItem(each.removeprefix(before)) for each in found]
