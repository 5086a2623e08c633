"""Owns the search for studies that a command can't cope with: 1,500 broken ones, and a sample of them in every run.

Whatever is broken, a command ends with exit code 0, or with 2 and one line; it writes nothing outside the study and
what it was told to write, and nothing behind a link.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import study_trials
import tiny
import yaml

from analysis.export import export

STATES, SHARDS = 1500, 15


def _complete(study: Path) -> None:
    """Add to done runs one in each other state, and the note of a launcher."""
    first = sorted(study.glob("*-s*"))[0]
    for name, rung, state in (
        ("depthwise_conv-s0-0000aaaa", "depthwise_conv", "failed"),
        ("depthwise_conv-s1-0000bbbb", "depthwise_conv", "running"),
        ("increase_width-s0-0000cccc", "increase_width", "stopped"),
        ("kernel_7-s0-0000dddd", "kernel_7", "pending"),
    ):
        run = study / name
        shutil.copytree(first, run)
        (run / "result.json").unlink()
        status = json.loads((run / "status.json").read_text())
        status |= {"state": state, "rung": rung, "host": "elsewhere", "epoch": 1, "error": "loss is nan"}
        (run / "status.json").write_text(json.dumps(status))
        config = yaml.safe_load((run / "config.yaml").read_text())
        (run / "config.yaml").write_text(yaml.safe_dump({**config, "rung": rung}, sort_keys=False))
        if state == "pending":
            (run / "status.json").unlink()
    names = [*sorted(run.name for run in study.glob("*-s*")), "gelu-s0-0000eeee"]
    launches = {"ladder train -m rung=0,1,2 seed=0,1": {"launched": 1.0, "runs": names}}
    noted = json.loads((study / "study.json").read_text()) if (study / "study.json").exists() else {"format": 1}
    (study / "study.json").write_text(json.dumps({**noted, "launches": launches}))


def _faults(numbers: range, base: Path, packed: Path, place: Path) -> list[str]:
    out = []
    for number in numbers:
        said, ended = study_trials.trial(number, base, packed, place)
        out += [f"state {number} ({said}): {one.command}: {one.fault}" for one in ended if one.fault]
    return out


@pytest.fixture(scope="module")
def written(study_type: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A study as `ladder train` writes it, and the same packed."""
    place = tmp_path_factory.mktemp("base")
    study = study_type(place / "tiny").chain(seeds=(0, 1), rungs=("resnet", "stage_ratio", "patchify_stem"))
    _complete(study.root)
    export(study.root, place / "packed")
    return study.root, place / "packed"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A study that was trained, without its weights, and the same packed."""
    place = tmp_path_factory.mktemp("trained")
    for rung in ("resnet", "stage_ratio", "patchify_stem"):
        for seed in (0, 1):
            run = tiny.run_of(place, f"rung={rung}", f"seed={seed}", "study=tiny")
            assert tiny.train(run).state == "done"
            (run.dir.path / "model.safetensors").unlink()
            shutil.rmtree(run.dir.checkpoints)
            run.dir.checkpoints.mkdir()
    (place / "tiny" / ".study.lock").unlink()  # the breaker adds one
    _complete(place / "tiny")
    export(place / "tiny", place / "packed")
    return place / "tiny", place / "packed"


def test_a_sample_of_broken_studies(
    written: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawing = ("figures", "report", "publish", "plan")  # seconds each: with all states
    few = study_trials.commands
    monkeypatch.setattr(study_trials, "commands", lambda *given: (c for c in few(*given) if c[0] not in drawing))
    assert _faults(range(3), *written, tmp_path) == []


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_broken_studies(trained: tuple[Path, Path], tmp_path: Path, shard: int) -> None:
    each = STATES // SHARDS
    assert _faults(range(shard * each, (shard + 1) * each), *trained, tmp_path) == []
