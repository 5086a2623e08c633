"""Owns what is known of training speeds: measured by `ladder.bench` or by runs, scaled by MACs, or assumed of a GPU."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ladder.errors import UserError, one_line, unknown
from ladder.runs.records import Unreadable, checked, read_json

# Peak of dense bf16 (fp16 on V100) matrix products, FLOP/s, from the makers' data sheets.
PEAKS = {"h200": 989e12, "h100": 989e12, "a100": 312e12, "l4": 121e12, "rtx4090": 165e12, "v100": 125e12}
# Part of the peak that training reaches. timm's published figures (AMP, channels last) come to 0.3 to 0.4 on an RTX
# 3090 for ResNet-50 and ConvNeXt-T; the larger the GPU, the more it waits for memory. A guess, on the low side.
UTILISATION = 0.1
BACKWARD = 2  # a backward pass costs twice the MACs of a forward pass
LEAST = 1e-6  # of a speed or of MACs that may be divided by
SAME = 0.005  # relative difference of MACs below which two networks count as one


@dataclass(frozen=True)
class Speed:
    """A measured network. `macs` per image, forward; speeds in images/s; `infer` None where not measured."""

    name: str
    macs: float
    image_size: int
    train: float
    infer: float | None
    precision: str
    device: str
    source: str  # what measured it

    @property
    def where(self) -> str:
        """Device and source."""
        return f"{self.device}, {self.source}"


@dataclass(frozen=True)
class Estimate:
    """Images/s of a network in training and evaluation, and how they are known: measured, scaled or assumed."""

    train: float
    infer: float
    how: str
    note: str
    device: str


class Speeds:
    """What was measured; or, failing that, a GPU's peak and the part of it that is assumed to be reached."""

    def __init__(
        self, measured: Sequence[Speed] = (), gpu: str | None = None, utilisation: float = UTILISATION
    ) -> None:
        if gpu is not None and gpu.lower() not in PEAKS:
            raise unknown("GPU", gpu, PEAKS)
        if not 0 < utilisation <= 1:
            raise UserError(f"utilisation {utilisation:g}: must be above 0, at most 1")
        self.measured, self.gpu, self.utilisation = list(measured), gpu, utilisation

    def of(self, name: str, macs: float, image_size: int, precision: str) -> Estimate | None:
        """The speed of a network of `macs` per image; None where nothing is known."""
        if self.measured:
            near = min(self.measured, key=lambda s: (s.name != name, abs(math.log(s.macs / macs))))
            ratio = near.macs / macs
            infer = near.infer or near.train * (1 + BACKWARD)
            same = near.name == name and abs(ratio - 1) < SAME and near.image_size == image_size
            if same and near.precision == precision:
                return Estimate(near.train, infer, "measured", near.where, near.device)
            why = f"from {near.name} at {near.image_size} px in {near.precision}, by MACs; {near.where}"
            return Estimate(near.train * ratio, infer * ratio, "scaled", why, near.device)
        if self.gpu is not None:
            flops = PEAKS[self.gpu.lower()] * self.utilisation
            note = (
                f"{self.utilisation:.0%} of the peak of one {self.gpu} ({PEAKS[self.gpu.lower()] / 1e12:.0f} TFLOP/s)"
            )
            train, infer = flops / (2 * macs * (1 + BACKWARD)), flops / (2 * macs)
            return Estimate(train, infer, "assumed", note, f"one {self.gpu.upper()}")
        return None


def from_bench(path: Path) -> list[Speed]:
    """The networks of a file that `ladder bench ... format=json out=FILE` wrote. Raises UserError."""
    try:
        record = read_json(path)
        if record is None:
            raise UserError(f"bench file {path}: No such file or directory")
        conditions, rows = record.values["conditions"], record.values["rows"]
        place = str(conditions["precision"]), str(conditions["device"]), f"ladder.bench ({path})"
        return [_speed(row, *place) for row in rows if not row.get("failed")]
    except Unreadable as reason:
        raise UserError(f"bench file {path}: {reason}") from None
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is not what `ladder bench ladder=... format=json out=FILE` writes: {one_line(error)}"
        ) from None


def from_result(result: dict[str, Any], precision: str, source: str) -> list[Speed]:
    """The networks of a `ladder.bench.bench` result."""
    device = str(result["conditions"]["device"])
    return [_speed(row, precision, device, source) for row in result["rows"] if not row.get("failed")]


def _speed(row: dict[str, Any], precision: str, device: str, source: str) -> Speed:
    def positive(key: str) -> float:
        value = checked(row[key], float, LEAST)
        if value is None:
            raise ValueError(f"{key} is {row[key]}")
        return value

    return Speed(
        name=str(row["name"]).removeprefix("timm "),
        macs=positive("macs"),
        image_size=int(positive("image_size")),
        train=positive("train_images_per_s"),
        infer=None if row.get("infer_images_per_s") is None else positive("infer_images_per_s"),
        precision=precision,
        device=device,
        source=source,
    )


def from_study(folder: Path) -> list[Speed]:
    """The networks that the done runs of a study trained, at the speed they did (median over runs of a rung)."""
    from analysis.read.load import local_folders, read_rows

    found: dict[tuple[str, float, int, str, str], list[float]] = {}
    for row in read_rows(local_folders(folder)[0])[0]:
        if row["state"] == "done" and all((row[n] or 0) > LEAST for n in ("macs", "image_size", "images_per_s")):
            key = (row["rung"], float(row["macs"]), row["image_size"], str(row["precision"]), str(row["device"]))
            found.setdefault(key, []).append(row["images_per_s"])
    if not found:
        raise UserError(f"{folder} has no done runs to take speeds from")
    return [
        Speed(rung, macs, size, statistics.median(speeds), None, precision, device, f"runs of {folder}")
        for (rung, macs, size, precision, device), speeds in found.items()
    ]
