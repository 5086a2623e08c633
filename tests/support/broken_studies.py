"""Studies broken in ways that disks, editors, other programs and strangers break them, and what commands make of one.

`Breaker` draws them from one seeded generator; `Trial` runs a command in this process over one and judges how it ended.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import io
import json
import os
import random
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

RECORDS = ("status.json", "result.json", "config.yaml")
NAMES = (
    "\x1b[31mred\x1b[0m",
    "=HYPERLINK('http://x')",
    "@SUM(A1)",
    "-1+1",
    "a|b",
    "<img src=x onerror=y>",
    "[x](javascript:y)",
    "# heading",
    "```",
    "$\\frac{1}$",
    "\\input{/etc/passwd}",
    "two\nlines",
    "a,b",
    'quo"te',
    "\u202edrawkcab",
    "\ud800",
    "e\u0301 α β → × … 漢字",
    "\x00",
    "null",
    "NA",
    "a" * 80,
    "w" * 3000,
    "",
    " ",
    "..",
    "/etc/passwd",
)
NUMBERS = (0, -1, 1, 2, 0.5, -0.0, 1e-320, 1e308, -1e308, 10**18, 2**31, 2**63, -(2**63) - 1, 10**400, 1e15)
FLOATS = (float("nan"), float("inf"), float("-inf"))
DEEP = 200_000


class Hung(BaseException):
    """A command that took too long."""


def odd(random: random.Random) -> Any:
    """A value that some field somewhere does not expect."""
    return random.choice(
        (
            lambda: random.choice(NAMES),
            lambda: random.choice(NUMBERS),
            lambda: random.choice(FLOATS),
            lambda: None,
            lambda: random.choice((True, False)),
            lambda: [],
            lambda: {},
            lambda: [random.choice((*NAMES, *NUMBERS)) for _ in range(3)],
            lambda: {random.choice(NAMES): random.choice((*NAMES, *NUMBERS))},
            lambda: [[[[]]]],
            lambda: {"a": {"b": [None, {"c": float("nan")}]}},
            lambda: ["a"] * 5000,
        )
    )()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all parts of nested mappings and lists."""
    if path:
        yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from places(inner, (*path, key))


