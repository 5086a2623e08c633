"""Owns nothing: hands ladder.launch's classes to Hydra, which accepts plugins from the namespace hydra_plugins only."""

from __future__ import annotations

from ladder.launch import local, sweeper


class LocalLauncher(local.LocalLauncher):
    """hydra/launcher=local."""


class StudySweeper(sweeper.StudySweeper):
    """hydra/sweeper=study."""
