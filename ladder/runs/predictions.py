"""Owns `predictions.npz`: what a run's network says of every image of the evaluation split, after its last epoch."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ladder.paths import write_atomic
from ladder.runs.records import Unreadable

FILE = "predictions.npz"
MOST_BYTES = 2**30  # of the arrays, unpacked: more is no file of ours


@dataclass(frozen=True)
class Predictions:
    """One row an image, all of shape (images,), sorted by `image`."""

    image: NDArray[np.int64]  # its number in the evaluation split
    label: NDArray[np.int64]  # its class
    predicted: NDArray[np.int64]  # the class with the largest logit
    probability: NDArray[np.float32]  # of its class, 0 to 1 (stored as float16)
    class_names: tuple[str, ...]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which images are classified right."""
        return np.asarray(self.predicted == self.label)

    def write(self, path: Path) -> None:
        """Write the file, or leave the old one. Some 40 kB for 10,000 images. Raises OSError."""
        content = io.BytesIO()
        np.savez_compressed(
            content,
            image=smallest(self.image),
            label=smallest(self.label),
            predicted=smallest(self.predicted),
            probability=self.probability.astype(np.float16),
            class_names=np.array(self.class_names, dtype=np.str_),
        )
        write_atomic(path, content.getvalue())


def make(parts: Sequence[tuple[Any, ...]], class_names: Sequence[str]) -> Predictions:
    """Of arrays (image, label, predicted, probability), a tuple a batch or rank; image -1 is padding."""
    columns = zip(*parts, strict=True)
    image, label, predicted, probability = (np.concatenate([np.asarray(part) for part in parts]) for parts in columns)
    order = np.argsort(image, kind="stable")
    order = order[image[order] >= 0]
    return _checked(
        Predictions(
            image[order].astype(np.int64),
            label[order].astype(np.int64),
            predicted[order].astype(np.int64),
            probability[order].astype(np.float32),
            tuple(class_names),
        )
    )


def read(path: Path) -> Predictions | None:
    """The predictions of a run; None where there are none. Raises Unreadable."""
    arrays = read_arrays(path)
    if arrays is None:
        return None
    try:
        return _checked(
            Predictions(
                arrays["image"].astype(np.int64),
                arrays["label"].astype(np.int64),
                arrays["predicted"].astype(np.int64),
                arrays["probability"].astype(np.float32),
                tuple(str(name) for name in arrays["class_names"].reshape(-1)),
            )
        )
    except (KeyError, ValueError, TypeError) as error:
        raise Unreadable(f"{path.name} is not what a run writes ({error})") from None


def _checked(found: Predictions) -> Predictions:
    shapes = {array.shape for array in (found.image, found.label, found.predicted, found.probability)}
    if len(shapes) > 1 or len(shapes.pop()) != 1:
        raise ValueError("arrays of different sizes")
    for name, values in (("label", found.label), ("predicted class", found.predicted)):
        if values.size and not 0 <= values.min() <= values.max():
            raise ValueError(f"a {name} below 0")
    return found


def read_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """All arrays of a .npz file, without pickles; None where there is no such file. Raises Unreadable."""
    try:
        with zipfile.ZipFile(path) as packed:
            if sum(entry.file_size for entry in packed.infolist()) > MOST_BYTES:
                raise Unreadable(f"{path.name} is too large")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        return None
    except Unreadable:
        raise
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile) as error:
        raise Unreadable(f"{path.name} can't be read ({str(error)[:80]})") from None


def smallest(values: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers from 0 in the smallest type that holds them."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))
