"""Owns the tests of the notebooks: stored without outputs, and each runs from clean to its end."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
BOOKS = sorted(FOLDER.glob("*.ipynb"))
PICTURES = {  # that a reader sees, at least
    "01_roadmap": 4,
    "02_your_study": 6,
    "03_convmixer": 4,
    "04_add_a_step": 3,
    "05_which_steps_matter": 3,
}


def test_there_is_a_notebook_for_each_story() -> None:
    assert [book.stem for book in BOOKS] == sorted(PICTURES)


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path: Path) -> None:
    book = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(book)
    for cell in book.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None, cell["source"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_notebooks_run_from_clean(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))
    monkeypatch.delenv("STUDY", raising=False)
    book = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(book, timeout=600, resources={"metadata": {"path": str(FOLDER)}}).execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    assert sum(_is_picture(output) for output in outputs) >= PICTURES[path.stem]
    told = "".join(str(output.get("text", "")) for output in outputs if output["output_type"] == "stream")
    assert "Traceback" not in told and "rror: " not in told and "Warning" not in told, told


def _is_picture(output: Any) -> bool:
    from PIL import Image

    data = output.get("data", {}).get("image/png")
    if data is None:
        return False
    with Image.open(BytesIO(base64.b64decode(data))) as image:
        return len(image.convert("L").getcolors(256) or ()) > 10
