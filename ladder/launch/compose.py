"""Owns the fast way from the overrides of a sweep's job to its run, equal to composing its config in full.

Hydra composes a config in some 100 ms, nearly all of it spent on the defaults list, which only the overrides of
config groups (`recipe=cifar`) can change. So that is done once for each set of those; plain values (`rung=3`) are
applied to a copy, by Hydra's own code, and runs that differ in nothing but the seed share all but their hash.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, flag_override, open_dict

from ladder.data.content import Content, content_of
from ladder.networks.rungs import Ladder
from ladder.runs.config import DataConfig
from ladder.runs.resolve import Run, resolve


@dataclass(frozen=True)
class _Base:
    """A config composed with group overrides only, in a form that is cheap to copy."""

    config: DictConfig  # without `ladder`, which is large and hardly ever overridden
    ladder: Any
    reads_hydra: bool  # its values refer to Hydra's own config, which is another one in each job
    is_plain: bool  # no value of it refers to another


class Composer:
    """Turns the overrides of jobs into runs. Each run is resolved once, however often it is asked for."""

    def __init__(self, loader: ConfigLoaderImpl, master: DictConfig) -> None:
        self.full_compositions = 0
        self._loader, self.master = loader, master
        self._parser = OverridesParser.create(config_loader=loader)
        hydra = list(master.hydra.overrides.hydra)
        _, self._repository = loader._parse_overrides_and_create_caching_repo(master.hydra.job.config_name, hydra)
        self._parsed: dict[str, tuple[Override, bool]] = {}
        self._bases: dict[tuple[str, ...], _Base] = {}
        self._ladders: dict[tuple[str, ...], Ladder] = {}  # by overrides of groups
        self._last: tuple[Any, list[Override], DictConfig] | None = None  # a config, and keys and values it has
        self._runs: dict[tuple[str, ...], Run] = {}
        self._contents: dict[tuple[Any, ...], Content | None] = {}

    def run(self, overrides: Sequence[str]) -> Run:
        """The run of a job. Raises UserError, or Hydra's and OmegaConf's errors, for overrides that can't be."""
        seed = self._seed(overrides)
        if seed is None:
            return self._resolve(tuple(overrides)).settled()
        number, rest = seed
        if rest not in self._runs:
            self._runs[rest] = self._resolve(tuple(overrides))
        return self._runs[rest].with_seed(number).settled()

    def config(self, overrides: Sequence[str]) -> DictConfig:
        """The composed config of a job, without Hydra's own part."""
        groups, values = self._split(overrides)
        base = self._base(groups)
        if base.reads_hydra:
            return self._compose(overrides)
        config = copy.deepcopy(base.config)
        with flag_override(config, ["no_deepcopy_set_nodes", "struct"], [not _touch_ladder(values), False]):
            config.ladder = base.ladder
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        return config

    def _resolve(self, overrides: tuple[str, ...]) -> Run:
        groups, values = self._split(overrides)
        config = self._like_the_last(groups, values, overrides)
        if _touch_ladder(values) or self._base(groups).reads_hydra:
            return resolve(config, contents=self._content)
        run = resolve(config, self._ladders.get(groups), self._content)
        self._ladders[groups] = run.ladder
        return run

    def _content(self, data: DataConfig) -> Content | None:
        """What lies in the folder of a data set, listed once for all jobs."""
        where = data.source, data.name, data.timm_name, data.root
        key = *where, data.train_split, data.eval_split, bool(data.holdout)
        if key not in self._contents:
            self._contents[key] = content_of(data)
        return self._contents[key]

    def _like_the_last(self, groups: tuple[str, ...], values: list[Override], overrides: tuple[str, ...]) -> DictConfig:
        """The config of a job; where it sets the same keys as the one before, that one's with these set anew.

        Copying a config is most of the time that it takes. What is returned is good until the next call.
        """
        simple = all(o.type is OverrideType.CHANGE and _is_plain(o.value()) for o in values)
        keys = (groups, tuple(o.key_or_group for o in values))
        last, self._last = self._last, None  # none, should this fail half way
        if simple and last is not None and last[0] == keys:
            changed = [new for new, old in zip(values, last[1], strict=True) if new is not old]
            config = last[2]
            ConfigLoaderImpl._apply_overrides_to_config(changed, config)
        else:
            config = self.config(overrides)
        if simple and not self._base(groups).reads_hydra:
            self._last = keys, values, config
        return config

    def _seed(self, overrides: Sequence[str]) -> tuple[int, tuple[str, ...]] | None:
        """The seed of a job and its other overrides; None where it is no plain number, or others may refer to it."""
        seeds = [text for text in overrides if self._parse(text)[0].key_or_group == "seed"]
        if len(seeds) != 1 or (override := self._parse(seeds[0])[0]).type is not OverrideType.CHANGE:
            return None
        value = override.value()
        groups, values = self._split(overrides)
        if type(value) is not int or not self._base(groups).is_plain or any(_refers(o.value()) for o in values):
            return None
        return value, tuple(text for text in overrides if text != seeds[0])

    def _split(self, overrides: Sequence[str]) -> tuple[tuple[str, ...], list[Override]]:
        """Overrides of config groups, as text, and those of values, parsed."""
        parsed = [(text, *self._parse(text)) for text in overrides]
        return tuple(text for text, _, group in parsed if group), [o for _, o, group in parsed if not group]

    def _parse(self, text: str) -> tuple[Override, bool]:
        """An override, and whether it is one of a config group: told apart as Hydra's defaults list does."""
        if text not in self._parsed:
            override = self._parser.parse_overrides([text])[0]
            group = not isinstance(override.value(), dict) and self._repository.group_exists(override.key_or_group)
            self._parsed[text] = override, group
        return self._parsed[text]

    def _base(self, groups: tuple[str, ...]) -> _Base:
        if groups not in self._bases:
            config = self._compose(groups)
            text = OmegaConf.to_yaml(config)
            ladder = config._get_node("ladder")
            config.ladder = None
            self._bases[groups] = _Base(config, ladder, "${hydra" in text, "${" not in text)
        return self._bases[groups]

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        self.full_compositions += 1
        config = self._loader.load_sweep_config(self.master, list(overrides))
        with open_dict(config):
            del config["hydra"]
        return config


def _touch_ladder(values: Sequence[Override]) -> bool:
    return any(o.key_or_group.partition(".")[0] == "ladder" for o in values)


def _is_plain(value: Any) -> bool:
    """A value that stands for itself and replaces all that its key held before."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or (isinstance(value, int | float | str) and not _refers(value))


def _refers(value: Any) -> bool:
    """Whether a value, as parsed (Hydra writes it with backslashes into the jobs of a sweep), refers to others."""
    if isinstance(value, dict):
        return any(_refers(inner) for pair in value.items() for inner in pair)
    return any(map(_refers, value)) if isinstance(value, list) else isinstance(value, str) and "${" in value
