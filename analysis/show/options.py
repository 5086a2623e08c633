"""Owns the options that several commands share: which studies, which of their runs, where what they make goes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ladder.errors import UserError

STUDY_HELP = "a folder of runs (runs/demo), a packed study, or wandb://ENTITY/PROJECT/GROUP; several are read as one"


def add_compare(parser: argparse.ArgumentParser, made: str) -> None:
    """`--compare KEY`: `made` ("a table") for each value of a config key."""
    parser.add_argument(
        "--compare", "--by", action="append", default=[], metavar="KEY", help=f"{made} for each value of a config key"
    )


def add_where(
    parser: argparse.ArgumentParser, option: str = "--where", what: str = "only runs with this value"
) -> None:
    """`--where KEY=VALUE`, as often as wanted; `pairs(args.where)` is what was asked."""
    parser.add_argument(option, action="append", default=[], metavar="KEY=VALUE", help=what)


def add_out(parser: argparse.ArgumentParser) -> None:
    """`--out FILE`, for `analysis.show.files.deliver`."""
    parser.add_argument("--out", type=Path, metavar="FILE", help="write to a file instead of the terminal")


def pairs(given: Sequence[str], option: str = "--where") -> dict[str, str]:
    """KEY=VALUE options as a mapping. Raises UserError where one has no `=`."""
    out: dict[str, str] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise UserError(f"{option} {item}: must be KEY=VALUE, such as recipe.lr=0.004")
        out[key.strip()] = value.strip()
    return out
