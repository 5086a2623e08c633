"""Owns nothing: hands ladder.launch's classes to Hydra, which accepts plugins from the namespace hydra_plugins only."""

from __future__ import annotations

from ladder.launch import local, ray, slurm, sweeper


class LocalLauncher(local.LocalLauncher):
    """hydra/launcher=local."""


class RayLauncher(ray.RayLauncher):
    """hydra/launcher=ray."""


class SlurmLauncher(slurm.SlurmLauncher):
    """hydra/launcher=slurm."""


class StudySweeper(sweeper.StudySweeper):
    """hydra/sweeper=study."""
