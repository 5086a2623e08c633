"""The analysis commands over broken studies: which of them run over a state, and what they must not do."""

from __future__ import annotations

import contextlib
import importlib
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import broken_studies
from broken_studies import Breaker, Ended, digest, remove, run_command

SEED = 20_261_126
SIZE = ("ladder=convnext_32", "rung=0,2", "data=digits", "--images", "1000,100")
CHARTS = ("roadmap", "changes", "macs", "throughput", "curves", "sizes")


def commands(number: int, study: Path, good: Path, out: Path) -> Iterator[tuple[str, list[str]]]:
    """The commands of one state; what differs in little but the output, or draws for seconds, goes by turns."""
    kinds = ("md", "csv", "latex", "html", "json")
    parts = (["--compare", "recipe.lr"], ["--where", "seed=0"], [f"{good}", "--out", f"{out}/table.tex"])
    sides = ([f"{study}", f"{good}"], [f"{good}", f"{study}", "--format", "json"], [f"{study}", "convnext_t"])
    yield "status", [f"{study}"]
    yield "status", [f"{study}", "--format", "json"]
    yield "table", [f"{study}"]
    yield "table", [f"{study}", "--format", kinds[number % 5]]
    yield "table", [f"{study}", *parts[number % 3]]
    yield "export", [f"{study}", "--out", f"{out}/packed"]
    if (out / "packed").exists():
        yield "table", [f"{out}/packed", "--format", "md"]
    yield "agreement", sides[number % 3]
    yield "tuning", [f"{study}"]
    if number % 2:
        yield "plan", [*SIZE, "--study", f"{study}"]
    if number % 4:
        yield "figures", [f"{study}", "--formats", ("svg", "png", "pdf")[number % 3], "--only", CHARTS[number % 6]]
    elif number % 16 != 8:
        yield "report", [f"{study}"]
    else:
        yield "publish", [f"{study}", "--mode", "offline" if number % 80 == 8 else "disabled"]


@contextlib.contextmanager
def surroundings(place: Path) -> Iterator[None]:
    """A folder to stand in, a home, plans composed once: what is written there is noticed."""
    import matplotlib.font_manager  # noqa: F401  (looks for its cache of fonts at home)

    from ladder.launch import sweeper

    place.mkdir(parents=True, exist_ok=True)
    cached = mock.patch.object(sweeper, "runs_of", _cached(sweeper.runs_of))
    home = mock.patch.dict(os.environ, {"HOME": f"{place}", "XDG_CACHE_HOME": f"{place}/cache"})
    with cached, home, contextlib.chdir(place), warnings.catch_warnings():
        warnings.simplefilter("default")
        yield


_plans: dict[tuple[str, ...], Any] = {}


def _cached(runs_of: Callable[..., Any]) -> Callable[..., Any]:
    """Composing configs takes half a second, and has nothing to do with the study."""

    def cached(overrides: list[str], *more: Any) -> Any:
        key = tuple(overrides)
        if key not in _plans:
            _plans[key] = runs_of(overrides, *more)
        return _plans[key]

    return cached


def trial(number: int, base: Path, packed: Path, place: Path) -> tuple[str, list[Ended]]:
    """State `number` and how each command over it ended."""
    breaker = Breaker(SEED + number, base, packed, place / f"{number}")  # a path is read once, and then known
    said = breaker.next()
    out = place / "out"
    remove(out)
    out.mkdir(parents=True)
    ended = []
    before = digest(breaker.outside)
    with surroundings(place / "here"), broken_studies.refusing(breaker.unreadable):
        for name, argv in commands(number, breaker.study, base, out):
            main = importlib.import_module(f"analysis.{name}").main
            one = run_command(name, main, argv)
            if not one.fault and (written := _written(place / "here")):
                one = Ended(one.command, one.code, one.err, f"wrote {written[0]}")
            if not one.fault and digest(breaker.outside) != before:
                one = Ended(one.command, one.code, one.err, "changed what lies outside the study")
            ended.append(one)
            if one.fault.startswith(("wrote", "changed")):
                break
    remove(breaker.place)
    return said, ended


def _written(here: Path) -> list[Path]:
    own = (".config", ".local", "cache", ".cache")  # matplotlib's and W&B's
    return [path for path in here.iterdir() if path.name not in own]
