"""Owns the comparison of a training step of ours with timm's own network of the same shape, in one run, in turns.

    python benchmarks/models.py [threads=1] [batch_size=8] [image_size=128] [rounds=15] [precision=bf16] [device=cuda]

Prints a row per pair and memory layout: images/s of both (medians over turns) and the median of the turns' ratios;
above 1 ours is faster.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import replace
from functools import partial

import pandas as pd
import timm
import torch

from ladder.bench import BenchConfig, measure, parse, set_up
from ladder.errors import run_cli
from ladder.networks.zoo import build_model
from ladder.training.distributed import device_name, pick_device

PAIRS = {  # timm's name: ladder, rung
    "resnet50": ("convnext_t", "resnet50"),
    "convnext_tiny": ("convnext_t", "separate_downsampling"),
    "convmixer_768_32": ("convmixer_imagenet", "convmixer_768_32"),
}


def compare(config: BenchConfig) -> pd.DataFrame:
    """Times every pair, channels-last and not, ours and theirs in turns."""
    device = pick_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    size, rows = config.image_size or 128, []
    for channels_last in (False, True):
        layout = replace(config, channels_last=channels_last, modes=["train"])
        for name, place in PAIRS.items():
            entries = [
                set_up("ours", partial(build_model, *place), size, layout, device),
                set_up("timm", partial(timm.create_model, name), size, layout, device),
            ]
            assert (entries[0].params, entries[0].macs) == (entries[1].params, entries[1].macs)
            measure(entries, layout, device, lambda text: None)
            ours, theirs = (entry.speeds["train"] for entry in entries)
            ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
            rows.append(
                {
                    "network": name,
                    "layout": "channels_last" if channels_last else "channels_first",
                    "ours images/s": round(statistics.median(ours), 2),
                    "timm images/s": round(statistics.median(theirs), 2),
                    "ratio": round(statistics.median(ratios), 3),
                }
            )
            print(rows[-1], file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


def main() -> None:
    """Run the command line."""
    config = parse(["ladder=convnext_t", "batch_size=8", "rounds=15", "seconds=0.3", *sys.argv[1:]])
    print(compare(config).to_string(index=False))
    where = device_name(pick_device(config.device))
    versions = f"torch {torch.__version__}, timm {timm.__version__}"
    print(f"\n{where}, {config.precision}, {versions}")


if __name__ == "__main__":
    run_cli(main)