class Breaker:
    """Draws broken studies: copies of `base`, a folder of run folders, and of `packed`, the same packed.

    `unreadable` holds the files that can't be opened (rights do not bind root): see `refusing`.
    """

    def __init__(self, seed: int, base: Path, packed: Path, place: Path) -> None:
        self.random = random.Random(seed)
        self.base, self.packed = base, packed
        self.place = place  # of one state: its study, what lies outside, where output may go
        self.unreadable: set[str] = set()
        self.said: list[str] = []  # what was done to the study

    @property
    def study(self) -> Path:
        """The study of the present state."""
        return self.place / "runs" / "tiny"

    @property
    def outside(self) -> Path:
        """What lies outside the study, behind its links."""
        return self.place / "outside"

    def next(self) -> str:
        """Make the next state in place of the present one; what was done, in words."""
        self.unreadable.clear()
        self.said = []
        remove(self.place)
        self.outside.mkdir(parents=True)
        for name in ("file", "report.html", "roadmap.svg"):
            (self.outside / name).write_text("precious")
        (self.outside / "folder").mkdir()
        (self.outside / "folder" / "roadmap.svg").write_text("precious")
        packed = self.random.random() < 0.15
        shutil.copytree(self.packed if packed else self.base, self.study, symlinks=True)
        shutil.copytree(self.base / self._run_names(self.base)[0], self.outside / "run")
        ways = (
            [self.packed_csv, self.packed_json, self.file]
            if packed
            else [self.value, self.value, self.value, self.text, self.text, self.yaml, self.metrics, self.file]
            + [self.file, self.name, self.folder, self.note, self.output]
        )
        for _ in range(self.random.choice((1, 1, 1, 2, 3))):
            way = self.random.choice(ways)
            try:
                way()
            except FileNotFoundError:  # nothing there to break
                continue
            except Exception:
                if not self.said:  # else an earlier way broke what this one would read
                    raise
        return "; ".join(self.said)

    # ------------------------------------------------------------------------------------------------ what is broken

    def value(self) -> None:
        """A field of a record is another value, or gone."""
        path = self._record()
        values = self._read(path)
        found = list(places(values))
        for _ in range(self.random.choice((1, 1, 3))):
            *parents, last = self.random.choice(found)
            holder = values
            with contextlib.suppress(KeyError, IndexError, TypeError):
                for parent in parents:
                    holder = holder[parent]
                if self.random.random() < 0.15:
                    del holder[last]
                    self._say(path, f"without {last}")
                else:
                    holder[last] = odd(self.random)
                    self._say(path, f"{'.'.join(map(str, (*parents, last)))} = {holder[last]!r:.60}")
        self._write(path, values)

    def text(self) -> None:
        """A record holds another text."""
        path = self._record()
        content = path.read_bytes()
        cut = self.random.randrange(len(content) + 1)
        choices: dict[str, bytes] = {
            "cut off": content[:cut],
            "empty": b"",
            "a NUL": content[:cut] + b"\0" + content[cut:],
            "not UTF-8": content[:cut] + b"\xff\xfe" + content[cut:],
            "UTF-16": content.decode().encode("utf-16"),
            "a BOM": b"\xef\xbb\xbf" + content,
            "zeros": b"\0" * len(content),
            "deep lists": b"[" * DEEP + b"]" * DEEP,
            "deep in a field": b'{"format": 1, "state": ' + b"[" * DEEP + b"]" * DEEP + b"}",
            "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
            "5,000 digits": b'{"format": 1, "seed": ' + b"9" * 5000 + b"}",
            "twice": content + content,
            "a list": b"[1, 2]",
            "a number": b"3",
            "text": b'"run"',
            "null": b"null",
            "random": self.random.randbytes(300),
        }
        name = self.random.choice(list(choices))
        path.write_bytes(choices[name])
        self._say(path, name)

    def yaml(self) -> None:
        """config.yaml holds YAML that is not what it seems."""
        path = self._plain(self._run() / "config.yaml")
        content = path.read_text()
        bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
        choices = {
            "an alias bomb": content + bomb,
            "a bomb in the recipe": content.replace("recipe:", bomb + "recipe:\n  bomb: *a39"),
            "an endless alias": content + "me: &me [*me]\n",
            "an endless mapping": content + "me: &me\n  me: *me\n",
            "a Python object": content + "x: !!python/object/apply:os.system [ls]\n",
            "a date": content + "data2: 2020-01-01\n",
            "a set": content + "s: !!set {a, b}\n",
            "bytes": content + "b: !!binary aGVsbG8=\n",
            "keys of numbers": content + "1: 2\n2.5: {3: 4}\nnull: 5\n",
            "a list as key": content + "? [1, 2]\n: 3\n",
            "a tab": content.replace("  lr:", "\tlr:"),
            "two documents": content + "---\nseed: 1\n",
            "sections of text": content.replace("recipe:", "recipe: x\nold:"),
            "a merge": content + "<<: [1]\n",
            "a very long line": content + "x: " + "y" * 1_000_000 + "\n",
            "dots in keys": content + "recipe.lr: 3\na.b.c: {d.e: 1}\n",
            "many keys": content + "".join(f"k{i}: {i}\n" for i in range(3000)),
            "numbers of 5,000 digits": content + "x: " + "9" * 5000 + "\n",
            "sexagesimal": content.replace("seed: 0", "seed: 1:20:30"),
        }
        name = self.random.choice(list(choices))
        path.write_text(choices[name])
        self._say(path, name)

    def metrics(self) -> None:
        """metrics.csv is another table, or none."""
        path = self._plain(self._run() / "metrics.csv")
        rows = list(csv.reader(path.read_text().splitlines()))
        choices: dict[str, Callable[[], bytes | str]] = {
            "an odd cell": lambda: self._csv(self._with_cell(rows)),
            "a column gone": lambda: self._csv([row[:-1] for row in rows]),
            "a column more": lambda: self._csv([[*row, "9"] for row in rows]),
            "a header twice": lambda: self._csv([[*row, row[0]] for row in rows]),
            "no header": lambda: self._csv(rows[1:]),
            "the header again": lambda: self._csv([*rows, rows[0]]),
            "a row of one cell": lambda: self._csv([*rows, ["3"]]),
            "a row too long": lambda: self._csv([*rows, ["1"] * 40]),
            "rows again": lambda: self._csv([*rows, *rows[1:]]),
            "a quote": lambda: self._csv(rows) + '"\n',
            "a NUL": lambda: self._csv(rows) + "\0\n",
            "cut off": lambda: self._csv(rows)[: self.random.randrange(200)],
            "not UTF-8": lambda: self._csv(rows).encode() + b"\xff\xfe\n",
            "empty": lambda: "",
            "one line without an end": lambda: "x" * 500_000,
            "carriage returns": lambda: self._csv(rows).replace("\n", "\r"),
            "many epochs": lambda: self._csv([*rows, *([str(i), *rows[1][1:]] for i in range(3, 4000))]),
        }
        name = self.random.choice(list(choices))
        content = choices[name]()
        path.write_bytes(content if isinstance(content, bytes) else content.encode(errors="surrogatepass"))
        self._say(path, name)

    def file(self) -> None:
        """Where a file should be is something else, or nothing."""
        names = [*RECORDS, "metrics.csv", "train.log", ".lock", "checkpoints"]
        run = self._run()
        path = run / self.random.choice(names) if run != self.study else self.random.choice(list(run.iterdir()))
        if self.random.random() < 0.2:
            path = self.study / "study.json"
        self._instead(path)

    def folder(self) -> None:
        """A run folder is something else."""
        run = self._run()
        if self.random.random() < 0.5:
            self._instead(run)
            return
        other = self._run()
        choices: dict[str, Callable[[], object]] = {
            "empty": lambda: [remove(p) for p in run.iterdir()],
            "a copy of another": lambda: (remove(run), shutil.copytree(other, run)) if other != run else None,
            "of another's name": lambda: shutil.copytree(run, run.with_name(run.name[:-1] + "z")),
            "within another": lambda: shutil.move(run, other / "inner") if other != run else None,
            "a checkpoint alone": lambda: [remove(p) for p in run.iterdir() if p.name != "checkpoints"],
            "a study": lambda: shutil.copytree(self.base, run / "study"),
        }
        name = self.random.choice(list(choices))
        choices[name]()
        self._say(run, name)

    def name(self) -> None:
        """A run folder, or one that is none, has an odd name."""
        run = self._run()
        names = [name.replace("/", "_").replace("\0", "") for name in NAMES if name not in ("", "..", "/etc/passwd")]
        names = [name for name in names if len(name.encode(errors="replace")) < 200]
        names += ["_" + run.name, "." + run.name, "-" + run.name, "x" * 255, "figures", "report.html", "wandb"]
        new = os.fsencode(run.parent) + b"/" + os.fsencode(self.random.choice(names).replace("\ud800", "s"))
        if self.random.random() < 0.25:
            new = os.fsencode(run.parent) + b"/caf\xe9\xff-s0-00000000"
        remove(Path(os.fsdecode(new)))
        if self.random.random() < 0.8:
            os.rename(run, new)
        else:
            os.mkdir(new)
        self._say(run, f"is called {new[-40:]!r}")

    def note(self) -> None:
        """study.json holds other values."""
        path = self._plain(self.study / "study.json")
        values = json.loads(path.read_text())
        if not isinstance(values, dict) or not isinstance(values.get("launches"), dict):  # broken before
            return
        command = next(iter(values["launches"]), "ladder train")
        ladders = values.get("ladders") or {}
        choices: dict[str, Callable[[], Any]] = {
            "an odd value": lambda: self._with_odd(values),
            "an odd command": lambda: {"format": 1, "launches": {odd_key(self.random): {"runs": ["a"]}}},
            "odd runs": lambda: {"format": 1, "launches": {command: {"runs": odd(self.random)}}},
            "odd labels": lambda: {"format": 1, "launches": {command: {"runs": [odd(self.random) for _ in range(3)]}}},
            "names of elsewhere": lambda: {"launches": {command: {"runs": ["../../outside/run", "/etc", ".", ""]}}},
            "no launches": lambda: {"format": 1},
            "odd ladders": lambda: {**values, "ladders": odd(self.random)},
            "an odd ladder": lambda: {**values, "ladders": {name: self._with_odd(v) for name, v in ladders.items()}},
            "a ladder of others": lambda: {**values, "ladders": {"convnext_32": odd(self.random)}},
            "another format": lambda: {**values, "format": 99},
            "only an odd value": lambda: odd(self.random),
        }
        name = self.random.choice(list(choices))
        made = choices[name]()
        path.write_text(json.dumps(made))
        self._say(path, f"{name}: {made!r:.80}")

    def output(self) -> None:
        """Where analysis and launchers write by themselves lies something else, a link above all."""
        name = self.random.choice(("report.html", "figures", "figures/roadmap.svg", "wandb", ".study.lock"))
        path = self.study / name
        path.parent.mkdir(exist_ok=True)
        if name in ("figures", "wandb"):
            choices = {
                "a link": lambda: path.symlink_to(self.outside / "folder"),
                "a file": lambda: path.write_text(""),
            }
        else:
            choices = {
                "a link": lambda: path.symlink_to(self.outside / "file"),
                "a link to nothing": lambda: path.symlink_to(self.outside / "new"),
                "a link by way of ..": lambda: path.symlink_to("../" * name.count("/") + "../../outside/report.html"),
                "a folder": path.mkdir,
            }
        said = self.random.choice(list(choices))
        choices[said]()
        self._say(path, said)

    def packed_csv(self) -> None:
        """results.csv or curves.csv of a packed study is another table."""
        path = self._plain(self.study / self.random.choice(("results.csv", "results.csv", "curves.csv")))
        rows = list(csv.reader(path.read_text().splitlines()))
        choices: dict[str, Callable[[], str]] = {
            "odd cells": lambda: self._csv(self._with_cell(self._with_cell(rows))),
            "cut off": lambda: self._csv(rows)[: self.random.randrange(len(self._csv(rows)))],
            "a column gone": lambda: self._csv([row[1:] for row in rows]),
            "a quote": lambda: self._csv(rows) + '"\n',
            "a NUL": lambda: self._csv(rows) + "a\0\n",
            "a row too long": lambda: self._csv([*rows, ["1"] * 90]),
            "rows again": lambda: self._csv([*rows, *rows[1:]]),
            "empty": lambda: "",
        }
        name = self.random.choice(list(choices))
        path.write_bytes(choices[name]().encode(errors="surrogatepass"))
        self._say(path, name)

    def packed_json(self) -> None:
        """study.json of a packed study holds other values."""
        path = self._plain(self.study / "study.json")
        values = json.loads(path.read_text())
        if self.random.random() < 0.3:
            self.random.choice(list(values["configs"].values()) or [{}])["recipe"] = odd(self.random)
            values["config"]["recipe.lr"] = odd(self.random)
        path.write_text(json.dumps(self._with_odd(values)))
        self._say(path, "odd values")

    # ---------------------------------------------------------------------------------------------------------- tools

    def _say(self, path: Path, what: str) -> None:
        self.said.append(f"{os.fsencode(path.relative_to(self.study))!r} {what}")

    def _run_names(self, study: Path) -> list[str]:
        return sorted(p.name for p in study.iterdir() if (p / "config.yaml").exists())

    def _run(self) -> Path:
        """A run folder; of a packed study, the study."""
        return self.study / self.random.choice(self._run_names(self.study) or ["."])

    def _record(self) -> Path:
        return self._plain(self._run() / self.random.choice(RECORDS))

    def _plain(self, path: Path) -> Path:
        """The path of a regular file: a pipe would be read for ever, a link written through."""
        if path.is_symlink() or not path.is_file():
            raise FileNotFoundError(path)
        return path

    def _read(self, path: Path) -> Any:
        text = path.read_text()
        return yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)

    def _write(self, path: Path, values: Any) -> None:
        if path.suffix == ".yaml":
            text = yaml.safe_dump(values, sort_keys=False)
        else:
            text = json.dumps(values, ensure_ascii=self.random.random() < 0.5)
        path.write_bytes(text.encode(errors="surrogatepass"))

    def _with_odd(self, values: Any) -> Any:
        *parents, last = self.random.choice(list(places(values)))
        holder = values
        for parent in parents:
            holder = holder[parent]
        holder[last] = odd(self.random)
        return values

    def _with_cell(self, rows: list[list[str]]) -> list[list[str]]:
        row = self.random.choice(rows)
        cells = ("", "nan", "inf", "1e400", "-5", "text", "9" * 400, "1.5", "true", *NAMES)
        row[self.random.randrange(len(row))] = self.random.choice(cells)
        return rows

    def _csv(self, rows: Sequence[Sequence[str]]) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue()

    def _instead(self, path: Path) -> None:
        """Something else in place of a file or folder."""
        was_file = path.is_file()
        choices: dict[str, Callable[[], object]] = {
            "gone": lambda: None,
            "a folder": path.mkdir,
            "a file": lambda: path.write_text("x"),
            "a link to nothing": lambda: path.symlink_to("nowhere"),
            "a link to itself": lambda: path.symlink_to(path.name),
            "a link upwards": lambda: path.symlink_to(".."),
            "a link out": lambda: path.symlink_to(self.outside / "file"),
            "a link to a run": lambda: path.symlink_to(self.outside / "run"),
            "a link to endless zeros": lambda: path.symlink_to("/dev/zero"),
            "a link to a folder that can't be read": lambda: path.symlink_to("/proc/1/task/1/ns"),
            "a pipe": lambda: os.mkfifo(path),
            "a socket": lambda: _socket(path),
        }
        name = self.random.choice([*choices, "unreadable", "unreadable"])
        if name == "unreadable":
            self.unreadable.add(os.fspath(path))
        else:
            remove(path)
            choices[name]()
        self._say(path, f"{name} in place of a {'file' if was_file else 'folder'}")


