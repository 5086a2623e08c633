"""Owns the trials of odd input: command lines, config files, ladder files and image folders that nobody meant.

    python tests/support/odd_input.py configs 1000 --seed 11     # run them, and print what a user would complain about

Each case is a pure function of its kind, the seed and its number.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable

from odd_files import odd_images, odd_ladder_file, odd_yaml
from odd_values import FLAGS, GROUPS, HYDRA_KEYS, KEYS, SWEEPS, overrides, typo, value, words
from trial import Case, Ended, run, warm_up

from ladder.bench import BenchConfig
from ladder.paths import conf_dir

TINY = (
    *("ladder=convnext_32", "data=digits", "data.image_size=16", "data.fraction=0.1", "spec.depths=[1,1,1,1]"),
    *("spec.widths=[8,8,16,16]", "recipe.epochs=1", "recipe.warmup_epochs=0", "recipe.batch_size=16"),
    *("wandb.mode=disabled", "device=cpu", "engine.threads=1"),
)


def _plain(rng: random.Random) -> Case:
    return Case("train", (*TINY, *overrides(rng, rng.choice((1, 1, 1, 2, 3)))))


# allowed each, and may not fit one another
_ALLOWED = {
    "data.image_size": "1 2 7 8 15 16 33",
    "recipe.batch_size": "1 2 3 5 16 143 144 1000000",
    "engine.accumulate": "1 1 2 3",
    "recipe.mixup": "0 0 0.8",
    "recipe.cutmix": "0 0 1.0",
    "spec.stem_stride": "1 2 4",
    "spec.norm": "batch batch layer",
    "rung": "0 1 2 7 11 12 kernel_5",
    "recipe.crop": "none pad random_resized",
    "recipe.crop_padding": "0 1 100",
    "data.loader": "memory memory timm",
    "data.in_chans": "1 1 3",
    "data.mean": "[0.5] [0.5,0.5,0.5]",
    "data.holdout": "0 0.2 0.9",
    "data.fraction": "0.1 0.01 0.001",
    "recipe.optimizer": "adamw momentum lamb lbfgs adafactor sgd muon lookahead_adamw sparseadam",
    "recipe.randaugment": "null rand-m9-mstd0.5-inc1 augmix-m5 rand-x rand original-mstd0.5 rand-m9-n0",
    "recipe.ema_decay": "null 0.9",
    "recipe.layer_decay": "null 0.5",
    "recipe.reprob": "0 1.0",
    "recipe.schedule": "cosine step piecewise constant",
    "recipe.warmup_epochs": "0 1 5",
    "recipe.schedule_unit": "iteration epoch",
    "engine.precision": "float32 bf16 fp16",
    "engine.channels_last": "true false",
    "engine.checkpoint_activations": "false true",
    "engine.deterministic": "null true false",
    "engine.eval_every": "1 7",
    "data.workers": "0 1",
    "data.num_classes": "null 10 11 1 100000",
    "data.train_split": "train test",
    "data.eval_split": "test val auto",
}


def _pair(rng: random.Random) -> Case:
    keys = rng.sample(sorted(_ALLOWED), rng.choice((2, 3, 5)))
    return Case("train", (*TINY, *(f"{key}={rng.choice(words(_ALLOWED[key]))}" for key in keys)))


def _group(rng: random.Random) -> Case:
    names = sorted(p.stem for g in ("ladder", "recipe", "data", "experiment") for p in (conf_dir() / g).glob("*.yaml"))
    name = rng.choice((rng.choice(names), typo(rng, rng.choice(names)), value(rng)))
    return Case("train", (*TINY, f"{rng.choice(GROUPS)}={name}", *overrides(rng, rng.choice((0, 0, 1)))))


def _sweep(rng: random.Random) -> Case:
    base = [o for o in TINY if rng.random() < 0.97]
    key = rng.choice(("rung", "rung", "seed", "seed", *KEYS))
    many = [f"{key}={rng.choice((rng.choice(SWEEPS), rng.choice(SWEEPS), value(rng) + ',' + value(rng)))}"]
    many = [m for m in many if not m.startswith("data.download")] + overrides(rng, rng.choice((0, 0, 1)))
    kind = rng.random()
    if kind < 0.55:
        return Case("plan", (*base, *many))
    if kind < 0.8:
        return Case("train", ("-m", *base, "hydra/launcher=basic", *many))
    return Case("train", ("-m", *base, f"{rng.choice(HYDRA_KEYS)}={value(rng)}", *many))


def _flag(rng: random.Random) -> Case:
    more = overrides(rng, rng.choice((0, 0, 1)))
    return Case("train", (*TINY, *rng.choice(FLAGS), *more), (("here.txt", b"x: 1\n"),))


def _own_file(rng: random.Random) -> Case:
    """A config of one's own, in one's own folder, with something odd in it."""
    group = rng.choice(("recipe", "data", "experiment", "ladder"))
    path = rng.choice(sorted((conf_dir() / group).glob("*.yaml")))
    content = odd_yaml(rng, path.read_text())
    arguments = (*TINY, f"{group}=own", *overrides(rng, rng.choice((0, 0, 0, 1))))
    return Case("train", ("--config-dir", "mine", *arguments), ((f"mine/{group}/own.yaml", content),))


def _folder(rng: random.Random) -> Case:
    files, links = odd_images(rng)
    more = rng.choice(([], [], ["data.num_classes=1"], ["data.in_chans=1"], ["data.root=set/train"]))
    more += rng.choice(([], [], ["recipe.mixup=0.8"], ["data.holdout=0.5"], ["data.eval_split=val"]))
    arguments = (
        *(o for o in TINY if not o.startswith(("data", "recipe.batch"))),
        *("data=imagefolder", "data.root=set", "data.image_size=16", "data.workers=0", "recipe.batch_size=2"),
        f"data.loader={rng.choice(('memory', 'timm'))}",
        *more,
    )
    return Case("train", arguments, tuple(files.items()), tuple(links))


def _weights(rng: random.Random) -> Case:
    """Weights to start from that are none."""
    content = rng.choice((b"", b"x" * 100, b"\xff" * 8, (10**6).to_bytes(8, "little") + b"{}"))
    odd = rng.choice((*words("w.safetensors w w/config.yaml nowhere /dev/null /dev/zero . /"), value(rng)))
    files = (("w.safetensors", content), ("w/config.yaml", b""))
    return Case("train", (*(("-m", "rung=0,1") if rng.random() < 0.3 else ()), *TINY, f"weights={odd}"), files)


_CONFIGS: dict[Callable[[random.Random], Case], int] = {
    _plain: 36, _pair: 14, _group: 6, _sweep: 14, _flag: 6, _own_file: 12, _folder: 10, _weights: 2
}  # fmt: skip


def odd_config(rng: random.Random) -> Case:
    """An odd command line of `ladder train` or `ladder plan`, at times with odd files beside it."""
    (make,) = rng.choices(list(_CONFIGS), list(_CONFIGS.values()))
    return make(rng)


def odd_ladder(rng: random.Random) -> Case:
    """An odd ladder file, and a command that reads it."""
    content = odd_ladder_file(rng)
    command = rng.choice(("cost", "cost", "train", "train", "plan", "bench"))
    if command in ("train", "plan"):
        arguments = [o for o in TINY if not o.startswith(("ladder", "spec"))]
        where = ("--config-dir", "mine") if command == "train" else ("hydra.searchpath=[file://mine]",)
        return Case(command, (*where, *arguments, "ladder=own"), (("mine/ladder/own.yaml", content),))
    name = rng.choice(("own.yaml", "own.yaml", "own.yml", "ö w n.yaml"))
    if command == "bench":
        few = words("modes=[infer] rounds=1 seconds=0.01 batch_size=1 device=cpu image_size=32")
        return Case("bench", (f"ladder={name}", *few), ((name, content),))
    return Case("cost", (name, *rng.choice(((), ("--image-size", "32")))), ((name, content),))


def odd_preview(rng: random.Random) -> Case:
    """Odd arguments of `ladder preview`."""
    kind = rng.random()
    if kind < 0.3:
        case = _folder(rng)
        more = rng.choice(((), ("recipe.mixup=0.8",), ("recipe.cutmix=1.0", "recipe.label_smoothing=0.1")))
        return Case(
            "preview", (*case.arguments, *more, "--images", rng.choice(words("2 4 8 20"))), case.files, case.links
        )
    keys = [k for k in KEYS if k.startswith(("data", "recipe", "seed")) and k != "data.download"]
    odd = (
        [f"{rng.choice(keys)}={value(rng)}" for _ in range(rng.choice((1, 1, 2)))] if kind < 0.8 else overrides(rng, 1)
    )
    outs = ("no/where.png", ".", "x.pdf", "x" * 300, "/dev/full", value(rng))
    images = ("100000", "1e9", "7", value(rng))
    flags: tuple[str, ...] = rng.choice(
        ((), (), (), ("--out", rng.choice(outs)), ("--images", rng.choice(images)), ("--unknown",), ("--images",))
    )
    few = () if "--images" in flags else ("--images", rng.choice(("2", "4")))
    return Case("preview", ("data=digits", "recipe=digits", *odd, *few, *flags))


_BENCH = {
    "models": "[resnet18] resnet18 [x] [] [ladder_convnext_32] [resnet18,resnet18] [vit_tiny_patch16_224] [1] [[a]]",
    "modes": "[] [train] [infer,infer] train [x] [train,infer]",
    "batch_size": "0 1 -1 1e9 10000000 1.5",
    "image_size": "0 1 2 8 16 1000000 null",
    "rungs": "[] [0] [x] gelu [gelu,gelu] null [99] [null] [kernel_5]",
    "seconds": "0 inf nan -1 1e-9",
    "num_classes": "0 1 2 1000000000",
    "in_chans": "0 1 2 100000000",
    "device": "cuda cuda:99 tpu meta cpu:0 mps",
    "out": "no/where . /dev/full '' /dev/null " + "x" * 300,
    "precision": "bf16 fp16 int8",
    "threads": "0 1000000 2",
    "ladder": "convmixer_32 [a nowhere.yaml . null /dev/zero.yaml [convnext_32]",
}


def odd_bench(rng: random.Random) -> Case:
    """Odd arguments of `ladder bench`."""
    few = words("ladder=convnext_32 rungs=[gelu] modes=[infer] rounds=1 seconds=0.01 batch_size=2 device=cpu threads=1")
    arguments = list(few)
    for _ in range(rng.choice((1, 1, 2, 3))):
        key = rng.choice([*_BENCH, *(k for k in BenchConfig.__dataclass_fields__ if k not in ("compile", "rounds"))])
        odd = rng.choice(words(_BENCH[key])) if key in _BENCH and rng.random() < 0.6 else value(rng)
        text = f"{key}={odd}"
        arguments.append(rng.choice((*[text] * 8, f"{typo(rng, key)}={odd}", key, f"+{text}", f"--{text}")))
    if rng.random() < 0.2:
        arguments.remove(rng.choice(few[:2]))
    return Case("bench", tuple(arguments))


KINDS: dict[str, Callable[[random.Random], Case]] = {
    "configs": odd_config,
    "ladders": odd_ladder,
    "preview": odd_preview,
    "bench": odd_bench,
}


def odd(kind: str, seed: int, number: int) -> Case:
    """Case `number` of a kind."""
    return KINDS[kind](random.Random(f"{kind} {seed} {number}"))


def tried(kind: str, seed: int, numbers: range, told: Callable[[int, Case, Ended], None]) -> Counter[str]:
    """Run cases of a kind; how often each fault was found, and how often each exit code came."""
    warm_up()
    counts: Counter[str] = Counter()
    for number in numbers:
        case = odd(kind, seed, number)
        ended = run(case)
        faults = ended.faults()
        counts["cases"] += 1
        counts[f"exit {ended.code}"] += 1
        counts["cases with a fault"] += bool(faults)
        counts.update(faults)
        told(number, case, ended)
    return counts


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="show what each command said, not only those with a fault")
    args = parser.parse_args()
    since = time.monotonic()

    def tell(number: int, case: Case, ended: Ended) -> None:
        if args.all or ended.faults():
            shown = ended.err if len(ended.err) < 3000 else f"{ended.err[:1000]}\n...\n{ended.err[-1500:]}"
            verdict = "; ".join(ended.faults()) or "good"
            print(f"--- {args.kind} {number}: {verdict}\n{case}\n{ended.code} {shown}", flush=True)

    counts = tried(args.kind, args.seed, range(args.first, args.first + args.count), tell)
    print("\n".join(f"{count:6} {name}" for name, count in counts.most_common()))
    print(f"{time.monotonic() - since:6.0f} seconds")


if __name__ == "__main__":
    _main()
