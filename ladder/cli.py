"""Owns `ladder`: every command under one name, in the order of use. What one needs is imported with it."""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class, shell_complete

from ladder.common.command import run
from ladder.errors import UserError, run_cli, unknown
from ladder.paths import write_atomic

# The module of each command, whose `main` it is, and a few words. Modules are imported by name, when asked for:
# ladder/ knows nothing of analysis/, and `ladder --help` needs neither torch nor pandas.
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Before training": {
        "experiments": ("analysis.experiments", "the studies that come with it, and what each costs"),
        "cost": ("analysis.cost", "parameters and MACs of a ladder's rungs beside the paper's"),
        "signal": ("analysis.signal", "size of activations and gradients of a ladder's rungs before training"),
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
        "effects": ("analysis.effects", "what each step is worth, on average over contexts"),
        "agreement": ("analysis.agreement", "do steps gain what they gained in the paper, or in another study?"),
        "classes": ("analysis.classes", "top-1 of each class at each rung, and confusions of two rungs"),
        "images": ("analysis.images", "which images one rung wins and another loses, as a picture"),
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
SHELLS = {  # the completion script, and the file that a new shell reads
    "bash": ("~/.local/share/modernization-ladder/complete.bash", "~/.bashrc"),
    "zsh": ("~/.local/share/modernization-ladder/complete.zsh", "~/.zshrc"),
    "fish": ("~/.config/fish/completions/ladder.fish", "~/.config/fish/completions/ladder.fish"),
}
READ = {  # the line that it gets; fish looks into its folder by itself
    "bash": ". {}  # completion of ladder",
    "zsh": "(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}; . {}  # completion of ladder",
}
NO_SPACE = """
_ladder_no_space() {
    _ladder_completion "$@"
    [[ ${COMPREPLY[0]} == *[=./] ]] && compopt -o nospace
    return 0
}
complete -o nosort -F _ladder_no_space ladder
"""  # behind `recipe.` and `recipe.lr=` more is to come
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

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Hydra's groups, files and keys."""
        from ladder.runs.completion import items

        return items(ctx, None, incomplete)

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
        formatter.write(f"{self.help}\n\nUsage: ladder COMMAND [ARGUMENTS]...\n\n{START}\n")
        for heading, group in COMMANDS.items():
            formatter.write(f"\n{heading}\n")
            formatter.write("".join(f"  ladder {name:<13}{words}\n" for name, (_, words) in group.items()))
        click.Command.format_options(self, ctx, formatter)
        formatter.write("\n`ladder COMMAND --help` says more, with examples.\n")


@click.command(
    "ladder",
    cls=Ladder,
    help="Walk from one network to another one change at a time, and measure what each change is worth.",
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.option("--version", is_flag=True, help="Show the version and exit.")
@click.option(
    "--install-completion",
    is_flag=False,
    flag_value="yours",
    type=click.Choice(["yours", *SHELLS]),
    metavar="[SHELL]",
    help="Let the tab key complete commands, options and config keys in bash, zsh or fish.",
)
@click.pass_context
def _ladder(context: click.Context, version: bool, install_completion: str | None) -> None:
    if version:
        print(f"ladder {importlib.import_module('ladder').__version__}")
    elif install_completion:
        print(install(install_completion))
    elif context.invoked_subcommand is None:
        print(context.get_help())


def install(shell: str) -> str:
    """Write a shell's completion script, and the line that reads it into its start-up file. Raises UserError."""
    if shell == "yours":
        shell = Path(os.environ.get("SHELL", "")).name
    if shell not in SHELLS:
        raise unknown("shell", shell, SHELLS)
    script, startup = (Path(name).expanduser() for name in SHELLS[shell])
    kind = get_completion_class(shell)
    assert kind is not None
    line = READ.get(shell, "").format(shlex.quote(str(script)))
    try:
        script.parent.mkdir(parents=True, exist_ok=True)
        content = kind(_ladder, {}, "ladder", COMPLETION).source()
        write_atomic(script, content + NO_SPACE if shell == "bash" else content)
        if line and line not in (startup.read_text() if startup.exists() else ""):
            with startup.open("a") as file:
                file.write(f"\n{line}\n")
    except OSError as error:
        raise UserError(f"can't write {error.filename}: {error.strerror}") from None
    return f"{script} is written; each new {shell} reads it{f', as {startup} says' if line else ''}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the exit code. Raises UserError for a mistake."""
    if instruction := os.environ.get(COMPLETION):
        return shell_complete(_ladder, {}, "ladder", COMPLETION, instruction)
    return run(_ladder, "ladder", argv)


def script() -> None:
    """The console script."""
    run_cli(main)


if __name__ == "__main__":
    script()
