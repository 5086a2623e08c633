"""Owns the run folder: its name, what counts as one, its lock, and files that are the old one or the new, never half."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import math
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ladder.errors import UserError
from ladder.paths import make_folders, open_own, refuse_links, remove_empty, strict_json, write_atomic
from ladder.runs.records import Unreadable, read_json, read_json_or_none

FORMAT = 1  # of the run folder; raised when a reader of the old one would misread the new one
METRICS = (
    "epoch",
    "step",
    "train_loss",
    "eval_loss",
    "top1",
    "top5",
    "ema_top1",
    "lr",
    "images_per_s",
    "seconds",
)
HEARTBEAT_LIMIT = 120.0  # seconds without a heartbeat after which a run on another host counts as dead
OWN_FOLDERS = frozenset({"figures", "report", "wandb"})  # of a study: what analysis and W&B write there
_FILES = ("status.json", "result.json", "config.yaml")  # each of which is in run folders only
_LABEL = re.compile(r"-s\d+-[0-9a-f]{8}$")
_LONGEST = 200  # bytes of a name in a label; file systems take 255


def label(name: str, seed: int, config_hash: str) -> str:
    """The name of a run's folder: its rung's name in characters that all shells and file systems take, seed, hash.

    It begins with a letter or digit: names that begin with `.` or `_` are hidden, with `-` read as options.

    >>> label("gelu", 0, "1234abcd"), label(".k5 (ln)", 1, "1234abcd")
    ('gelu-s0-1234abcd', 'k5__ln_-s1-1234abcd')
    """
    plain = re.sub(r"[^\w.+-]", "_", name).lstrip("._+-")
    short = plain[:80].encode()[:_LONGEST].decode(errors="ignore")
    return f"{short or 'step'}-s{seed}-{config_hash}"


def former_label(name: str, seed: int, config_hash: str) -> str:
    """What `label` was before it left out what hides a folder."""
    plain = re.sub(r"[^\w.+-]", "_", name)
    return f"{plain[:80]}-s{seed}-{config_hash}"


def is_run(folder: str | os.PathLike[str]) -> bool:
    """True for the folder of a run: it is called like one, or holds a file of one, whatever it is called."""
    path = os.fspath(folder)
    if _LABEL.search(os.path.basename(path)):
        return True
    return any(os.path.isfile(os.path.join(path, name)) for name in _FILES)


def folders_in(study: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
    """The names of the run folders in a study, and those of its other folders; both sorted.

    Left out are folders that belong to a study beside its runs: hidden ones, those of analysis, and W&B's. Raises
    OSError.
    """
    runs: list[str] = []
    others: list[str] = []
    for name in sorted(os.listdir(study)):
        path = os.path.join(study, name)
        if name in OWN_FOLDERS or not os.path.isdir(path):
            continue
        if is_run(path):
            runs.append(name)
        elif name[0] not in "._":
            others.append(name)
    return runs, others


def stable_hash(what: Mapping[str, Any]) -> str:
    """8 hex digits, a pure function of plain values (the order of keys does not matter)."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:8]


def not_finite(final: Any) -> str | None:
    """What of a result's last evaluation is NaN or infinite, in words: such a network has no accuracy.

    Earlier versions called it done, with the accuracy of a rank among NaN.
    """
    figures = final if isinstance(final, dict) else {}
    odd = {key: value for key in ("top1", "eval_loss") if isinstance(value := figures.get(key), float)}
    text = ", ".join(f"final.{key} is {value}" for key, value in odd.items() if not math.isfinite(value))
    return f"{text}, so that the network has no accuracy" if text else None


@dataclass
class Status:
    """`status.json`: what a run is doing. Times in unix seconds, top1 in percent."""

    state: str = "running"  # running | done | failed | stopped (asked to stop; saved; goes on when launched again)
    attempts: int = 0
    error: str | None = None
    heartbeat: float = 0.0
    pid: int = 0
    host: str = ""
    begun: float = 0.0  # of the first attempt
    started: float = 0.0  # of this attempt
    progress: float = 0.0  # when this attempt last took a step or evaluated a batch
    slowest: float = 0.0  # longest seconds between two of these
    epoch: int = 0  # epochs done
    epochs: int = 0
    step: int = 0  # optimiser steps done
    steps: int = 0
    top1: float | None = None  # at the last evaluation
    images_per_s: float | None = None
    tracking: str | None = None  # what went wrong with W&B
    eta_s: float | None = None  # evaluations included
    evaluated: float | None = None  # how much of the present evaluation is done, from 0 to 1; None: it trains
    ladder: str = ""
    rung: str = ""
    seed: int = 0
    format: int = FORMAT


_KINDS: dict[str, Any] = {"str": str, "int": int, "float": float}
_STATUS = {f.name: _KINDS[str(f.type).partition(" ")[0]] for f in fields(Status)}


def status_in(folder: str | os.PathLike[str]) -> Status | None:
    """The last status written in a run's folder; None where there is none. A field that it lacks has its default.

    Raises:
        Unreadable: another format, a value of another type, no JSON.
    """
    record = read_json(os.path.join(folder, "status.json"))
    if record is None:
        return None
    if "format" in record.values:
        record.check_format(FORMAT)
    known: dict[str, Any] = {name: record.field(name, kind, least=0) for name, kind in _STATUS.items()}
    return Status(**{name: value for name, value in known.items() if value is not None})


class Busy(UserError):
    """Another process trains this run just now."""


