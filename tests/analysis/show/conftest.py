"""Owns what the tests of a view and of a report in W&B share: a server, and what there is to show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from wandb_server import KEY, Server

from analysis.report import Contents, gather


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A W&B server of one project, me/proj, that this process is logged in to."""
    with Server("me", "proj", []) as running:
        monkeypatch.setenv("WANDB_BASE_URL", running.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield running


@pytest.fixture
def contents(make_study: Callable[..., Any]) -> Contents:
    """What is shown of a study of three rungs and two seeds, with a run that failed."""
    study = make_study("mine").chain(seeds=(0, 1), rungs=("resnet", "stage_ratio", "gelu"))
    study.run("kernel_7", 0, state="failed", error="loss is nan *here*")
    return gather(study.root)
