"""Owns the checks of predictions.npz: true to the result, whole over ranks, small, and harmless where it is broken."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tiny import run_of, start, train, wait

from ladder.runs import predictions
from ladder.runs.predictions import FILE, Predictions
from ladder.runs.records import Unreadable


def made(images: int, classes: int = 10) -> Predictions:
    random = np.random.default_rng(0)
    label, predicted = (random.integers(0, classes, images) for _ in range(2))
    probability = random.random(images).astype(np.float32)
    return Predictions(np.arange(images), label, predicted, probability, tuple(f"class {i}" for i in range(classes)))


def test_a_run_keeps_what_it_says_of_every_image(tmp_path: Path) -> None:
    run = run_of(tmp_path / "one", "rung=1", "recipe.epochs=2")
    assert train(run).state == "done"
    found = predictions.read(run.dir.path / FILE)
    result = json.loads((run.dir.path / "result.json").read_text())
    assert found is not None
    assert found.image.tolist() == list(range(result["eval_size"]))
    assert 100 * found.correct.mean() == pytest.approx(result["final"]["top1"])
    loss = -np.log(np.maximum(found.probability, 1e-7)).mean()
    assert loss == pytest.approx(result["final"]["eval_loss"], rel=0.05)  # float16, and nothing below its least
    two = run_of(tmp_path / "two", "rung=1", "recipe.epochs=2", "recipe.crop=none")
    assert wait(start(two, tmp_path, 2)) == [0, 0]
    both = predictions.read(two.dir.path / FILE)
    final = json.loads((two.dir.path / "result.json").read_text())["final"]
    assert both is not None and both.image.tolist() == found.image.tolist()
    assert np.array_equal(both.label, found.label)
    assert 100 * both.correct.mean() == pytest.approx(final["top1"])


def test_ten_thousand_images_take_less_than_60_kb(tmp_path: Path) -> None:
    written = made(10_000)
    written.write(tmp_path / FILE)
    assert (tmp_path / FILE).stat().st_size < 60_000
    found = predictions.read(tmp_path / FILE)
    assert found is not None and found.class_names == written.class_names
    for name in ("image", "label", "predicted"):
        assert np.array_equal(getattr(found, name), getattr(written, name))
    assert found.probability == pytest.approx(written.probability, abs=1e-3)


def test_what_is_no_such_file_is_told_and_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / FILE
    assert predictions.read(path) is None

    class Bad:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path(tmp_path / "ran").touch, ())

    good = {"image": [0], "label": [0], "predicted": [0], "probability": [0.5], "class_names": ["a"]}
    broken = {
        "text": b"no zip",
        "empty": b"",
        "pickle": {**good, "label": np.array([Bad()], dtype=object)},
        "missing": {"image": [0]},
        "lengths": {**good, "label": [0, 0]},
        "negative": {**good, "label": [-1]},
        "words": {**good, "predicted": ["x"]},
    }
    for content in broken.values():
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            np.savez(path, **{name: np.asarray(value) for name, value in content.items()})
        with pytest.raises(Unreadable):
            predictions.read(path)
    path.write_bytes(pickle.dumps(Bad()))
    with pytest.raises(Unreadable):
        predictions.read(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        entry = zipfile.ZipInfo("image.npy")
        bomb.writestr(entry, b"0" * 1000)
    monster = path.read_bytes().replace((1000).to_bytes(4, "little"), (2**31 - 1).to_bytes(4, "little"))
    path.write_bytes(monster)
    with pytest.raises(Unreadable):
        predictions.read(path)
    assert not (tmp_path / "ran").exists()
