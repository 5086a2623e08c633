"""Owns what a shell is offered for an override of a run: Hydra's groups, files and keys, and the names of rungs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from ladder.errors import UserError
from ladder.networks.rungs import load_ladder
from ladder.paths import conf_dir


def complete(words: Sequence[str], word: str) -> list[str]:
    """What may stand in place of `word` after the overrides `words`, each as a whole: `recipe=` has `recipe=digits`."""
    if word.startswith("rung="):
        return [name for rung in _rungs(words) if (name := f"rung={rung}").startswith(word)]
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.plugins.completion_plugin import DefaultCompletionPlugin

    from ladder.runs.hydra import register_schema

    register_schema()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        found = DefaultCompletionPlugin(hydra.config_loader)._query("train", " ".join([*words, word]))
    return [each for each in found if each.startswith(word)]


def _rungs(words: Sequence[str]) -> list[str]:
    named = [word.partition("=")[2] for word in words if word.startswith("ladder=")]
    with contextlib.suppress(UserError):
        ladder = load_ladder(named[-1] if named else "convnext_mini")
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
