"""Owns the tests of what the pages tell a person to type: it exists, it is right, it runs; and links lead somewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from image_folders import make_folder

from ladder import cli
from ladder.data.sources import open_source
from ladder.launch.sweeper import runs_of
from ladder.runs.config import DataConfig
from ladder.runs.predictions import FILE, Predictions

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md"))]
NEEDS = re.compile(r"<!-- not run by the tests: needs (a GPU|GPUs|a cluster|a network\b.*) -->")
BLOCK = re.compile(r"(?:^(?P<mark><!-- not run by the tests[^\n]*-->)\n)?^```sh\n(?P<body>.*?)^```$", re.M | re.S)
# What a study of the pages' size would take: these are run by `make test-slow`, cut down to seconds.
SLOW = {"train", "bench", "preview", "figures", "report", "publish", "experiments", "doctor", "images"}
SMALL = ("recipe.epochs=1", "recipe.warmup_epochs=0", "recipe.batch_size=8", "data.fraction=1", "wandb.mode=disabled")


@dataclass(frozen=True)
class Line:
    """A command on a page."""

    page: str
    words: tuple[str, ...]
    marked: bool  # as one that the tests can't run

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"

    @property
    def is_slow(self) -> bool:
        """Whether it takes seconds."""
        name = self.words[1] if len(self.words) > 1 else ""
        return name in SLOW or "--measure" in self.words or (name == "plan" and "--gpu" in self.words)


def lines(page: str) -> Iterator[Line]:
    for block in BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")):
        body = re.sub(r"\\\n\s*", "", block["body"])
        for text in body.splitlines():
            if words := shlex.split(text, comments=True):
                yield Line(page, tuple(words), block["mark"] is not None)


LINES = [line for page in PAGES for line in lines(page)]
OURS = [line for line in LINES if line.words[0] == "ladder" and not line.marked]


def test_pages_have_commands() -> None:
    assert len(OURS) > 40


@pytest.mark.parametrize("page", PAGES)
def test_a_block_that_is_not_run_says_what_it_needs(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    marks = re.findall(r"<!-- not run.*", text)
    assert all(NEEDS.fullmatch(mark) for mark in marks), marks
    assert len(marks) == sum(block["mark"] is not None for block in BLOCK.finditer(text)), "a mark stands above a block"


@pytest.mark.parametrize("line", LINES, ids=str)
def test_what_a_page_says_to_type_exists(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options are known, overrides make runs, targets and extras are there. Nothing is run."""
    monkeypatch.chdir(ROOT)
    program, *rest = line.words
    if program == "torchrun":
        program, *rest = "ladder", "train", *rest[rest.index("ladder.train") + 1 :]
    if program == "ladder" and rest[0] == "train":
        search = ("hydra/sweeper=", "hydra.sweeper.")  # another sweeper's, as are intervals
        words = [w for w in rest[1:] if w != "-m" and not w.startswith(search) and "interval(" not in w]
        place = words.index("--config-dir") if "--config-dir" in words else None
        folder = None if place is None else words[place + 1]
        assert runs_of([w for i, w in enumerate(words) if place is None or i not in (place, place + 1)], folder)
    elif program == "ladder":
        with cli._ladder.make_context("ladder", rest) as context:
            name, command, arguments = cli._ladder.resolve_command(context, rest)
            assert command is not None and name is not None
            command.make_context(name, arguments)
    elif program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.M)
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert rest[:1] == ["install"] and re.fullmatch(r"modernization-ladder\[(\w+)\]", rest[1])
        assert rest[1].partition("[")[2].rstrip("]") in extras
    elif program in ("bash", "python"):
        assert (ROOT / rest[0]).is_file()
    else:
        assert "wandb" in line.words and line.marked, "a command that no test knows"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like a checkout after some studies, without the code."""
    found = importlib.util.spec_from_file_location("studies", ROOT / "tests" / "analysis" / "conftest.py")
    assert found is not None and found.loader is not None
    studies = importlib.util.module_from_spec(found)
    found.loader.exec_module(studies)
    for name in ("mine", "demo", "cifar10", "convmixer_patches"):
        studies.Study(tmp_path / "runs" / name, "convnext_mini").chain(seeds=(0, 1))
    label = open_source(DataConfig(name="digits", source="digits")).evaluation.labels
    for place, run in enumerate(sorted((tmp_path / "runs" / "mine").glob("*/result.json"))):
        predicted = np.where(np.arange(len(label)) % 50 == place % 50, (label + 1) % 10, label)
        sure = np.full(len(label), 0.9, np.float32)
        Predictions(np.arange(len(label)), label, predicted, sure, tuple("0123456789")).write(run.parent / FILE)
    for name, rate in (("lr", 0.002), ("lr", 0.004), ("cifar10_tuning", 0.002), ("cifar10_tuning", 0.004)):
        study = studies.Study(tmp_path / "runs" / name, "convnext_mini")
        study.chain(seeds=(0, 1), rungs=("resnet", "gelu"), recipe={"lr": rate}, lr=rate)
    for name in ("path/to/set", "FOLDER"):
        make_folder(tmp_path / name, train=8, test=4, size=(32, 32), classes=("ant", "bee", "cow", "dog"))
    (tmp_path / "runs" / "demo_design").symlink_to(ROOT / "runs" / "published" / "demo_design")
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "my_first").symlink_to(ROOT / "docs" / "my_first")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return tmp_path


def of(page: str, slow: bool) -> list[Line]:
    return [line for line in OURS if line.page == page and line.is_slow is slow]


@pytest.mark.parametrize("page", [page for page in PAGES if of(page, slow=False)])
def test_commands_of_a_page(page: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in of(page, slow=False):
        assert cli.main(line.words[1:]) == 0, line
        assert capsys.readouterr().out.strip(), line


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", [page for page in PAGES if of(page, slow=True)])
def test_slow_commands_of_a_page(page: str, place: Path) -> None:
    """Each as it stands, in a process of its own; trainings of two of their rungs, for one epoch of few images."""
    if any("study=mine" in line.words for line in of(page, slow=True)):
        shutil.rmtree(place / "runs" / "mine")  # the page makes it
    for line in of(page, slow=True):
        words = [*line.words[1:], *(_small(line.words) if line.words[1] == "train" else ())]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "ladder.cli", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert done.stdout.strip(), line


def _small(words: tuple[str, ...]) -> tuple[str, ...]:
    """What cuts a training down."""
    digits = "data=digits" in words or "experiment=demo" in words
    sweep = "-m" in words or any(word.startswith("experiment=") for word in words)
    if any(re.fullmatch(r"experiment=\w+_design", word) for word in words):
        demo = "experiment=demo_design" in words  # the other one has a factor beside its steps
        runs, fraction = ("design.runs=4", "data.fraction=0.05") if demo else ("design.runs=6", "data.fraction=1")
        two = ("design.steps=[gelu,fewer_norms]", runs, "design.replicates=0", "design.max_macs=null")
        return (*SMALL, "data.image_size=32", fraction, *two, "study=small", "seed=0")
    if designed := [word for word in words if word.startswith("design")]:
        four = ("design.runs=4",) if "design=optimal" in designed else ()
        return (*SMALL, "data.image_size=32", "data.fraction=0.05", "design.steps=[gelu,fewer_norms]", *four)
    two = "steps=[],[kernel_3]" if "experiment=convmixer_patches" in words else "rung=0,1"  # that one names steps
    two = "" if any(word.startswith("steps=") for word in words) else two
    few = (two if sweep else "", "seed=0" if sweep else "", "data.fraction=0.05" if digits else "")
    # a command that `ladder effects --best` prints can't know where the data is
    root = ("data.root=FOLDER",) if "data=cifar10" in words and "data.root" not in " ".join(words) else ()
    return (*SMALL, "data.image_size=32", *root, *filter(None, few))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if heading:
            assert anchors(file.read_text(encoding="utf-8")).count(heading) == 1, target


def anchors(text: str) -> list[str]:
    """The names of a page's headings, as code hosts and mkdocs make them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    return [re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings]
