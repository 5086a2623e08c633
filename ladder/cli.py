"""Owns `ladder`: every command under one name, in the order of use. What one needs is imported with it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from ladder.command import run
from ladder.errors import run_cli, unknown

# The module of each command, whose `main` it is, and a few words. Modules are imported by name, when asked for:
# ladder/ knows nothing of analysis/, and `ladder --help` needs neither torch nor pandas.
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Before training": {
        "experiments": ("analysis.experiments", "the studies that come with it, and what each costs"),
        "cost": ("analysis.cost", "parameters and MACs of a ladder's rungs beside the paper's"),
        "preview": ("ladder.data.preview", "a training batch as the network sees it, as a picture"),
        "plan": ("analysis.plan", "what a sweep will cost: steps, GPU-hours, disk"),
        "bench": ("ladder.bench", "images/s and memory of rungs and timm models on this machine"),
    },
    "Training": {
        "train": ("ladder.train", "one run, or with -m or experiment= a sweep; Hydra's command line"),
        "status": ("analysis.status", "what of a study is done, running, failed, pending"),
    },
    "Results": {
        "table": ("analysis.table", "accuracy, MACs and the change of every rung"),
        "figures": ("analysis.figures", "charts of a study or of published numbers: SVG, PDF, PNG"),
        "report": ("analysis.report", "one HTML page about a study"),
        "agreement": ("analysis.agreement", "do steps gain what they gained in the paper, or in another study?"),
        "tuning": ("analysis.tuning", "a search over settings: which did best"),
    },
    "Sharing": {
        "export": ("analysis.export", "a study as three small files that a repository can hold"),
        "publish": ("analysis.publish", "tables, charts and report as a run in W&B"),
    },
    "This machine": {
        "doctor": ("ladder.doctor", "what a bug report needs; tries one training step"),
    },
}
MODULES = {name: module for group in COMMANDS.values() for name, (module, _) in group.items()}

COMPLETION = "_LADDER_COMPLETE"  # the variable by which a shell asks: click's name for it
START = """\
Start with
  ladder train experiment=demo      train every rung of a small ladder: 39 runs, some minutes
  ladder table runs/demo            what each change was worth
  ladder figures runs/demo          the same as charts"""


class Train(click.Command):
    """`ladder train`: everything behind it is Hydra's, unchanged."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep all of them, also -h, -- and what looks like an option."""
        ctx.args = list(args)
        return []

    def invoke(self, ctx: click.Context) -> Any:
        """As `python -m ladder.train` with these arguments: Hydra reads the process's own."""
        sys.argv = [sys.argv[0], *ctx.args]
        return importlib.import_module(MODULES["train"]).main()


class Ladder(click.Group):
    """The commands of `COMMANDS`, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of use."""
        return list(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one. None where there is none of that name."""
        if cmd_name == "train":
            return Train("train")
        if cmd_name not in MODULES:
            return None
        found = importlib.import_module(MODULES[cmd_name]).main
        assert isinstance(found, click.Command)
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Raises UserError for a name that isn't one."""
        if not args[0].startswith("-") and args[0] not in MODULES:
            raise unknown("command", args[0], MODULES)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The way: three lines to start, then the commands."""
        formatter.write(f"{self.help}\n\n{START}\n")
        for heading, group in COMMANDS.items():
            formatter.write(f"\n{heading}\n")
            formatter.write("".join(f"  ladder {name:<13}{words}\n" for name, (_, words) in group.items()))
        click.Command.format_options(self, ctx, formatter)
        formatter.write("\n`ladder COMMAND --help` says more, with examples.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the exit code. Raises UserError for a mistake."""
    from click.shell_completion import shell_complete

    group = Ladder(
        "ladder",
        help="Walk from one network to another one change at a time, and measure what each change is worth.",
        context_settings={"help_option_names": ["-h", "--help"]},
        invoke_without_command=True,
        callback=_without_command,
    )
    if instruction := os.environ.get(COMPLETION):
        return shell_complete(group, {}, "ladder", COMPLETION, instruction)
    return run(group, "ladder", argv)


@click.pass_context
def _without_command(context: click.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def script() -> None:
    """The console script."""
    run_cli(main)


if __name__ == "__main__":
    script()
