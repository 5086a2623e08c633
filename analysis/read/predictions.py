"""Owns the reading of what runs predicted: from run folders, or from the one file of a packed study."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from analysis.read.packed import of_run
from ladder.runs.predictions import FILE, Predictions, read, read_arrays, smallest
from ladder.runs.records import Unreadable

_STEPS = 255  # of a probability in a packed study


def predictions_of(path: str) -> Predictions | None:
    """What the run at `path` predicted; None where it kept nothing (an older one). Raises Unreadable."""
    packed = of_run(path)
    if packed is None:
        return read(Path(path) / FILE)
    file = os.path.join(packed[0].folder, FILE)
    try:
        stamp = os.stat(file).st_mtime_ns
    except OSError:
        return None
    return _unpacked(file, stamp).get(packed[1])


def packed(found: Mapping[str, Predictions]) -> dict[str, Any]:
    """The arrays of one file for many runs. Images are kept once for all runs that saw the same ones.

    Probabilities are rounded to 1/255.
    """
    sets: dict[bytes, int] = {}
    arrays: dict[str, Any] = {}
    runs, of_set, predicted, probability = [], [], [], []
    for run, each in found.items():
        key = each.image.tobytes() + each.label.tobytes() + repr(each.class_names).encode()
        if key not in sets:
            number = sets[key] = len(sets)
            arrays |= {
                f"image_{number}": smallest(each.image),
                f"label_{number}": smallest(each.label),
                f"class_names_{number}": np.array(each.class_names, dtype=np.str_),
            }
        runs.append(run)
        of_set.append(sets[key])
        predicted.append(each.predicted)
        steps = np.nan_to_num(each.probability, nan=0.0)
        probability.append(np.clip(np.round(steps * _STEPS), 0, _STEPS).astype(np.uint8))
    return {
        "runs": np.array(runs, dtype=np.str_),
        "set": np.array(of_set, dtype=np.uint16),
        "predicted": smallest(np.concatenate(predicted)),
        "probability": np.concatenate(probability),
        **arrays,
    }


@lru_cache(maxsize=8)
def _unpacked(file: str, stamp: int) -> dict[str, Predictions]:
    arrays = read_arrays(Path(file))
    if arrays is None:
        return {}
    try:
        out, start = {}, 0
        for run, number in zip(arrays["runs"].tolist(), arrays["set"].tolist(), strict=True):
            image, label = (arrays[f"{name}_{number}"].astype(np.int64) for name in ("image", "label"))
            part = slice(start, start + len(image))
            predicted, probability = arrays["predicted"][part], arrays["probability"][part]
            if not len(image) == len(label) == len(predicted) == len(probability):
                raise ValueError("arrays of different sizes")
            names = tuple(str(name) for name in arrays[f"class_names_{number}"].reshape(-1))
            out[str(run)] = Predictions(
                image, label, predicted.astype(np.int64), (probability / np.float32(_STEPS)).astype(np.float32), names
            )
            start += len(image)
    except (KeyError, ValueError, TypeError) as error:
        raise Unreadable(f"{file} is not what ladder export writes ({error})") from None
    return out


def readable(path: str) -> Predictions | None:
    """As `predictions_of`; None, too, where what the run kept can't be read."""
    try:
        return predictions_of(path)
    except Unreadable:
        return None
