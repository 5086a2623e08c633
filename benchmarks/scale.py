"""Owns the measurement of large studies: CPU seconds and peak memory to load, tabulate and report thousands of runs.

    python benchmarks/scale.py [--runs 10000] [--only load table report]

The study is runs/published/cifar10 as run folders, repeated under other seeds. Each part is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("load", "table", "status", "report")


def make(folder: Path, count: int) -> None:
    """Lay down `count` run folders."""
    import yaml

    from analysis.read.columns import RESULT
    from analysis.read.packed import find, unflatten
    from ladder.runs.folder import FORMAT, label

    packed = find(ROOT / "runs/published/cifar10")
    assert packed is not None
    rows = [row for row in packed.rows() if row["state"] == "done"]
    first = rows[0]["group_hash"]
    rows = list({row["rung"]: row for row in rows if row["group_hash"] == first}.values())
    for number in range(count):
        row = rows[number % len(rows)]
        seed = number // len(rows)
        config_hash = f"{zlib.crc32((row['rung'] + str(seed)).encode()):08x}"
        here = folder / label(row["rung"], seed, config_hash)
        here.mkdir(parents=True)
        values = {**row, "seed": seed, "config_hash": config_hash, "top1": row["top1"] + (seed * 37 % 101) / 100 - 0.5}
        result = unflatten({where: values.get(column) for column, (_, where) in RESULT.items()})
        config = {**packed.configs[row["run"]], "seed": seed, "study": folder.name}
        status = {"state": "done", "attempts": 1, "epoch": row["epochs"], "epochs": row["epochs"], "heartbeat": 1.8e9}
        status |= {"ladder": row["ladder"], "rung": row["rung"], "seed": seed, "format": FORMAT}
        (here / "result.json").write_text(json.dumps({"format": FORMAT, **result}))
        (here / "status.json").write_text(json.dumps(status))
        (here / "config.yaml").write_text(yaml.dump(config, sort_keys=False, Dumper=yaml.CSafeDumper))
        (here / "metrics.csv").write_text(packed.curves[row["run"]])


def part(name: str, folder: str) -> None:
    """One part of the measurement, in this process."""
    if name == "load":
        import analysis

        analysis.load(folder)
    else:
        from importlib import import_module

        import_module(f"analysis.{name}").main([folder])


def main() -> None:
    """Parse the command line, make the study, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "large"
        make(folder, given.runs)
        for name in given.only:
            code = f"import sys; sys.path.insert(0, 'benchmarks'); import scale; scale.part({name!r}, {str(folder)!r})"
            process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL)
            _, state, used = os.wait4(process.pid, 0)
            seconds, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
            print(f"{name:8} {seconds:6.1f} s of CPU, {peak:6.0f} MiB at most{', FAILED' if state else ''}", flush=True)


if __name__ == "__main__":
    main()
