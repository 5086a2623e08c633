"""Owns the command `ladder export`: a study as three small files, to keep where run folders are not."""

from __future__ import annotations

import csv
import io
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.show import options
from ladder.common.command import FOLDER, command
from ladder.common.text import printable, safe_cell
from ladder.errors import UserError, one_line, run_cli
from ladder.paths import strict_json
from ladder.runs.folder import METRICS, OWN_FOLDERS
from ladder.runs.records import Unreadable

if TYPE_CHECKING:
    import pandas as pd

    from ladder.runs.predictions import Predictions

EXAMPLES = """examples:
  ladder export runs/cifar10 --out runs/published/cifar10
  ladder report runs/published/cifar10          as of the run folders

results.csv, curves.csv and study.json hold all that tables, charts and the report need; weights, logs and checkpoints
stay behind. design.json goes along where a design was launched. predictions.npz keeps what each run said of each test
image, probabilities rounded to 1/255. Where data and runs lay on your machine is left out, and with it W&B's entity.
"""
_PLACES = {
    "data.root": None,
    "runs_dir": "runs",
    "wandb.entity": None,
    "wandb.dir": None,
}  # of this machine or person: not for others


@command("export", examples=EXAMPLES)
@options.study()
@click.option("--out", type=FOLDER, required=True, metavar="DIR", help="such as runs/published/cifar10")
def main(study: str, out: Path) -> None:
    """A study's results, curves and configs as three small files that a repository can hold."""
    for path in export(study, out):
        print(path)


def export(study: str | Path, out: Path, *, on_skip: Callable[[str], None] | None = None) -> list[Path]:
    """Pack one study into the folder `out`; the paths written. `analysis.load(out)` gives the frames of `study`.

    The same but for `study` and `path`, which are those of `out`, and for paths of this machine within `error`.

    Raises:
        UserError: as `analysis.load`; where `out` holds something else, or can't be written.
    """
    from analysis.compare.reproduce import launches
    from analysis.read import packed
    from analysis.read.columns import UNREADABLE
    from analysis.read.configs import read_config
    from analysis.read.load import load
    from analysis.read.predictions import readable
    from analysis.show.files import write
    from ladder.common.nested import flatten
    from ladder.launch import design_file
    from ladder.networks.rungs import is_installed
    from ladder.runs.predictions import FILE
    from ladder.runs.study import noted_ladders

    tell = on_skip or (lambda line: print(f"skipped {line}", file=sys.stderr))
    _check_out(out)
    runs = load(study, on_skip=tell)
    runs = runs[runs["state"] != UNREADABLE]
    if not len(runs):
        raise UserError(f"{study} has no run: nothing to export")
    configs = {str(r.run): flatten(read_config(str(r.path)) or {}) for r in runs.itertuples()}
    configs = {run: _portable(config) for run, config in configs.items()}
    shared = packed.common(c for c in configs.values() if c)
    content = {
        "packed": packed.FORMAT,
        "launches": {_without_places(c): {"runs": names} for c, names in launches(runs).items()},
        "config": shared,
        "configs": {run: {k: v for k, v in c.items() if k not in shared} for run, c in configs.items() if c},
    }
    curves = _curves({str(r.run): str(r.path) for r in runs.itertuples()}, tell)
    (folder,) = {Path(path).parent for path in runs["path"]}
    if own := {name: values for name, values in noted_ladders(folder).items() if not is_installed(name, values)}:
        content["ladders"] = own
    found = {path: each for path in map(str, runs["path"]) if (each := readable(path)) is not None}
    files: dict[str, str | bytes] = {}
    if found:
        files[FILE] = _predictions({Path(path).name: each for path, each in found.items()})
    if design := design_file.packed(folder):
        files[design_file.FILE] = design
    files |= {packed.RESULTS: _results(runs), packed.CURVES: curves}
    files[packed.STUDY] = strict_json(content, 1) + "\n"  # last: what makes the others a study
    for name, written in files.items():
        write(out / name, written)
    return [out / name for name in files]


def _predictions(found: Mapping[str, Predictions]) -> bytes:
    import numpy as np

    from analysis.read.predictions import packed

    content = io.BytesIO()
    np.savez_compressed(content, **packed(found))
    return content.getvalue()


def _check_out(out: Path) -> None:
    from analysis.read.packed import FILES

    if out.is_dir():
        own = (*FILES, *OWN_FOLDERS, "report.html", "predictions.npz", "design.json")
        others = [p.name for p in out.iterdir() if p.name not in own]
        if others:
            raise UserError(
                f"--out {out} holds other things ({', '.join(sorted(others)[:3])}): give a folder of its own"
            )


def _results(runs: pd.DataFrame) -> str:
    from analysis.read.packed import KEPT

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(KEPT)
    for row in runs[list(KEPT)].itertuples(index=False, name=None):
        writer.writerow([_cell(name, value) for name, value in zip(KEPT, row, strict=True)])
    return text.getvalue()


def _cell(name: str, value: Any) -> str:
    import pandas as pd

    if pd.isna(value):
        return ""
    if isinstance(value, float):
        return repr(float(value))  # to the last bit
    if name == "error":
        return safe_cell(_without_here(str(value)))
    if isinstance(value, str):
        return safe_cell(value)
    text = str(value)
    return text.lower() if text in ("True", "False") else text


def _curves(paths: Mapping[str, str], tell: Callable[[str], None]) -> str:
    """All metrics.csv as one, cell by cell as they were."""
    from analysis.read.curves import text_of

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("run", *METRICS))
    for run, path in paths.items():
        try:
            rows = list(csv.DictReader(text_of(path).splitlines()))
        except (Unreadable, csv.Error) as reason:
            tell(printable(f"{path}: {one_line(reason)}"))
            continue
        if all(isinstance(row.get(name), str) for row in rows for name in METRICS):
            writer.writerows([safe_cell(run), *(_number(row[name]) for name in METRICS)] for row in rows)
        else:
            tell(printable(f"{path}: metrics.csv is broken or lacks a column"))
    return out.getvalue()


def _number(text: str) -> str:
    """The cell of a number; what is none stays so, and can't be taken for a formula either."""
    try:
        float(text or 0)
    except ValueError:
        return safe_cell(printable(text))
    return text


def _portable(config: dict[str, Any]) -> dict[str, Any]:
    out = {key: _PLACES.get(key, value) for key, value in config.items()}
    return {key: _without_here(value) if isinstance(value, str) else value for key, value in out.items()}


def _without_places(command: str) -> str:
    """A launch without the keys that say where things lie here."""
    try:
        words = shlex.split(command)
    except ValueError:
        return _without_here(command)
    kept = [word for word in words if word.lstrip("+").partition("=")[0] not in _PLACES]
    return _without_here(shlex.join(kept))


def _without_here(text: str) -> str:
    for path, name in ((Path.cwd(), "."), (Path.home(), "~")):
        if len(path.parts) > 1:
            text = text.replace(str(path), name)
    return text


if __name__ == "__main__":
    run_cli(main)
