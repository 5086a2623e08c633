"""Owns the odd values: what may stand behind an equals sign, the keys before it, and the flags beside."""

from __future__ import annotations

import random

from ladder.networks.spec import SPECS
from ladder.runs.config import DataConfig, EngineConfig, TrainConfig, WandbConfig
from ladder.training.recipe import Recipe


def words(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


_SECTIONS: dict[str, type] = {"recipe": Recipe, "data": DataConfig, "engine": EngineConfig, "wandb": WandbConfig}
KEYS = [
    *(key for key in TrainConfig.__dataclass_fields__ if key != "wandb"),
    *(f"{group}.{name}" for group, kind in _SECTIONS.items() for name in kind.__dataclass_fields__),
    *sorted({f"spec.{name}" for spec in SPECS.values() for name in spec.field_names()}),
]
KEYS.remove("engine.compile")  # minutes
HYDRA_KEYS = [
    "hydra",
    *(
        f"hydra.{key}"
        for key in words("callbacks job job_logging launcher mode output_subdir searchpath sweeper verbose")
    ),
    *(f"hydra.{key}" for key in words("job.chdir job.config_name job.env_set run.dir sweep.dir sweep.subdir")),
    *(f"hydra.sweeper.{key}" for key in words("_target_ max_batch_size params")),
    *(f"hydra.launcher.{key}" for key in words("_target_ n_jobs jobs_per_gpu gpus_per_job max_attempts preload")),
]
NEVER = ("data.download", "wandb.mode=online")  # what would ask the net
GROUPS = words("ladder recipe data experiment design hydra/launcher hydra/sweeper hydra/job_logging hydra/help")

WORDS = ["", " ", *words("null true false nan inf -inf ??? ~ None none auto a x=y / .")]
NUMBERS = [
    *words("0 1 -1 2 3 0.5 -0.0 1e-30 1e30 1e999 1.0 2.5 10 7 4 17 2147483648 4294967296 1_000 0x10 1e3"),
    *("9223372036854775807", "9223372036854775808", "9" * 400, "9" * 5000),
]
LISTS = [
    *words("[] [1] [1,1,1,1] [0,0,0,0] [a] [nan] [null] [[1]] [1,2,3] [0.5] [0.5,0.5] [-1,1] [1,1] [gelu,gelu]"),
    *words("[1e9,1,1,1] {} {a:1} {a:{b:[1]}} [{a:1}] [1 1] {a"),
    "[" * 60 + "]" * 60,
]
TEXTS = [
    *words("josé 日本語 ' \" \\ a\\,b $x ${seed} ${nothing} ${oc.env:NOTHING} ${ ${hydra:run.dir} ${oc.decode:[}"),
    *words("${recipe} ${data.root} ${rung} $(ls) `ls` ../up /x[1] x:y x@y # %s {0} - -- & | ; * here.txt loop"),
    *words("/dev/null /proc/self/mem /nowhere ~nobody/x ${now:%Y}"),
    *("a b", "'a b'", '"a"', "a" * 300, "a/" * 40 + "a", "é" * 200, "\x1b[31mred", "a\tb", "a\nb", "\u2028", "\u202er"),
]
REAL = words("gelu 0 12 resnet convnext_t convmixer_32 digits cifar cifar10 imagefolder demo timm")
SWEEPS = words(
    """1,2 0,0 1,a 1, , [1],[2] {a:1},{b:2} null,1 range(3) range(3,0) range(0,1,0) range(1,3,0.3) range(a) range()
    range(1,3),5 interval(0,1) glob(*) glob([*]) glob(a,exclude=1) choice(1,2) choice() choice( choice(range(2))
    sort(2,1) sort(a,1) shuffle(1,2) shuffle(range(3)) tag(t,choice(1,2)) cast int(1.5) int([1,2]) str(1) json_str(1)
    f(x) extend_list(1) float(x) float('inf') bool(2)"""
)
FLAGS = [
    words(line)
    for line in (
        *("--cfg job", "--cfg hydra", "--cfg all", "--cfg x", "--cfg", "--resolve", "-m --cfg job", "--run -c job"),
        *("--cfg job --resolve", "--cfg job --package recipe", "--cfg job --package x", "--package x", "-m -r", "-r"),
        *("--info", "--info all", "--info config", "--info defaults", "--info plugins", "--info x", "-m --info"),
        *("--config-dir nowhere", "--config-dir here.txt", "--config-dir", "-cd .", "--config-path x"),
        *("--config-name x", "--config-name train.yaml", "--config-name ladder/convnext_32", "--config-name"),
        *("--hydra-help", "--shell-completion install=bash", "--experimental-rerun x", "--unknown", "-x", "--"),
        *("--multirun=1", "--help=1", "--version"),
    )
]


def value(rng: random.Random) -> str:
    """Anything that may stand behind an equals sign."""
    return rng.choice(rng.choice((WORDS, NUMBERS, NUMBERS, LISTS, TEXTS, REAL)))


def typo(rng: random.Random, text: str) -> str:
    """The text with a letter too few, twice, split off, or all in capitals."""
    if not text:
        return "x"
    i = rng.randrange(len(text))
    return rng.choice((text[:i] + text[i + 1 :], text[:i] + text[i] + text[i:], f"{text[:i]}_{text[i:]}", text.upper()))


def override(rng: random.Random) -> str:
    """One odd override."""
    key = rng.choice(KEYS if rng.random() < 0.9 else HYDRA_KEYS)
    kind = rng.random()
    if kind < 0.62:
        return f"{key}={value(rng)}"
    if kind < 0.72:
        return f"{rng.choice(('+', '++', '~'))}{key}{rng.choice(('', '=' + value(rng)))}"
    if kind < 0.80:
        return f"{typo(rng, key)}={rng.choice(('1', 'null', value(rng)))}"
    if kind < 0.86:
        return f"{key.rpartition('.')[2]}={value(rng)}"  # epochs=3
    if kind < 0.95:
        return f"{rng.choice(('', '', '+', '~'))}{rng.choice(GROUPS)}={value(rng)}"
    odd = words(f"{key}[0]=1 {key}@x=1 .{key}=1 {key}:=1 = ={key} {key} {key}==1 +{key}@_global_=1 {key}=1=2 ~ + @")
    return rng.choice((*odd, "", " ", f"{key} = 1", f"{key}.{value(rng)}=1", "a=b c=d"))


def overrides(rng: random.Random, count: int) -> list[str]:
    """Some odd overrides, none of which asks the net for something."""
    made = [override(rng) for _ in range(count)]
    return [text for text in made if not text.lstrip("+").startswith(NEVER)]
