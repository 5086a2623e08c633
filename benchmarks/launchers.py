"""Owns the comparison of Hydra launchers: what a sweep costs beside the training itself.

    python benchmarks/launchers.py                       local beside Hydra's basic launcher
    python benchmarks/launchers.py --launchers local,joblib,ray    (pip install hydra-joblib-launcher ray)
    python benchmarks/launchers.py --done                how long it takes to find that 1,000 runs are done

Each launcher runs two sweeps of equal tiny runs, a short and a long one, in fresh folders. From their wall times:
start = seconds before a run is under way, once a sweep; each = seconds that one more run adds.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUN = (
    "ladder=convnext_mini",
    "data=digits",
    "data.image_size=16",
    "spec.depths=[1,1,1,1]",
    "spec.widths=[4,4,8,8]",
    "recipe.epochs=1",
    "recipe.warmup_epochs=0",
    "wandb.mode=disabled",
    "device=cpu",
    "engine.threads=1",
)
PARALLEL = {
    "local": "hydra.launcher.n_jobs={}",
    "joblib": "hydra.launcher.n_jobs={}",
    "ray": "+hydra.launcher.init.num_cpus={}",
    "basic": None,
}
DONE = {
    "10 rungs x 100 seeds": ("rung=range(10)", "seed=range(100)"),
    "250 configs x 4 seeds": (
        "rung=range(10)",
        f"recipe.lr={','.join(f'{i}e-4' for i in range(1, 26))}",
        "seed=range(4)",
    ),
}


def seconds(launcher: str, runs: int, at_a_time: int) -> float:
    """Wall seconds of one sweep of `runs` runs."""
    option = PARALLEL[launcher]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "ladder.train", "-m", f"hydra/launcher={launcher}", *RUN]
        command += [f"seed=range({runs})", f"runs_dir={folder}"]
        command += [option.format(at_a_time)] if option else []
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        took = time.perf_counter() - began
        results = len(list(Path(folder).glob("*/*/result.json")))
    if done.returncode or results != runs:
        raise SystemExit(f"error: {launcher} did {results} of {runs} runs: {(done.stderr or done.stdout)[-500:]}")
    return took


def skipping(grid: Sequence[str]) -> tuple[float, float]:
    """Seconds, wall and CPU, of a launch of 1,000 runs that are all done."""
    sys.path.insert(0, str(ROOT))
    from ladder.launch.sweeper import runs_of

    with tempfile.TemporaryDirectory() as folder:
        overrides = [*RUN, *grid, f"runs_dir={folder}"]
        for run in runs_of(overrides):
            run.dir.path.mkdir(parents=True)
            (run.dir.path / "result.json").write_text('{"format": 1}')
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "ladder.train", "-m", *overrides]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode or "1000 skipped" not in done.stdout:
        raise SystemExit(f"error: not 1,000 runs were skipped: {(done.stderr or done.stdout)[-500:]}")
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launchers", default="local,basic", help=f"of {', '.join(PARALLEL)}; default: local,basic")
    parser.add_argument("--runs", type=int, default=20, help="of the long sweep; default: 20")
    parser.add_argument("--at-a-time", type=int, default=os.cpu_count() or 1, help="default: one a core")
    parser.add_argument("--done", action="store_true", help="launch 1,000 runs that are done")
    args = parser.parse_args()
    if args.done:
        for name, grid in DONE.items():
            wall, cpu = skipping(grid)
            print(f"{name}: {wall:.1f} s ({cpu:.1f} s of CPU)", flush=True)
        return
    short = args.at_a_time
    if args.runs <= short:
        parser.error(f"--runs must be more than --at-a-time={short}")
    columns = (f"{short} runs, s", f"{args.runs} runs, s", "start, s", "each, s")
    print(f"{'launcher':10} {'at a time':>9} {columns[0]:>10} {columns[1]:>11} {columns[2]:>9} {columns[3]:>8}")
    for launcher in args.launchers.split(","):
        if launcher not in PARALLEL:
            parser.error(f"unknown launcher {launcher}; allowed: {', '.join(PARALLEL)}")
        if launcher == "joblib" and find_spec("hydra_plugins.hydra_joblib_launcher") is None:
            print("joblib     not installed: pip install hydra-joblib-launcher")
            continue
        width = args.at_a_time if PARALLEL[launcher] else 1
        few, many = seconds(launcher, short, width), seconds(launcher, args.runs, width)
        each = (many - few) / (args.runs - short)
        print(f"{launcher:10} {width:9} {few:10.1f} {many:11.1f} {few - short * each:9.1f} {each:8.2f}", flush=True)


if __name__ == "__main__":
    main()
