"""Owns the tests of what charts remember of networks: the same as read off them, and never in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.show import anatomy as blocks
from analysis.show import remembered
from analysis.show.charts import cost
from ladder.networks.rungs import list_ladders, load_ladder
from ladder.networks.spec import FactorySpec, Spec

SPECS = [rung.spec for name in list_ladders() for rung in load_ladder(name).rungs[-1:]]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "modernization-ladder" / "networks"


def _both(spec: Spec) -> list[object]:
    """As a new process gives them."""
    blocks.anatomy.cache_clear()
    cost._layers.cache_clear()
    return [blocks.anatomy(spec, 64, 3), cost._layers(spec, 64, 10, 3)]


def _no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("read off the network again")

    monkeypatch.setattr(blocks, "_read_off", fail)
    monkeypatch.setattr(cost, "_read_off", fail)


@pytest.mark.parametrize("spec", SPECS, ids=list_ladders())
def test_what_is_remembered_is_what_was_read_off(spec: Spec, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _both(spec)
    if isinstance(spec, FactorySpec):  # timm's code, or the user's: not ours to know when it changes
        assert not kept.exists()
        return
    _no_reading(monkeypatch)
    assert _both(spec) == first
    with pytest.raises(AssertionError):
        cost._layers(spec, 96, 10, 3)
    with pytest.raises(AssertionError):
        blocks.anatomy(spec, 64, 1)


def test_other_code_and_other_specs_are_read_off_anew(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load_ladder("convnext_mini").rungs[-1].spec
    _both(spec)
    _no_reading(monkeypatch)
    blocks.anatomy.cache_clear()
    with pytest.raises(AssertionError):
        blocks.anatomy(spec.replace(kernel_size=9), 64, 3)
    code = remembered._code()
    monkeypatch.setattr(remembered, "_code", lambda: ["another", *code[1:]])
    with pytest.raises(AssertionError):
        _both(spec)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"anatomy": 3, "cost": {"a": 1}}', '{"cost": [[1]]}'])
def test_a_broken_file_is_replaced(content: str, kept: Path) -> None:
    spec = load_ladder("convnext_mini").rungs[0].spec
    first = _both(spec)
    whole = {file: file.read_text() for file in kept.iterdir()}
    assert len(whole) == 2
    for file in whole:
        file.write_text(content)
    assert _both(spec) == first
    assert {file: file.read_text() for file in kept.iterdir()} == whole
    json.loads(next(iter(whole.values())))


def test_nothing_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    spec = load_ladder("convnext_mini").rungs[0].spec
    assert _both(spec) == _both(spec)


def test_charts_of_known_networks_take_no_torch(kept: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from analysis.figures import main\n"
        "for word in ('blocks', 'cost_by'):\n"
        "    main(['runs/published/demo', '--formats', 'svg', '--only', word, '--out', sys.argv[1]])\n"
        "print('torch' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    drawn = []
    for name, imported in (("first", "True"), ("again", "False")):
        words = [sys.executable, "-c", code, str(tmp_path / name)]
        done = subprocess.run(words, cwd=root, capture_output=True, text=True, env=os.environ, check=True)
        assert done.stdout.split()[-1] == imported
        drawn.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert drawn[0] == drawn[1] and len(drawn[0]) == 3
