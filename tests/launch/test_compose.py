"""Owns the proof that the fast way from overrides to a run ends where Hydra's full composition does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf, open_dict

from ladder.launch.compose import Composer
from ladder.paths import conf_dir
from ladder.runs.hydra import register_schema
from ladder.runs.resolve import resolve

VALUES = {
    "rung": ["3", "gelu", "kernel_9", "null", "99", "[gelu]"],
    "seed": ["0", "7", "-1", "abc", "1.5", "true", "${recipe.epochs}"],
    "steps": ["[gelu]", "[]", "gelu"],
    "study": ["a", "a/b", "x${seed}"],
    "device": ["cpu"],
    "recipe": ["digits", "cifar", "{epochs: 3}", "nope"],
    "recipe.epochs": ["3", "x", "null"],
    "recipe.lr": ["1e-3", "1", "0"],
    "recipe.betas": ["[0.9,0.95]", "[0.9]"],
    "recipe.nope": ["1"],
    "+recipe.nope": ["1"],
    "++recipe.lr": ["0.5"],
    "~recipe.lr": ["0.5"],
    "data": ["digits"],
    "data.image_size": ["16", "8"],
    "data.root": ["here", "${runs_dir}/there"],
    "ladder": ["convnext_32", "convnext_t", "nope"],
    "ladder.title": ["mine"],
    "ladder.base.spec.depths": ["[1,1,1,1]"],
    "spec.depths": ["[1,1,1,1]", "[1]"],
    "spec.act": ["gelu", "tanh"],
    "spec.nope": ["1"],
    "engine.threads": ["2", "null"],
    "wandb": ["{mode: disabled}"],
    "wandb.mode": ["disabled"],
    "nope": ["1"],
}
OVERRIDES = st.lists(st.sampled_from(sorted(VALUES)), max_size=5, unique=True).flatmap(
    lambda keys: st.tuples(*(st.sampled_from([f"{key}={value}" for value in VALUES[key]]) for key in keys))
)


@pytest.fixture(scope="module")
def loader() -> Iterator[Any]:
    register_schema()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def master(given: Sequence[str] = ()) -> DictConfig:
    """The config that a sweeper is set up with."""
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    return hydra.compose_config("train", list(given), run_mode=RunMode.MULTIRUN, with_log_configuration=False)


@pytest.fixture(scope="module")
def composer(loader: Any) -> Composer:
    """One for all examples: what it remembers must not leak from one into the next."""
    return Composer(loader, master())


def outcome(what: Any) -> Any:
    try:
        return what()
    except Exception as error:  # whatever it is, both ways must end in it
        return type(error), str(error)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(overrides=OVERRIDES)
def test_the_same_as_full_composition(loader: Any, composer: Composer, overrides: tuple[str, ...]) -> None:
    def both(config: DictConfig) -> Any:
        about = OmegaConf.to_yaml(config), OmegaConf.is_struct(config), OmegaConf.get_type(config)
        return about, outcome(lambda: resolve(config))

    def in_full() -> Any:
        config = loader.load_sweep_config(composer.master, list(overrides))
        with open_dict(config):
            del config["hydra"]
        return both(config)

    expected = outcome(in_full)
    assert outcome(lambda: both(composer.config(overrides))) == expected
    # a config that can't be composed fails with Hydra's words, a run that can't be with ours
    failed = isinstance(expected[0], type)
    assert outcome(lambda: composer.run(overrides)) == (expected if failed else expected[1])


def test_a_grid_costs_one_composition_for_each_choice_of_groups(loader: Any) -> None:
    composer = Composer(loader, master())
    runs = {
        composer.run((f"recipe={recipe}", f"rung={rung}", f"seed={seed}")).label
        for recipe in ("digits", "cifar")
        for rung in range(13)
        for seed in range(20)
    }
    assert len(runs) == 2 * 13 * 20
    assert composer.full_compositions == 2


@pytest.mark.parametrize("text", ["F/fold${seed}", "F/fold$\\{seed\\}", "'F/fold${seed}'", "F/${study}"])
def test_a_value_that_refers_to_the_seed_is_that_of_each_seed(loader: Any, text: str) -> None:
    """Hydra hands a reference of a sweep over with backslashes."""
    composer = Composer(loader, master())
    for key, read in (("data.root", lambda run: run.data.root), ("runs_dir", lambda run: run.runs_dir)):
        jobs = [("rung=0", f"seed={seed}", "study=s${seed}", f"{key}={text}") for seed in (0, 1, 0)]
        found = [read(composer.run(job)) for job in jobs]
        assert found == [read(resolve(composer.config(job))) for job in jobs]
        assert found[0] == found[2] != found[1]


def test_a_job_has_nothing_of_the_one_before(loader: Any) -> None:
    composer, fresh = Composer(loader, master()), Composer(loader, master())
    jobs = [
        *(("rung=gelu", f"recipe.epochs={value}") for value in ("3", "x", "null", "4")),
        *(("rung=gelu", f"data.root={value}") for value in ("here", "null", "${runs_dir}", "there")),
        *((f"spec.depths={value}",) for value in ("[1,1,1,1]", "[1]", "null", "[2,1,1,1]", "[{a: 1}]", "[1,1,1,2]")),
        *((f"recipe.betas={value}",) for value in ("[0.9,0.95]", "[0.9]", "null", "[0.8,0.9]")),
        *(("rung=gelu", f"ladder.title={value}") for value in ("one", "null", "two")),
        *(("rung=99",), ("rung=3",), ("rung=[gelu]",), ("rung=null",), ()),
        *(("steps=null", "rung=gelu"), ("steps=[gelu]", "rung=null"), ("steps=null", "rung=3")),
        *(("recipe={epochs: 3}",), ("recipe=cifar",), ("recipe.epochs=5",), ("~recipe.lr",), ("recipe.lr=1",)),
    ]
    for job in jobs:
        expected = outcome(lambda job=job: resolve(fresh.config(job)))
        assert outcome(lambda job=job: composer.run(job)) == expected, job
