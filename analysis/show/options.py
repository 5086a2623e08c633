"""Owns the options that several commands share: which studies, which of their runs, where what they make goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from ladder.common.command import FILE
from ladder.errors import UserError

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_STUDY = "a folder of runs (runs/demo), a packed study, or wandb://ENTITY/PROJECT/GROUP"


def _folders(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="dir")]


def ladders(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What a shell is offered for the name of a ladder."""
    from ladder.networks.rungs import list_ladders

    return [CompletionItem(name) for name in list_ladders() if name.startswith(incomplete)]


def study() -> Decorator:
    """`STUDY`, one: `study: str`."""
    return click.argument("study", shell_complete=_folders, help=_STUDY)


def studies(required: bool = True) -> Decorator:
    """`STUDY...`, read as one: `study: tuple[str, ...]`."""
    about = f"{_STUDY}; several are read as one"
    return click.argument("study", nargs=-1, required=required, shell_complete=_folders, help=about)


def compare(made: str) -> Decorator:
    """`--compare KEY`, as often as wanted: `made` ("a table") for each value of a config key, or rows of spec.FIELD."""
    about = f"{made} for each value of a config key; of spec.FIELD: rows beside the plain rung"
    return click.option("--compare", "--by", "compare", multiple=True, metavar="KEY", help=about)


def interval() -> Decorator:
    """`--interval all|each`: `interval: str`, whether the intervals of changes hold at once or one by one."""
    about = "95% for all changes of a table at once, or for each by itself"
    return click.option("--interval", type=click.Choice(["all", "each"]), default="all", show_default=True, help=about)


def without_collapsed() -> Decorator:
    """`--without-collapsed`: `without_collapsed: bool`, whether effects leave out runs that did not learn."""
    return click.option("--without-collapsed", is_flag=True, help="effects leave out runs far below all others")


def noise() -> Decorator:
    """`--noise seeds|images|both`: `noise: str`, what the intervals of changes are for."""
    about = "what the intervals are for: other seeds, other test images (of the same runs), or both"
    kinds = click.Choice(["seeds", "images", "both"])
    return click.option("--noise", type=kinds, default="seeds", show_default=True, help=about)


def where(option: str = "--where", about: str = "only runs with this value") -> Decorator:
    """`--where KEY=VALUE`, as often as wanted: `where: dict[str, str]`."""
    return click.option(option, multiple=True, metavar="KEY=VALUE", callback=_pairs, help=about)


def output_format(*names: str, default: str | None = "text", about: str = "how it is written") -> Decorator:
    """`--format NAME`: `kind: str`, the first unless said otherwise."""
    return click.option("--format", "kind", type=click.Choice(names), default=default, show_default=True, help=about)


def out() -> Decorator:
    """`--out FILE`, for `analysis.show.files.deliver`: `out: Path | None`."""
    return click.option("--out", type=FILE, metavar="FILE", help="write to a file instead of the terminal")


def _pairs(context: click.Context, parameter: click.Parameter, given: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise UserError(f"{parameter.opts[0]} {item}: must be KEY=VALUE, such as recipe.lr=0.004")
        pairs[key.strip()] = value.strip()
    return pairs
