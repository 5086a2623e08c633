"""Owns the wheel: what a `pip install` brings works in a folder without the repository."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("ladder", "analysis", "hydra_plugins")
# Imported by name, and brought by the other at a version of its own choice.
BROUGHT_BY = {"omegaconf": "hydra-core"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def installed(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content, as pip would lay it into site-packages."""
    site = tmp_path_factory.mktemp("site")
    wheel.extractall(site)
    return site


def python(installed: Path, cwd: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run Python elsewhere, the wheel before all else on its path."""
    env = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *args], cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


def sources(folder: Path) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_wheel_holds_the_packages_and_conf_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    code = set().union(*(sources(ROOT / package) for package in PACKAGES))
    conf = {f"ladder/{name}" for name in sources(ROOT / "conf")}
    assert held == code | conf
    assert {"ladder/py.typed", "ladder/conf/ladder/convnext_t.yaml"} <= held


def test_wheel_leaves_hydras_plugin_namespace_to_all(wheel: zipfile.ZipFile) -> None:
    assert "hydra_plugins/__init__.py" not in wheel.namelist()


def test_wheel_carries_the_licence(wheel: zipfile.ZipFile) -> None:
    (licence,) = (name for name in wheel.namelist() if name.endswith("licenses/LICENSE"))
    assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_installed_package_finds_its_own_ladders(installed: Path, tmp_path: Path) -> None:
    code = (
        "import json, ladder, ladder.paths as p;"
        "print(json.dumps([ladder.__file__, str(p.conf_dir()), ladder.list_ladders(),"
        " [len(ladder.load_ladder(n).rungs) for n in ladder.list_ladders()]]))"
    )
    done = python(installed, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    file, conf, ladders, lengths = json.loads(done.stdout)
    assert Path(file) == installed / "ladder" / "__init__.py"
    assert Path(conf) == installed / "ladder" / "conf"
    assert sorted(ladders) == sorted(path.stem for path in (ROOT / "conf" / "ladder").glob("*.yaml"))
    assert min(lengths) > 1


def commands() -> list[str]:
    """Every module that `python -m` is for."""
    paths = (path for package in ("ladder", "analysis") for path in sorted((ROOT / package).rglob("*.py")))
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in paths
        if '\nif __name__ == "__main__":' in path.read_text()
    ]


def test_the_commands_that_users_rely_on_are_there() -> None:
    assert {"ladder.train", "analysis.cost", "analysis.table", "analysis.figures"} <= set(commands())


@pytest.mark.parametrize("module", commands())
def test_installed_command_has_help(module: str, installed: Path, tmp_path: Path) -> None:
    done = python(installed, tmp_path, "-m", module, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower() or module in done.stdout
    assert list(tmp_path.iterdir()) == []  # asking for help leaves nothing behind


def test_installed_train_composes_a_config(installed: Path, tmp_path: Path) -> None:
    done = python(installed, tmp_path, "-m", "ladder.train", "ladder=convnext_32", "data=digits", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert "ladder:" in done.stdout


def imported(package: str) -> set[str]:
    """Top names of all that a package's files import, at the top or later."""
    names: set[str] = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - set(PACKAGES) - {"__future__"}


def canonical(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_import_is_a_declared_dependency(package: str) -> None:
    extras = (
        requirement
        for name, extra in PROJECT["optional-dependencies"].items()
        if name != "dev"
        for requirement in extra
    )
    declared = {canonical(requirement) for requirement in (*PROJECT["dependencies"], *extras)}
    distributions = packages_distributions()
    undeclared = {
        name
        for name in imported(package)
        if not declared & {canonical(d) for d in (*distributions.get(name, ()), BROUGHT_BY.get(name, name))}
    }
    assert undeclared == set()
