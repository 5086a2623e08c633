"""Owns the measurement of data loading: this project's loaders beside timm's own, in one run, as ratios.

    python benchmarks/loading.py small --root FOLDER    # 32 px, a network in training: memory loader, timm's loader
    python benchmarks/loading.py large [--root FOLDER]  # 224 px, no network: timm loader, timm's create_loader

FOLDER holds train/CLASS/*.jpg and test/CLASS/*.jpg; `large` makes its own files where none is given. All sides do the
same steps in turn, a few at a time, round after round, so that whatever else the machine does meets all of them.
Printed are medians over rounds of images/s and of the ratios within each round. A side's first steps (imports, worker
start, decoding, warm-up) are not counted, as in a long training; `small` prints the seconds of decoding besides.

On a machine that others use too, `--clock cpu --threads 1 --workers 0` compares seconds of computing instead.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timm.data import create_dataset, create_loader

import ladder
from ladder.data import Batch, open_data
from ladder.runs.config import DataConfig
from ladder.training.recipe import Recipe

RAND = "rand-m9-mstd0.5-inc1"
MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]
Side = Callable[[], None]  # does one batch's work


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["small", "large"])
    parser.add_argument("--root", type=Path, help="folder with train/ and test/")
    parser.add_argument("--batch", type=int, default=128, help="images (default: 128)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=12, help="batches of each side in a round (default: 12)")
    parser.add_argument("--workers", default="0,2", help="worker counts to try (default: 0,2)")
    parser.add_argument("--threads", type=int, help="of torch (default: its own choice)")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--stem-stride", type=int, help="of the network (default: the ladder's, 2; 4 is a quarter)")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.what == "small" and args.root is None:
        parser.error("small needs --root")
    if args.threads:
        torch.set_num_threads(args.threads)
    workers = [int(w) for w in args.workers.split(",")]
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.device}, batch {args.batch}, {args.clock}"
    )
    if args.what == "small":
        small(args, workers)
    elif args.root:
        large(args, workers)
    else:
        with tempfile.TemporaryDirectory() as folder:
            args.root = Path(folder)
            make_photographs(args.root)
            large(args, workers)


def small(args: argparse.Namespace, workers: list[int]) -> None:
    """The small ladder's top rung in training: on one fixed batch, on the memory loader, on timm's."""
    device = torch.device(args.device)
    pad = Recipe(crop="pad", interpolation="bilinear", reprob=0.25)
    augmentations = {
        "pad crop, flip, erasing": pad,
        "random resized crop, flip, erasing": Recipe(reprob=0.25),
        "random resized crop, flip, RandAugment, erasing": Recipe(reprob=0.25, randaugment=RAND),
    }
    for name, recipe in augmentations.items():
        step = training_step(device, args.stem_stride)
        fixed = (torch.randn(args.batch, 3, 32, 32, device=device), torch.randint(10, (args.batch,), device=device))
        began = time.perf_counter()
        sides = {
            "bare": consumer(itertools.repeat(fixed), step),
            "memory": consumer(ours(args, recipe, 32, "memory", 0), step),
        }
        decoding = time.perf_counter() - began
        for count in workers if recipe is not pad else []:  # timm has no such crop
            sides[f"timm, {count} workers"] = consumer(timms(args, recipe, 32, count), step)
        rates = measure(sides, args)
        print(f"\n{name} (decoding: {decoding:.1f} s)")
        report(rates, "memory")


def large(args: argparse.Namespace, workers: list[int]) -> None:
    """Batches of 224 px from files, not used for anything."""
    recipe = Recipe(reprob=0.25, randaugment=RAND)
    for count in workers:
        # Workers run ahead while the other side is measured: with some, rounds must be longer than what they hold.
        sides = {
            "timm loader": consumer(ours(args, recipe, 224, "timm", count)),
            "create_loader": consumer(timms(args, recipe, 224, count)),
        }
        rates = measure(sides, args)
        print(f"\n224 px, {count} workers")
        report(rates, "timm loader")


def training_step(device: torch.device, stem_stride: int | None) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """One optimiser step of the small ladder's top rung, in the layout that the engine trains in by default."""
    torch.manual_seed(0)
    spec = {"stem_stride": stem_stride} if stem_stride else {}
    model = ladder.build_model("convnext_mini", num_classes=10, **spec).train()
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        images = images.contiguous(memory_format=torch.channels_last)
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def consumer(batches: Iterator[Batch], step: Callable[[torch.Tensor, torch.Tensor], None] | None = None) -> Side:
    """Takes a batch and does `step` on it."""

    def one() -> None:
        images, labels = next(batches)
        if step is not None:
            step(images, labels)

    return one


