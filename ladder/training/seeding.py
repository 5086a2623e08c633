"""Owns randomness: every draw is a pure function of (seed, epoch, step, ...), so resuming needs no replay."""

from __future__ import annotations

import numpy as np
import torch


def mix_seed(*parts: int) -> int:
    """63 well-mixed bits from whole numbers (numpy's SeedSequence), different for every different tuple."""
    return int(np.random.SeedSequence([p & 0xFFFFFFFF for p in parts]).generate_state(1, np.uint64)[0] >> 1)


def seed_torch(*parts: int) -> None:
    """Seed torch's global generators, of the CPU and of GPUs, without waiting for a GPU."""
    torch.manual_seed(mix_seed(*parts))
