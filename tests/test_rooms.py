"""Owns the checks of the plan of the house: which room may import which, and that no two files import in a circle."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOORS = {"ladder", "ladder.errors", "ladder.paths", "analysis"}  # directly in a package, and no command


def _modules() -> dict[str, Path]:
    names = {}
    for path in [*ROOT.glob("ladder/**/*.py"), *ROOT.glob("analysis/**/*.py")]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


MODULES = _modules()


def _imports(path: Path) -> set[str]:
    """The modules of ours that a file imports, also within functions, but for types alone."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in MODULES else node.module
                     for a in node.names]  # fmt: skip
        else:
            continue
        if id(node) not in typing_only:
            found |= {name for name in names if name in MODULES}
    return found


GRAPH = {name: _imports(path) - {name} for name, path in MODULES.items()}


def _is_command(name: str) -> bool:
    return name.count(".") == 1 and name not in DOORS and MODULES[name].name != "__init__.py"


def test_no_two_files_import_each_other_in_a_circle() -> None:
    left = {name: set(targets) for name, targets in GRAPH.items()}
    while free := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"in a circle, or behind one: {sorted(left)}"


@pytest.mark.parametrize("name", sorted(GRAPH))
def test_a_file_imports_only_what_lies_before_it(name: str) -> None:
    room = ".".join(name.split(".")[:2])
    for target in GRAPH[name]:
        if name.startswith("ladder"):
            assert not target.startswith("analysis"), "ladder/ knows nothing of analysis/"
        if not _is_command(name):
            assert not _is_command(target), f"{target} is a command, and a room imports none"
        if room == "ladder.networks":
            assert not target.startswith(("ladder.training", "ladder.runs", "ladder.launch", "ladder.data"))
        if room == "analysis.read":
            assert not target.startswith(("analysis.compare", "analysis.show"))
        if room == "analysis.compare":
            assert not target.startswith("analysis.show")


def test_a_file_directly_in_a_package_is_a_command_or_its_door() -> None:
    for name, path in MODULES.items():
        if _is_command(name):
            assert "\ndef main(" in path.read_text(), f"{name} is no command: it belongs in a room"