def ours(args: argparse.Namespace, recipe: Recipe, size: int, loader: str, workers: int) -> Iterator[Batch]:
    """This project's training batches, epoch after epoch."""
    config = DataConfig(
        name="benchmark",
        source="imagefolder",
        root=str(args.root),
        image_size=size,
        mean=MEAN,
        std=STD,
        loader=loader,
        workers=workers,
    )
    data = open_data(config, recipe, seed=0, micro_batch=args.batch, device=torch.device(args.device))
    return itertools.chain.from_iterable(data.train_batches(epoch) for epoch in itertools.count())


def timms(args: argparse.Namespace, recipe: Recipe, size: int, workers: int) -> Iterator[Batch]:
    """The same through timm's public functions, as its train.py uses them."""
    from ladder.data.randaugment import bounded

    dataset = create_dataset("", root=str(args.root), split="train", is_training=True)
    loader = create_loader(
        dataset,
        (3, size, size),
        args.batch,
        is_training=True,
        re_prob=recipe.reprob,
        re_mode=recipe.remode,
        color_jitter=None,
        auto_augment=recipe.randaugment,
        interpolation=recipe.interpolation,
        mean=tuple(MEAN),
        std=tuple(STD),
        num_workers=workers,
        pin_memory=args.device != "cpu",
        device=torch.device(args.device),
    )
    bounded(dataset.transform)  # or Pillow 13 ends the measurement
    return itertools.chain.from_iterable(iter(loader) for _ in itertools.count())


def measure(sides: dict[str, Side], args: argparse.Namespace) -> dict[str, list[float]]:
    """images/s of each side in each round."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    clock = time.perf_counter if args.clock == "wall" else time.process_time
    for round_ in range(-1, args.rounds):
        for name, side in sides.items():
            wait(args.device)
            began = clock()
            for _ in range(args.steps):
                side()
            wait(args.device)
            if round_ >= 0:
                rates[name].append(args.steps * args.batch / (clock() - began))
    return rates


def wait(device: str) -> None:
    """Let the device finish."""
    if device != "cpu":
        torch.cuda.synchronize()


def report(rates: dict[str, list[float]], of: str) -> None:
    """Print medians over rounds, and of the ratios to side `of`."""
    for name, values in rates.items():
        ratios = [mine / other for mine, other in zip(rates[of], values, strict=True)]
        low, middle, high = np.percentile(ratios, [25, 50, 75])
        print(
            f"  {name:18} {statistics.median(values):8.0f} images/s"
            + ("" if name == of else f"   {of} / {name}: {middle:.3f} (quartiles {low:.3f} to {high:.3f})")
        )


def make_photographs(root: Path, count: int = 512) -> None:
    """JPEG files of ImageNet's usual size, 500 x 375 and about 100 KB: smooth colours and some noise."""
    generator = np.random.default_rng(0)
    for split, number in (("train", count), ("test", 16)):
        for index in range(number):
            folder = root / split / str(index % 4)
            os.makedirs(folder, exist_ok=True)
            coarse = Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC)).astype(np.int16)
            noisy = smooth + generator.integers(-12, 13, smooth.shape, dtype=np.int16)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{index:04}.jpg", quality=90)


if __name__ == "__main__":
    main()
