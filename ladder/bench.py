"""Owns throughput and memory: rungs and timm models side by side on this machine, timed in turns."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ladder.common.command import command
from ladder.common.yaml_files import parse_yaml
from ladder.errors import UserError, run_cli, unknown
from ladder.networks.rungs import load_ladder
from ladder.networks.timm_hook import without_wandb
from ladder.paths import strict_json, write_atomic

if TYPE_CHECKING:
    import torch

    from ladder.networks.cost_records import Cost

KEYS = """examples, as FLOPs are not speed:
  ladder bench ladder=convnext_t 'models=[swin_tiny_patch4_window7_224]'
  ladder bench ladder=convnext_mini 'rungs=[resnet,gelu]' batch_size=64 format=md

keys:
  ladder       a ladder; without `rungs` all its main rungs
  rungs        some of them, by name: 'rungs=[resnet50,gelu]'
  models       timm models beside them: 'models=[resnet50,convnext_tiny]'
  modes        'modes=[train,infer]': a training step (forward, loss, backward, AdamW) and inference, in images/s
  batch_size, image_size (default: the ladder's), in_chans, num_classes
  device       auto | cpu | cuda | cuda:N           threads   of the CPU
  precision    float32 | bf16 | fp16                channels_last, compile   true | false
  rounds       turns of every model (default 5)     seconds   a turn lasts at least (default 0.5)
  format       text | md | csv | json               out       a file instead of the terminal
"""
_MOST = {
    "batch_size": 1_000_000,
    "rounds": 10_000,
    "num_classes": 10_000_000,
    "in_chans": 65_536,
    "image_size": 4096,
    "threads": 4096,
}
WARM_UP = 3  # untimed steps of each model and mode: lazy initialisation, autotuning, compilation


@dataclass
class BenchConfig:
    """What `ladder bench` measures; `KEYS` says more."""

    ladder: str | None = None
    rungs: list[str] | None = None
    models: list[str] = field(default_factory=list)
    modes: list[str] = field(default_factory=lambda: ["train", "infer"])
    batch_size: int = 32
    image_size: int | None = None
    in_chans: int = 3
    num_classes: int = 1000
    device: str = "auto"
    threads: int | None = None
    precision: str = "float32"
    channels_last: bool = True
    compile: bool = False
    rounds: int = 5
    seconds: float = 0.5
    format: str = "text"
    out: str | None = None

    def check(self) -> None:
        """Raise UserError naming the first value that can't be."""
        if self.ladder is None and not self.models:
            raise UserError("nothing to measure: give ladder=NAME or models=[timm names]")
        if not self.modes:
            raise UserError("modes=[]: nothing to measure; allowed: train, infer")
        for key in ("rungs", "models", "modes"):
            names = getattr(self, key) or []
            if not all(isinstance(name, str) for name in names):
                raise UserError(f"{key}={names}: must be a list of names: {key}=[gelu,resnet]")
        for mode in self.modes:
            if mode not in ("train", "infer"):
                raise unknown("mode", mode, ["train", "infer"])
        if self.precision not in ("float32", "bf16", "fp16"):
            raise unknown("precision", self.precision, ["float32", "bf16", "fp16"])
        if self.format not in ("text", "md", "csv", "json"):
            raise unknown("format", self.format, ["text", "md", "csv", "json"])
        for name, most in _MOST.items():
            if (value := getattr(self, name)) is not None and not 1 <= value <= most:
                raise UserError(f"{name}={value}: must be 1 or more, at most {most:,}")
        if not 0 < self.seconds <= 3600:
            raise UserError(f"seconds={self.seconds:g}: must be above 0, and at most 3600")
        if self.out is not None and not Path(self.out).parent.is_dir():
            raise UserError(f"out={self.out}: {Path(self.out).parent} is not a folder")


@dataclass
class Entry:
    """One network on the bench, and what was measured: images/s of each turn, peak memory in bytes."""

    name: str
    params: int
    macs: int
    image_size: int
    step: dict[str, Callable[[], None]]
    speeds: dict[str, list[float]] = field(default_factory=dict)
    peak_memory_bytes: dict[str, int | None] = field(default_factory=dict)
    failed: str | None = None
    resident: int = 0  # bytes of weights and batch on the GPU

    def row(self) -> dict[str, Any]:
        """Plain values: median and interquartile range over turns, per mode."""
        row: dict[str, Any] = {
            "name": self.name,
            "params": self.params,
            "macs": self.macs,
            "image_size": self.image_size,
        }
        for mode, speeds in self.speeds.items():
            quarters = statistics.quantiles(speeds, n=4) if len(speeds) > 1 else [speeds[0]] * 3
            row[f"{mode}_images_per_s"] = statistics.median(speeds)
            row[f"{mode}_iqr"] = quarters[2] - quarters[0]
            row[f"{mode}_peak_memory_bytes"] = self.peak_memory_bytes.get(mode)
        return row | {"failed": self.failed}


def networks(config: BenchConfig) -> Iterator[tuple[str, Callable[[], torch.nn.Module], int]]:
    """Name, constructor and image size of everything asked for. Raises UserError on a wrong name."""
    import timm

    from ladder.networks.build import build_net

    common: dict[str, Any] = {"num_classes": config.num_classes, "in_chans": config.in_chans}
    if config.ladder is not None:
        chain = load_ladder(config.ladder)
        size = config.image_size or chain.image_size
        for rung in [chain.rung(r) for r in config.rungs] if config.rungs else chain.rungs:
            yield rung.name, partial(build_net, rung.spec.for_images(size), **common), size
    for name in config.models:
        if not timm.is_model(name):
            raise unknown("timm model", name, timm.list_models(f"*{name.split('_')[0]}*")[:12])
        cfg = timm.get_pretrained_cfg(name)
        size = config.image_size or (cfg.input_size[-1] if cfg else 224)
        yield f"timm {name}", partial(_build_timm, name, size, **common), size


def _build_timm(name: str, size: int, **common: Any) -> torch.nn.Module:
    import timm

    from ladder.networks.spec import TimmSpec
    from ladder.networks.timm_model import build_timm_model

    if name.startswith("ladder_"):  # ours, which is no reference
        return timm.create_model(name, **common)
    return build_timm_model(TimmSpec(name, image_size=size), **common)


def sketch(name: str, build: Callable[[], torch.nn.Module], size: int, config: BenchConfig) -> Cost:
    """What a network costs, from its shapes alone. Raises UserError where it can't be measured as `config` asks."""
    import torch

    from ladder.networks.build import ONE_VALUE, check_memory, takes_one_image
    from ladder.networks.cost import measure_cost

    with torch.device("meta"):
        model = build()
    cost = measure_cost(model, size, config.in_chans)
    check_memory(4 * cost.params, f"the weights of {name}")
    check_memory(4 * config.batch_size * config.in_chans * size**2, f"{config.batch_size:,} images of {size} px")
    if config.batch_size == 1 and "train" in config.modes and not takes_one_image(model, size, config.in_chans):
        raise UserError(f"batch_size=1: {name} can't be trained so: {ONE_VALUE}; give 2 or more, or modes=[infer]")
    return cost


def set_up(
    name: str, build: Callable[[], torch.nn.Module], size: int, cost: Cost, config: BenchConfig, device: torch.device
) -> Entry:
    """A network on the device with a fixed random batch, its steps ready to run."""
    import torch

    from ladder.networks.pointwise import can_be_channels_last

    torch.manual_seed(0)
    model = build()
    channels_last = config.channels_last and (
        device.type != "cpu" or can_be_channels_last(model, size, config.in_chans)
    )
    if channels_last != config.channels_last:
        name += " (channels_first)"  # see can_be_channels_last
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(device, memory_format=layout)  # type: ignore[call-overload]
    images = torch.randn(config.batch_size, config.in_chans, size, size, device=device)
    images = images.contiguous(memory_format=layout)
    labels = torch.randint(config.num_classes, (config.batch_size,), device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    forward: Any = torch.compile(model) if config.compile else model
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.precision)

    def autocast() -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(device.type, dtype) if dtype is not None else contextlib.nullcontext()

    def train() -> None:
        model.train()
        with autocast():
            loss = torch.nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def infer() -> None:
        model.eval()
        with torch.inference_mode(), autocast():
            forward(images)

    steps = {"train": train, "infer": infer}
    return Entry(name, cost.params, cost.macs, size, {mode: steps[mode] for mode in config.modes})


def measure(entries: list[Entry], config: BenchConfig, device: torch.device, say: Callable[[str], None]) -> None:
    """Time all entries in turns, so that a machine that slows down slows all of them."""
    import torch

    cuda = device.type == "cuda"

    def finish() -> None:
        if cuda:
            torch.cuda.synchronize(device)

    def images_per_s(step: Callable[[], None], count: int) -> float:
        finish()
        since = time.perf_counter()
        for _ in range(count):
            step()
        finish()
        return count * config.batch_size / (time.perf_counter() - since)

    for mode in config.modes:
        counts: dict[str, int] = {}
        for entry in entries:
            before = torch.cuda.memory_allocated(device) if cuda else 0
            if cuda:
                torch.cuda.reset_peak_memory_stats(device)
            try:
                images_per_s(entry.step[mode], WARM_UP)
                speed = images_per_s(entry.step[mode], 1)
            except torch.OutOfMemoryError:
                entry.failed = f"out of GPU memory at batch_size={config.batch_size}"
                torch.cuda.empty_cache()
                continue
            # of this network alone: its own weights and batch, and what the step took above all that lay there
            above = torch.cuda.max_memory_allocated(device) - before if cuda else 0
            entry.peak_memory_bytes[mode] = entry.resident + above if cuda else None
            counts[entry.name] = max(1, round(config.seconds * speed / config.batch_size))
        for turn in range(config.rounds):
            say(f"{mode}: turn {turn + 1} of {config.rounds}")
            for entry in entries:
                if entry.failed is None:
                    speed = images_per_s(entry.step[mode], counts[entry.name])
                    entry.speeds.setdefault(mode, []).append(speed)


def bench(config: BenchConfig, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Measure all that `config` asks for.

    Returns:
        `conditions` (device, precision, layout, compile, batch size, versions) and `rows`, one a network: params,
        macs, and for each mode the median images/s over turns, its interquartile range and the peak memory in bytes
        (None on a CPU, where it can't be told from that of the process).

    Raises:
        UserError: wrong names or values.
    """
    config.check()
    with without_wandb():
        import torch

        from ladder.training.distributed import device_name, pick_device

        device = pick_device(config.device)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")
        asked = [(*network, sketch(*network, config)) for network in networks(config)]
        entries = []
        for name, build, size, cost in asked:
            say(f"building {name}")
            torch._dynamo.reset() if config.compile else None
            before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
            entries.append(set_up(name, build, size, cost, config, device))
            if device.type == "cuda":
                entries[-1].resident = torch.cuda.memory_allocated(device) - before
    measure(entries, config, device, say)
    conditions = {
        "device": device_name(device),
        "precision": config.precision,
        "layout": "channels_last" if config.channels_last else "channels_first",
        "compile": config.compile,
        "batch_size": config.batch_size,
        "rounds": config.rounds,
        "torch": torch.__version__,
    }
    return {"conditions": conditions, "rows": [entry.row() for entry in entries]}


def render(result: dict[str, Any], kind: str) -> str:
    """The result as text, md, csv or json."""
    if kind == "json":
        return strict_json(result, 1)
    import pandas as pd

    frame = pd.DataFrame(result["rows"])
    if kind == "csv":
        return frame.assign(**{k: str(v) for k, v in result["conditions"].items()}).to_csv(index=False).rstrip()
    shown = pd.DataFrame({"network": frame["name"], "px": frame["image_size"]})
    shown["params M"] = (frame["params"] / 1e6).map("{:.2f}".format)
    shown["MACs G"] = (frame["macs"] / 1e9).map("{:.3f}".format)
    for mode in ("train", "infer"):
        if f"{mode}_images_per_s" in frame:
            middle, spread = frame[f"{mode}_images_per_s"], frame[f"{mode}_iqr"]
            pairs = zip(middle, spread, strict=True)
            shown[f"{mode} images/s"] = ["-" if pd.isna(m) else f"{m:,.1f} ± {s / 2:,.1f}" for m, s in pairs]
            memory = frame[f"{mode}_peak_memory_bytes"]
            if memory.notna().any():
                shown[f"{mode} peak GiB"] = ["-" if pd.isna(m) else f"{m / 2**30:.2f}" for m in memory]
    if frame["failed"].notna().any():
        shown["failed"] = frame["failed"].fillna("")
    note = ", ".join(f"{k} {v}" for k, v in result["conditions"].items() if v is not None)
    note = f"median over turns ± half the interquartile range; {note}"
    if kind == "md":
        head = [list(shown.columns), ["---"] * len(shown.columns)]
        lines = [f"| {' | '.join(map(str, row))} |" for row in [*head, *shown.to_numpy().tolist()]]
        return "\n".join([*lines, "", note])
    return f"{shown.to_string(index=False)}\n\n{note}"


def parse(arguments: Sequence[str]) -> BenchConfig:
    """key=value arguments as a config. Raises UserError naming the nearest keys."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from ladder.runs.hydra import of_omegaconf

    config = OmegaConf.structured(BenchConfig)
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or key not in BenchConfig.__dataclass_fields__:
            raise unknown("key", key, BenchConfig.__dataclass_fields__)
        try:
            OmegaConf.update(config, key, parse_yaml(text, argument))
        except OmegaConfBaseException as error:
            raise of_omegaconf(error, BenchConfig) from None
    return BenchConfig(**OmegaConf.to_container(config))  # type: ignore[arg-type]


@command("bench", examples=KEYS)
@click.argument("keys", nargs=-1, metavar="KEY=VALUE...", help="what to measure, and how")
def main(keys: tuple[str, ...]) -> int:
    """Throughput and memory: rungs and timm models side by side on this machine, timed in turns."""
    config = parse(keys)
    result = bench(config, lambda text: print(text, file=sys.stderr, flush=True))
    text = render(result, config.format)
    if config.out is None:
        print(text)
    else:
        try:
            write_atomic(Path(config.out), text + "\n")
        except OSError as error:
            raise UserError(f"out={config.out}: {error.strerror}") from None
    return 1 if any(row["failed"] for row in result["rows"]) else 0


if __name__ == "__main__":
    run_cli(main)