class RunDir:
    """One run's folder. Nothing is created before `create`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._made: list[Path] = []  # by `create`, innermost first

    def create(self) -> None:
        """Make the folder. Raises UserError where it can't be, has links, or belongs to another format."""
        self.check()
        try:
            self._made = make_folders(self.checkpoints)
            with open(self.path / "train.log", "a"):
                pass
        except OSError as error:
            self.discard()
            raise self.unwritable(error) from None

    def unwritable(self, error: OSError) -> UserError:
        """What to tell of a folder that can't be made or begun."""
        return UserError(f"can't write the run folder {self.path}: {error.strerror}; set runs_dir to a writable folder")

    def discard(self) -> None:
        """Remove a folder of which nothing is worth keeping, and those above it that `create` made; any other stays."""
        if any((self.path / name).exists() for name in ("result.json", "metrics.csv")):
            return
        with contextlib.suppress(OSError):
            self.checkpoints.rmdir()  # fails where it holds something
            for name in ("status.json", "config.yaml", "train.log", ".lock"):
                (self.path / name).unlink(missing_ok=True)
            shutil.rmtree(self.path / "wandb", ignore_errors=True)
            remove_empty([self.path, *self._made])

    def adopt(self, former: str) -> None:
        """Rename the folder of this run that is called `former`, unless somebody trains in it."""
        old = self.path.with_name(former)
        if old != self.path and old.is_dir() and not self.path.exists() and not RunDir(old).is_busy:
            with contextlib.suppress(OSError):  # not ours to rename: trained anew
                old.rename(self.path)

    def check(self) -> None:
        """Raise UserError for a folder that has links, or that another version of the format wrote."""
        refuse_links(self.path.parent, self.path.name)
        for folder in (self.path, self.checkpoints):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                refuse_links(folder, *os.listdir(folder))
        for name in ("status.json", "result.json"):
            found = (read_json_or_none(self.path / name) or {}).get("format", FORMAT)
            if found != FORMAT:
                raise UserError(
                    f"{self.path} was written in format {found}, this version reads {FORMAT}: move it away or use"
                    " another study="
                )

    @property
    def is_done(self) -> bool:
        """True once the result is written, of a network whose evaluation was finite."""
        result = read_json_or_none(self.path / "result.json") or {}
        return result.get("format") == FORMAT and not_finite(result.get("final")) is None

    def read_status(self) -> Status | None:
        """The last status written; None where there is none, or none that can be read (`status_in` says why)."""
        try:
            return status_in(self.path)
        except Unreadable:
            return None

    def write_status(self, status: Status, durable: bool = True) -> None:
        """Replace `status.json`, with this process and this moment in it."""
        status.heartbeat, status.pid, status.host = time.time(), os.getpid(), socket.gethostname()
        write_atomic(self.path / "status.json", strict_json(asdict(status), 1), durable, follow=False)

    def write_metrics(self, rows: list[dict[str, float | int | None]]) -> None:
        """Replace `metrics.csv` by all epochs so far (so a resumed run leaves no doubled or skipped row)."""
        text = io.StringIO()
        writer = csv.DictWriter(text, METRICS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(self.path / "metrics.csv", text.getvalue(), follow=False)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write `result.json`, the last file of a run: from now on it is done."""
        write_atomic(self.path / "result.json", strict_json({"format": FORMAT, **result}, 1), follow=False)

    def remove_leftovers(self) -> None:
        """Remove the halves of files that killed processes left. For who holds the lock."""
        for folder in (self.path, self.checkpoints, self.path / "wandb"):
            for left in (*folder.glob(".*.tmp"), *folder.glob(".tmp*")):  # ours, and safetensors'
                with contextlib.suppress(OSError):
                    left.unlink()

    @contextlib.contextmanager
    def lock(self, fresh: float = HEARTBEAT_LIMIT, patience: float = 0.2) -> Iterator[None]:
        """Hold the folder for this process. Raises Busy while another one holds it (for longer than `is_busy` does).

        On one host a file lock decides, which the kernel frees with its process, however that ends. Across hosts
        (where file locks may not reach) a heartbeat of another host, less than `fresh` seconds old, does.

        Raises:
            UserError: where `.lock` is no file of its own, besides Busy.
        """
        try:
            handle = open_own(self.path / ".lock")
        except IsADirectoryError:
            raise UserError(f"{self.path / '.lock'} is a folder: remove it") from None
        with open(handle, "w") as file:
            until = time.monotonic() + patience
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= until:
                        raise Busy(f"{self.path} is being trained by another process: wait for it or end it") from None
                    time.sleep(0.02)
            status = self.read_status()
            if (
                status is not None
                and status.state == "running"
                and status.host != socket.gethostname()
                and time.time() - status.heartbeat < fresh
            ):
                raise Busy(f"{self.path} is being trained on host {status.host}: wait for it or end it")
            yield

    @property
    def is_busy(self) -> bool:
        """True while another process holds the folder. Creates nothing."""
        if not (self.path / ".lock").exists():
            return False
        try:
            with self.lock(patience=0):
                return False
        except Busy:
            return True
        except (OSError, UserError):  # gone meanwhile, or not ours to write: who trains it will be told
            return False


def is_dead(status: Status, now: float | None = None) -> bool:
    """True for a run that calls itself running but whose process is gone (same host) or silent (another host)."""
    if status.state != "running":
        return False
    if status.host == socket.gethostname():
        try:
            os.kill(status.pid, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:
            return False
        return False
    return (now or time.time()) - status.heartbeat > HEARTBEAT_LIMIT
