"""Owns what a command is: click's options on a function, a mistake told in one line.

    @command("table", examples="  ladder table runs/demo")
    @click.argument("study", help="a folder of runs")
    @click.option("--out", type=FILE, help="write to a file instead of the terminal")
    def main(study: str, out: Path | None) -> None:
        ...

`ladder table` and `python -m analysis.table` are the same call. `main(["runs/demo"])` runs it from Python, with
UserError for a mistake; `run_cli(main)` from a shell. `ladder/cli.py` lists all commands.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from ladder.errors import UserError, one_line, unknown

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


class Command(click.Command):
    """A click command that is called like a function: with its arguments, for its exit code."""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Run with `argv`, by default the process's own; the exit code. Raises UserError for a mistake."""
        return run(self, f"ladder {self.name}", argv)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples as they are written: click would fill their lines."""
        if self.epilog:
            formatter.write_paragraph()
            formatter.write(self.epilog.strip("\n") + "\n")


def command(name: str, *, examples: str = "", **settings: Any) -> Callable[[Callable[..., int | None]], Command]:
    """A function and its click options as `ladder NAME`; the docstring is its help, the examples stand below."""
    settings = {"context_settings": {"help_option_names": ["-h", "--help"], "max_content_width": 100}} | settings
    return click.command(name, cls=Command, epilog=examples, **settings)


def run(group_or_command: click.Command, name: str, argv: Sequence[str] | None = None) -> int:
    """Parse and call; the exit code. Raises UserError where click would print its usage."""
    try:
        with group_or_command.make_context(name, list(sys.argv[1:] if argv is None else argv)) as context:
            return int(group_or_command.invoke(context) or 0)
    except click.exceptions.Exit as ended:  # --help
        return ended.exit_code
    except click.ClickException as error:
        raise _told(error) from None


def _told(error: click.ClickException) -> UserError:
    """Click's error in one line that names what is allowed."""
    context = getattr(error, "ctx", None)
    if isinstance(error, click.NoSuchOption) and context is not None:
        options = [name for p in context.command.get_params(context) for name in p.opts if name.startswith("--")]
        return unknown("option", error.option_name, options)
    if isinstance(error, click.MissingParameter) and error.param is not None:
        help_text = getattr(error.param, "help", None)
        name = error.param.opts[0] if isinstance(error.param, click.Option) else error.param.human_readable_name
        return UserError(f"missing {name}{f': {help_text}' if help_text else ''}")
    text = one_line(UserError(error.format_message())).removeprefix("Invalid value for ").rstrip(".")
    return UserError(
        f"{text}; see {context.command_path} --help" if type(error) is click.UsageError and context else text
    )
