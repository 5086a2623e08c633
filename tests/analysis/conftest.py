"""Owns the study fixtures of the analysis tests: run folders as `ladder.train` writes them, numbers chosen."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from ladder.networks.rungs import Ladder, Rung, load_ladder
from ladder.runs.folder import METRICS

RECIPE = {"name": "tiny", "epochs": 3, "batch_size": 64, "lr": 0.004, "mixup": 0.0}
DATA = {"name": "digits", "source": "digits", "image_size": 32, "in_chans": 1, "holdout": 0.0}


def _hash(value: object) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


class Study:
    """Writes runs of one ladder into one folder."""

    def __init__(self, root: Path, ladder: str = "convnext_32") -> None:
        self.root = root
        self.ladder: Ladder = load_ladder(ladder)
        root.mkdir(parents=True, exist_ok=True)

    def run(
        self,
        rung: str,
        seed: int,
        top1: float | None = None,
        *,
        state: str = "done",
        recipe: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        spec: Mapping[str, Any] | None = None,
        error: str | None = None,
        epochs_done: int | None = None,
        steps: Iterable[str] | None = None,
        result: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Path:
        """One run folder in the given state; other keyword arguments, and `result`, replace fields of result.json.

        `steps`: a subset of the steps in place of a rung.
        """
        what = self._what(rung) if steps is None else self.ladder.subset(steps)
        rung = what.name
        full_recipe, full_data = {**RECIPE, **(recipe or {})}, {**DATA, **(data or {})}
        from_recipe = {k: v for k, v in full_recipe.items() if k == "drop_path" and k in what.spec.field_names()}
        config = {
            "ladder": self.ladder.name,
            "rung": rung if steps is None else None,
            "steps": None if steps is None else list(steps),
            "without": None,
            "reference": rung if what.is_reference else None,
            "spec": {**what.spec.to_dict(), **from_recipe, **(spec or {})},
            "recipe": full_recipe,
            "data": full_data,
            "engine": {"precision": "float32", "threads": 1},
            "seed": seed,
            "study": self.root.name,
            "runs_dir": "runs",
            "device": "cpu",
            "wandb": {"mode": "disabled"},
        }
        group = _hash([full_recipe, full_data, self.ladder.name])
        own = _hash([group, rung, config["spec"], seed])
        path = self.root / f"{rung}-s{seed}-{own}"
        (path / "checkpoints").mkdir(parents=True, exist_ok=True)
        (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        if state == "pending":
            return path
        epochs = int(full_recipe["epochs"])
        done = epochs if state == "done" else 1 if epochs_done is None else epochs_done
        last = 90.0 if top1 is None else top1
        status = {
            **{"format": 1, "state": state, "attempts": 1, "error": error, "heartbeat": 1e9, "pid": 1, "host": "h"},
            **{"started": 1e9, "epoch": done, "epochs": epochs, "step": done * 22, "steps": epochs * 22},
            **{"top1": last if done else None, "images_per_s": 900.0, "eta_s": None},
            **{"ladder": self.ladder.name, "rung": rung, "seed": seed},
        }
        (path / "status.json").write_text(json.dumps(status))
        with open(path / "metrics.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, METRICS, lineterminator="\n")
            writer.writeheader()
            for epoch in range(1, done + 1):
                gap = ((epochs - epoch) / epochs) ** 3
                writer.writerow(
                    {
                        **{"epoch": epoch, "step": epoch * 22, "train_loss": 0.2 + 2 * gap, "eval_loss": 0.3 + 2 * gap},
                        **{"top1": max(0.0, last - 40 * gap), "top5": 99.0, "ema_top1": "", "lr": 0.004 * gap},
                        **{"images_per_s": 900.0 + epoch, "seconds": 1.5},
                    }
                )
        if state == "done":
            (path / "result.json").write_text(
                json.dumps(self._result(what, seed, last, config, group, own) | fields | dict(result or {}))
            )
        return path

    def _what(self, name: str) -> Rung:
        """The rung of a name; else the model of timm."""
        known = {rung.name: rung for rung in (*self.ladder.rungs, *self.ladder.side_rungs)}
        return known[name] if name in known else self.ladder.reference(name)

    def _result(
        self, what: Rung, seed: int, top1: float, config: Mapping[str, Any], group: str, own: str
    ) -> dict[str, Any]:
        recipe, data = config["recipe"], config["data"]
        return {
            **{"format": 1, "ladder": self.ladder.name, "kind": self.ladder.kind, "rung": what.name},
            **{"rung_index": what.index, "title": what.title, "group": what.group, "parent": what.parent},
            **{"seed": seed, "data": data["name"], "eval_split": "test", "train_size": 1437, "eval_size": 360},
            **{"num_classes": 10, "image_size": data["image_size"], "in_chans": data["in_chans"]},
            **{"recipe": recipe["name"], "epochs": recipe["epochs"], "steps": recipe["epochs"] * 22},
            **{"batch_size": recipe["batch_size"], "lr": recipe["lr"]},
            "final": {"top1": top1, "top5": 99.5, "eval_loss": 0.3, "train_loss": 0.2, "ema_top1": None},
            "best": {"top1": top1 + 0.3, "epoch": 2},
            **{"params": 1_000_000 + 1000 * (what.index or 0), "macs": 35_200_000, "images_per_s": 900.0 + seed},
            **{"peak_memory_bytes": None, "wall_s": 4.5, "device": "cpu", "precision": "float32"},
            **{"config_hash": own, "group_hash": group, "git_commit": "a" * 40, "git_dirty": False},
            "versions": {"ladder": "0.1.0", "python": "3.11.7", "torch": "2.15.0", "timm": "1.0.31"},
            "finished": "2026-01-01T00:00:00Z",
        }

    def chain(
        self,
        seeds: Iterable[int] = (0, 1, 2),
        rungs: Iterable[str] | None = None,
        top1: Callable[[int, int], float] = lambda index, seed: 90 + 0.5 * index + 0.1 * seed * (-1) ** index,
        **more: Any,
    ) -> Study:
        """A done run of every main rung (or those named) for every seed; top-1 from rung number and seed."""
        names = [r.name for r in self.ladder.rungs]
        for name in rungs if rungs is not None else names:
            for seed in seeds:
                self.run(name, seed, top1(names.index(name), seed), **copy.deepcopy(more))
        return self


@pytest.fixture
def assert_readable(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """A check that no text of a figure leaves it and that no two texts lie on one another."""
    from matplotlib.text import Text

    drawn: list[Text] = []
    draw = Text.draw

    def record(self: Text, renderer: Any, *args: Any, **kwargs: Any) -> None:
        if self.get_visible() and self.get_text().strip(" +"):
            drawn.append(self)
        draw(self, renderer, *args, **kwargs)

    def check(figure: Any) -> None:
        drawn.clear()
        monkeypatch.setattr(Text, "draw", record)
        figure.canvas.draw()
        monkeypatch.setattr(Text, "draw", draw)
        renderer = figure.canvas.get_renderer()
        width, height = figure.canvas.get_width_height()
        boxes = [(t.get_text(), Text.get_window_extent(t, renderer)) for t in drawn]
        for text, box in boxes:
            assert box.x0 >= -1 and box.x1 <= width + 1 and box.y0 >= -1 and box.y1 <= height + 1, (text, box)
        for i, (text, box) in enumerate(boxes):
            for other, second in boxes[i + 1 :]:
                over_x = min(box.x1, second.x1) - max(box.x0, second.x0)
                over_y = min(box.y1, second.y1) - max(box.y0, second.y0)
                assert over_x < 2 or over_y < 3.5, (text, other)

    return check


@pytest.fixture(scope="session")
def study_type() -> type[Study]:
    """The writer of study folders, for fixtures that outlive a test."""
    return Study


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Study]:
    """A function that starts a study folder: make_study("demo") or make_study("t", ladder="convnext_t")."""
    return lambda name="demo", ladder="convnext_32": Study(tmp_path / "runs" / name, ladder)
