"""Owns the moment of registering our models with timm: right after timm is imported, never by importing it.

timm takes seconds to import, and half of our commands (tables, charts, status) do not need it.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class _AfterTimm(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds timm as Python would, runs it, then runs `then` once."""

    def __init__(self, then: Callable[[], object]) -> None:
        self.then = then
        self.inner: importlib.abc.Loader | None = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "timm":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None:
            self.inner, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        assert self.inner is not None
        return self.inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert self.inner is not None and module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self.inner
        self.inner.exec_module(module)
        self.then()


def when_timm_is_imported(then: Callable[[], object]) -> None:
    """Call `then` now if timm is imported, else as soon as it is."""
    if "timm" in sys.modules:
        then()
    else:
        sys.meta_path.insert(0, _AfterTimm(then))


@contextlib.contextmanager
def without_wandb() -> Iterator[None]:
    """Within the block, `import wandb` fails: timm imports it (for a helper of its own train.py) and then does without.

    For processes of ours that train: they import W&B when tracking begins, in its thread, or never.
    """
    absent = "wandb" not in sys.modules
    if absent:
        sys.modules["wandb"] = None  # type: ignore[assignment]  # Python's own way to block an import
    try:
        yield
    finally:
        if absent:
            del sys.modules["wandb"]
