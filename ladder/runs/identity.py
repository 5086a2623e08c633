"""Owns what a run's name is made of: all that changes its result, and what of that earlier versions hashed otherwise."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from ladder.data.content import Content
from ladder.errors import UserError
from ladder.networks.rungs import Rung
from ladder.runs.config import DATA_WITHOUT_EFFECT, ENGINE_WITH_EFFECT, DataConfig, EngineConfig
from ladder.runs.folder import RunDir
from ladder.runs.records import read_json_or_none
from ladder.training.recipe import Recipe

WEIGHTS = "model.safetensors"
_CHUNK = 2**20


def recipe_identity(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe changes a result."""
    return {k: v for k, v in asdict(recipe).items() if k != "source"}


def data_identity(data: DataConfig, content: Content | None) -> dict[str, Any]:
    """What of the data changes a result. An image folder is what lies in it, whatever it is called."""
    out = {k: v for k, v in asdict(data).items() if k not in DATA_WITHOUT_EFFECT}
    if content is None:
        return out
    return {**out, "name": data.source if data.source == "imagefolder" else data.name, "content": content.key}


def engine_identity(engine: EngineConfig) -> dict[str, Any]:
    """What of the engine changes a result."""
    return {k: getattr(engine, k) for k in ENGINE_WITH_EFFECT}


def former_spec(spec: Mapping[str, Any], rung: Rung, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A spec as it was hashed: with the values of the ladder file and the command line as they were written."""
    written = {**rung.change, **overrides}
    return {k: written[k] if k in written and _alike(written[k], v) else v for k, v in spec.items()}


def _alike(one: Any, other: Any) -> bool:
    one, other = (v.lower() if isinstance(v, str) else v for v in (one, other))
    return bool(one == other)


def weights_digests(weights: str) -> tuple[str, str]:
    """Digests of start weights, wherever they lie: of the tensors by name, and (what was hashed before) of the file.

    Raises UserError where there is no such file, or it holds no tensors.
    """
    file = Path(weights) / WEIGHTS if Path(weights).is_dir() else Path(weights)
    try:
        stat = file.stat()
        return _digests(str(file), stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise UserError(f"weights={weights}: {error.strerror}; give a run folder or a model.safetensors") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"weights={weights}: no safetensors file; give a run folder or a model.safetensors") from None


@lru_cache(maxsize=16)
def _digests(path: str, changed: int, size: int) -> tuple[str, str]:
    """By hand, as safetensors' own reader wants torch. Header: its length in 8 bytes, then JSON; then the tensors."""
    whole, tensors = hashlib.sha256(), []
    with open(path, "rb") as file:
        length = file.read(8)
        number = int.from_bytes(length, "little")
        if len(length) < 8 or number > size - 8:
            raise ValueError("no safetensors")
        header = file.read(number)
        whole.update(length + header)
        table = {k: v for k, v in json.loads(header).items() if k != "__metadata__"}
        for name, about in sorted(table.items(), key=lambda item: item[1]["data_offsets"]):
            begin, end = about["data_offsets"]
            own = hashlib.sha256()
            for start in range(begin, end, _CHUNK):
                part = file.read(min(_CHUNK, end - start))
                own.update(part)
                whole.update(part)
            tensors.append([name, about["dtype"], about["shape"], own.hexdigest()])
        whole.update(file.read())
    return hashlib.sha256(json.dumps(sorted(tensors)).encode()).hexdigest()[:16], whole.hexdigest()[:16]


def was_of(folder: RunDir, data: DataConfig, content: Content | None) -> bool:
    """Whether a run folder whose name does not tell its images is of these, as far as its files tell."""
    if content is None:
        return True
    if place(trained_root(folder)) != place(data.root):
        return False
    result = read_json_or_none(folder.path / "result.json")
    if result is None or not content.classes:
        return True
    whole = data.fraction == 1 and not data.holdout
    expected = {
        "num_classes": data.num_classes or content.classes,
        "train_size": content.train if whole else result.get("train_size"),
        "eval_size": result.get("eval_size") if content.evaluation is None else content.evaluation,
    }
    return all(result.get(key) == value for key, value in expected.items())


def place(root: str | None) -> str | None:
    """One path for each folder, however it is written."""
    return None if root is None else os.path.realpath(os.path.expanduser(root))


def trained_root(folder: RunDir) -> str | None:
    """The data.root that the run in a folder was trained with; None where it had none, or can't be read."""
    import yaml

    try:
        text = (folder.path / "config.yaml").read_text(encoding="utf-8")
        section = re.search(r"^data:\n((?: .*\n)+)", text, re.M)
        line = section and re.search(r"^  root: .*", section[1], re.M)  # not the whole file: a sweep reads many
        root = yaml.safe_load(line[0])["root"] if line else None
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return root if isinstance(root, str) else None