def odd_key(random: random.Random) -> str:
    """A text for where a command stands."""
    return random.choice(("python -m ladder.train 'a", "rm -rf /", *NAMES))


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(path.parent):
        made.bind(path.name)


def remove(path: Path) -> None:
    """Remove whatever is there, without following a link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(os.fsencode(path))
    else:
        path.unlink(missing_ok=True)


_refused: set[str] = set()


@functools.cache
def _watch() -> None:
    sys.addaudithook(_audit)  # it can't be taken away again


@contextlib.contextmanager
def refusing(unreadable: Iterable[str]) -> Iterator[None]:
    """Opening these files, or listing these folders, fails within the block as it does for who has no right to."""
    _watch()
    _refused.update(unreadable)
    try:
        yield
    finally:
        _refused.clear()


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if not _refused or event not in ("open", "os.scandir", "os.listdir"):
        return
    path = args[0]
    if isinstance(path, str | bytes | os.PathLike) and os.path.abspath(os.fsdecode(path)) in _refused:
        raise PermissionError(13, "Permission denied", path)


def digest(*roots: Path) -> str:
    """Of all names, links and contents below some folders."""
    found = hashlib.sha256()
    for root in roots:
        for folder, names, files in os.walk(root):
            names.sort()
            for name in sorted([*names, *files]):
                path = os.path.join(folder, name)
                found.update(os.fsencode(path))
                if os.path.islink(path):
                    found.update(os.fsencode(os.readlink(path)))
                elif os.path.isfile(path):
                    found.update(Path(path).read_bytes())
    return found.hexdigest()


@dataclass(frozen=True)
class Ended:
    """How a command ended. `fault`: what it should not have done; empty where all is well."""

    command: str
    code: int
    err: str
    fault: str


def run_command(name: str, main: Callable[[list[str]], int], argv: list[str], seconds: float = 120) -> Ended:
    """Run a command's `main` as its process would, in this one, its output encoded as a terminal's is."""
    from ladder.errors import run_cli

    def hang(number: int, frame: FrameType | None) -> None:
        raise Hung

    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    before = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    code, fault = 0, ""

    def traced() -> int:
        nonlocal fault
        try:
            return main(argv)
        except Exception:
            fault = traceback.format_exc()
            raise

    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                run_cli(traced)
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
                fault = fault if code == 1 else ""
            except Hung:
                fault = f"took more than {seconds:g} s"
            except BaseException:
                fault = traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    told = out.buffer.getvalue().decode(), err.buffer.getvalue().decode()  # type: ignore[attr-defined]
    return Ended(f"{name} {' '.join(argv)}", code, told[1], fault or _judge(code, *told))


def _judge(code: int, out: str, err: str) -> str:
    """What is wrong with how a command ended; empty where all is well."""
    lines = err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    if code not in (0, 2):
        return f"exit code {code}"
    if len(errors) != (code == 2):
        return f"exit code {code} and {len(errors)} errors"
    if rest := [line for line in lines if not line.startswith(("error: ", "skipped ", "warning: ", "wandb: "))]:
        return f"stderr has {rest[0]!r}"
    if bad := [c for c in out + err if c != "\n" and not c.isprintable() and c not in "\u200c\u200d\u00a0"]:
        return f"{bad[0]!r} came out"
    return ""
