"""Owns what the documents show of data: tables and pictures, made by the commands that stand beside them.

    <!-- made by: ladder cost convnext_t --format md -->                   what it prints stands from here ...
    <!-- end -->                                                          ... to here
    <!-- drawn by: ladder figures runs/published/demo --only roadmap --formats png --out docs/demo -->

`docs/reference.py PART` in place of a command is a part of the reference, read from the code.
`python docs/build.py` makes them all again, or those of one page (`docs/cifar10.md`); with `--check` it changes nothing
and fails where one is out of date.
Commands read what the repository holds and nothing else. Tables are compared to the letter, pictures by what they
show (`analysis.show.charts.style.fingerprint`): no two releases of matplotlib draw the same pixels.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
COMMAND = r"(?P<command>(?:ladder|docs/reference\.py|python -m) [^\n]+?)"
MADE = re.compile(rf"(<!-- made by: {COMMAND} -->\n)(?P<body>.*?)(<!-- end -->)", re.S)
DRAWS = r"(?:(?:ladder |python -m analysis\.)figures|python -m benchmarks\.\w+)"
DRAWN = re.compile(rf"<!-- drawn by: (?P<command>{DRAWS} [^\n]*?--out [^\n]+?) -->")


def pages() -> list[str]:
    """Every page, by its path in the repository."""
    return ["README.md", "CONTRIBUTING.md", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md"))]


def run(command: str) -> str:
    """What `COMMAND` prints. Raises UserError as it does."""
    program, *args = shlex.split(command)
    if program == "python":
        program, args = args[1], args[2:]
    module = {"ladder": "ladder.cli", "docs/reference.py": "reference"}.get(program, program)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        importlib.import_module(module).main(args)
    return output.getvalue()


SHOWN = re.compile(r"```(?P<kind>python|yaml)\n# (?P<file>\S+), whole\n.*?^```$", re.S | re.M)


def with_files(text: str) -> str:
    """A page with the files that it shows whole, as they are now: blocks that begin with `# FILE, whole`."""

    def shown(found: re.Match[str]) -> str:
        content = (ROOT / found["file"]).read_text(encoding="utf-8").rstrip()
        return f"```{found['kind']}\n# {found['file']}, whole\n{content}\n```"

    return SHOWN.sub(shown, text)


def with_tables(text: str) -> str:
    """A page with what its commands print now."""

    def made(found: re.Match[str]) -> str:
        return f"{found[1]}\n{run(found['command']).strip()}\n\n{found[4]}"

    return MADE.sub(made, text)


def stale_pictures(page: str, text: str, replace: bool = False) -> Iterator[str]:
    """A line for each picture of a page that does not show what its command draws now; `replace` puts it right.

    A picture that shows the same stays as it is, whatever its pixels: another release would change each of them.
    """
    for found in DRAWN.finditer(text):
        command = found["command"]
        folder = Path(shlex.split(command)[shlex.split(command).index("--out") + 1])
        with tempfile.TemporaryDirectory() as temporary:
            run(f"{command} --out {shlex.quote(temporary)}")
            for drawn in sorted(Path(temporary).iterdir()):
                kept = folder / drawn.name
                link = os.path.relpath(kept, Path(page).parent)  # as a reader's viewer finds it
                if f"]({link})" not in text:
                    yield f"{kept} is drawn, but the page does not show it"
                if kept.is_file() and shown(kept) == shown(drawn):
                    continue
                yield f"{kept} is not what `{command}` draws" if kept.is_file() else f"{kept} is missing"
                if replace:
                    folder.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(drawn, kept)


def shown(picture: Path) -> str | None:
    """The fingerprint in a PNG of `analysis.figures`; None where there is none."""
    from PIL import Image

    with Image.open(picture) as image:
        image.load()
        found = getattr(image, "text", {}).get("Fingerprint")
    return None if found is None else str(found)


def build(names: list[str] | None = None) -> list[str]:
    """Make what is out of date on these pages, or on all again; a line for each."""
    changed = []
    for name in names or pages():
        before = (ROOT / name).read_text(encoding="utf-8")
        after = with_files(with_tables(before))
        if after != before:
            (ROOT / name).write_text(after, encoding="utf-8")
            changed.append(f"{name}: its tables")
        changed += [f"{name}: {line}" for line in stale_pictures(name, after, replace=True)]
    return changed


def check(names: list[str] | None = None) -> list[str]:
    """A line for everything on these pages, or on all that is out of date."""
    problems = []
    for name in names or pages():
        text = (ROOT / name).read_text(encoding="utf-8")
        for word, pattern in (("made by:", MADE), ("drawn by:", DRAWN)):
            if text.count(f"<!-- {word}") != len(pattern.findall(text)):
                problems.append(f"{name}: a `{word}` comment is not written as docs/build.py wants it")
        for found in MADE.finditer(text):
            if found[0] != with_tables(found[0]):
                problems.append(f"{name}: the table of `{found['command']}` is not what it prints now")
        if with_files(text) != text:
            problems.append(f"{name}: a file that it shows whole is another one now")
        problems += [f"{name}: {line}" for line in stale_pictures(name, text)]
    return problems


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python docs/build.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, fail where something is out of date")
    parser.add_argument("page", nargs="*", help="such as docs/cifar10.md; every page if none is named")
    args = parser.parse_args()
    if unknown := set(args.page) - set(pages()):
        parser.error(f"no page {', '.join(sorted(unknown))}: there are {', '.join(pages())}")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[name]  # the defaults of a run's config are W&B's environment
    os.chdir(ROOT)  # the commands' paths are those of the repository
    if not args.check:
        print("\n".join(f"made again: {line}" for line in build(args.page)) or "all was current")
        return 0
    problems = check(args.page)
    for line in problems:
        print(line, file=sys.stderr)
    print("out of date: run make docs" if problems else "tables and pictures are current")
    return 1 if problems else 0


if __name__ == "__main__":
    from ladder.errors import run_cli

    run_cli(main)
