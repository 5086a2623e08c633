"""Owns the tests of the documents: what they show of data is what the commands beside it make now."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def build() -> ModuleType:
    found = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture
def copy(build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page of its own, with one table and one picture, and a folder to draw into."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build, "ROOT", tmp_path)
    (tmp_path / "README.md").write_text("")
    (tmp_path / "CONTRIBUTING.md").write_text("")
    study = ROOT / "runs" / "published" / "demo"
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text(
        f"A\n<!-- made by: ladder table {study} --format md -->\nold\n<!-- end -->\n"
        f"<!-- drawn by: ladder figures {study} --only roadmap --formats png --out docs/pictures -->\n"
        "![words](pictures/roadmap.png)\nZ\n"
    )
    return page


@pytest.mark.slow
def test_the_documents_are_current(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert build.check() == [], "run make docs"


def test_what_is_out_of_date_is_told_and_made_again(build: ModuleType, copy: Path) -> None:
    problems = build.check()
    assert len(problems) == 2
    assert "is not what it prints now" in problems[0] and "docs/pictures/roadmap.png is missing" in problems[1]
    build.build()
    text = copy.read_text()
    assert text.startswith("A\n") and text.endswith("Z\n") and "\nold\n" not in text and "| 0 ResNet |" in text
    assert build.check() == []
    assert build.build() == [] and copy.read_text() == text


def test_a_comment_that_nothing_reads_is_told(build: ModuleType, copy: Path) -> None:
    build.build()
    copy.write_text(copy.read_text().replace("<!-- end -->", "").replace("--out docs/pictures", ""))
    assert [line.split(" comment")[0] for line in build.check()] == [
        "docs/page.md: a `made by:`",
        "docs/page.md: a `drawn by:`",
    ]


def test_a_changed_number_or_word_makes_a_picture_stale(
    build: ModuleType, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from analysis.show.charts import roadmap

    build.build()
    results = ROOT / "runs" / "published" / "demo"
    other = tmp_path / "demo"
    other.mkdir()
    for file in results.glob("*.*"):
        (other / file.name).write_bytes(file.read_bytes())
    copy.write_text(copy.read_text().replace(str(results), str(other)))
    assert build.check() == []
    lines = (other / "results.csv").read_text().splitlines()
    column = lines[0].split(",").index("top1")
    cells = lines[1].split(",")
    cells[column] = str(float(cells[column]) - 1)
    (other / "results.csv").write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
    assert len(build.check()) == 2  # the table and the picture
    (other / "results.csv").write_text("\n".join(lines) + "\n")
    draw = roadmap.draw
    monkeypatch.setattr(roadmap, "draw", lambda *args, **more: _with_more(draw(*args, **more)))
    assert len(build.check()) == 1  # a picture that says something else


def _with_more(figure: object) -> object:
    figure.text(0.5, 0.5, "more")  # type: ignore[attr-defined]
    return figure


COMMANDS = [
    (page.relative_to(ROOT), line)
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
    for block in re.findall(r"^```(?:sh|text)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    for line in block.splitlines()
    if re.match(r"\s*(ladder|python -m|torchrun) ", line)
]


@pytest.mark.parametrize("page", sorted({str(page) for page, _ in COMMANDS}))
def test_commands_are_quoted_as_zsh_wants_them(page: str) -> None:
    """zsh takes brackets, braces and parentheses behind an = for patterns of file names, and finds none."""
    lines = [line for name, line in COMMANDS if str(name) == page]
    bare = [re.sub(r"'[^']*'|\"[^\"]*\"|\s#.*", "", line) for line in lines]
    assert [line for line, rest in zip(lines, bare, strict=True) if re.search(r"=\S*[\[{(]", rest)] == []
